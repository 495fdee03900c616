"""The protocol of the control socket: JSON lines over a unix socket. The daemon, both commands and the tests use it.

A request is one JSON object on one line, {"command": ..., and its arguments}: a class of requests.py. The answer is
lines; answers.py has their keys.

    list    table? filter? limit? zero?    {"ct": {...}} or {"expect": {...}} for each entry, then {"done": n}
    get     table? tuple                   {"ct": {...}} or {"expect": {...}}, then {"done": 1}
    create  table? ct | expect, exclusive? {"ct": {...}} or {"expect": {...}}, then {"done": 1}; {"done": 0}: it exists
    update  filter? set                    {"ct": {...}} for each after its change, with "failed": why if refused;
                                           then {"done": n}, without those refused
    delete  table? filter? | tuple         {"ct": {...}} or {"expect": {...}} for each entry, then {"done": n}
    flush   table? filter?                 {"done": n}
    count   table?                         {"count": n, "limit": n}
    stats   table?                         {"stats": [{"cpu": 0, "found": n, ...}]}
    recent  count? host? port? proto?      {"recent": {...}} for each refused packet, oldest first, then {"done": n}.
            reasons? follow?               follow: {"following": true}, then {"recent": {...}} for each, and
                                           {"not_shown": {...}} where some were not sent, until the client closes
    status, ping                           {"status": {...}}, {"pong": version}
    reload  flush_stale?                   {"reload": {...}}
    upgrade                                {"upgrade": {"pid": n}}: the successor, then the daemon ends
    steering step network                  {"steering": {...}} for each step: begin, trial?, done; {} for the rules of
                                           another network namespace
    top     hosts? sort? family?           {"top": {...}}
    export  filter?                        {"export": {...}}, then {"connection": {...}} for each, then {"done": n}
    import  connections replace?           {"import": [[outcome, why], ...]}: one for each connection
    sync    step? stale?                   {"sync": {...}}: of the hot standby; step: status, takeover, standby
    events  table? mask? filter? buffer?   {"buffer": n}: events the queue holds; then {"event": {...}} for each, and
                                           {"lost": n} where n events were dropped, until the client closes

{"error": text} answers a request that is wrong or cannot be carried out; the connection stays open.
"""
