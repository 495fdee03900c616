"""Connection tracking and NAT for a Linux router, in userspace.

Each room imports only from the rooms before it; tests/test_layering.py enforces it.

    const      kernel numbers and names
    reasons    why a packet was refused, why a connection ended
    wire       bytes <-> fields
    conntrack  tuples, connections, the table, expectations, events
    match      what a rule compares a packet with
    proto      one tracker a protocol          } these three
    nat        rules, ports, rewriting         } never import
    filter     ct expressions and policy       } each other
    explain    what answers why: refusals, hints, sentences, host statistics
    engine     hooks in order: packet and time in, verdict out
    settings   the configuration file
    kernel     packet queues, addresses, steering rules
    control    the control socket: protocol, server, client
    service    the daemon: reload, metrics, logs, systemd
    lab        namespaces and traffic
    cli        the commands conntrack-py and conntrackd-py

Everything up to engine is free of I/O, clocks and randomness, and is compiled by mypyc (setup.py); so are batch and
packet_message of kernel.
"""

from typing import Final

__version__: Final = "0.1.0"

from conntrackd_py._build import check_required, is_compiled

compiled: Final = is_compiled()
check_required(compiled)
