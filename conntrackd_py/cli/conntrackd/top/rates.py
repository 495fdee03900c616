"""A frame: the rates between two answers to `top`. `conntrackd-py top` shows it, `--json` prints it.

Keys are only added, never renamed. A key is absent if its value is unknown or accounting is off.

    interval                       seconds between the two answers
    entries limit unconfirmed dying offload{} accounting states{} unpooled
    growth_per_second [seconds_to_full]   of the table; seconds_to_full only while it grows and has a limit
    created_per_second
    ended_per_second{} invalid_per_second{} ignored_per_second{} dropped_per_second{}      by reason, without zeros
    hooks{pre_routing: {packets_per_second bytes_per_second dropped_per_second}, local_in, local_out, post_routing}
    hosts[{address connections [created_per_second]
           [packets sent_bytes received_bytes packets_per_second sent_bytes_per_second received_bytes_per_second]}]
    hosts_known other_connections  number of hosts; connections of hosts beyond the limit of the statistics
    pools[]                        as in `conntrackd-py status --json`

Connections are counted for the host that opened them; sent is the original direction. dropped_per_second has the
engine's reasons, and packets that the kernel dropped before the daemon: new_refused (the queue of new connections was
full), kernel_queue_full (another queue), kernel_socket_full. In mode observe it has copies_lost: copies that the kernel
dropped; their packets passed.
"""

from collections.abc import Mapping
from typing import Any, Final

Fields = Mapping[str, Any]
Frame = dict[str, Any]

KEPT: Final = ("entries", "limit", "unconfirmed", "dying", "offload", "accounting", "states", "pools", "unpooled")
# name, counter of a queue, whether of the queue of new connections (None: of all)
KERNEL_DROPS: Final = (
    ("new_refused", "dropped", True),
    ("kernel_queue_full", "dropped", False),
    ("kernel_socket_full", "user_dropped", None),
)
MOVED: Final = {"packets": "packets", "sent": "sent_bytes", "received": "received_bytes"}


def frame(before: Fields, after: Fields, earliest: Fields | None = None) -> Frame:
    """The rates between two answers. earliest: an older answer, for the table's growth over a longer time."""
    span = max(after["clock"] - before["clock"], 1) / 1000
    made: Frame = {"interval": round(span, 3), **{key: after[key] for key in KEPT}}
    made.update(growth(earliest or before, after))
    made["created_per_second"] = per_second(before["created"], after["created"], span)
    for name in ("ended", "invalid", "ignored", "dropped"):
        made[f"{name}_per_second"] = by_name(before[name], after[name], span)
    made["dropped_per_second"].update(kernel_drops(before, after, span))
    made["hooks"] = {name: hook(before["hooks"][name], counts, span) for name, counts in after["hooks"].items()}
    period = after["counted"].get("period", 0) / 1000
    made["hosts"] = [host(fields, period) for fields in after["hosts"]]
    made["hosts_known"] = after["counted"]["hosts"]
    made["other_connections"] = after["counted"]["others"]
    return made


def per_second(before: int, after: int, span: float) -> float:
    """Never negative: a restarted daemon counts from zero."""
    return round(max(after - before, 0) / span, 3)


def by_name(before: Fields, after: Fields, span: float) -> dict[str, float]:
    rates = {name: per_second(before.get(name, 0), count, span) for name, count in after.items()}
    return {name: value for name, value in sorted(rates.items(), key=lambda pair: -pair[1]) if value}


def hook(before: Fields, after: Fields, span: float) -> dict[str, float]:
    both = before["accepted"] + before["dropped"], after["accepted"] + after["dropped"]
    return {
        "packets_per_second": per_second(*both, span),
        "bytes_per_second": per_second(before["bytes"], after["bytes"], span),
        "dropped_per_second": per_second(before["dropped"], after["dropped"], span),
    }


def kernel_drops(before: Fields, after: Fields, span: float) -> dict[str, float]:
    """Packets or copies that the kernel dropped before the daemon, also packets too long for the queue."""
    found = {}
    for name, key, new in KERNEL_DROPS:
        sums = [
            sum(queue[key] for queue in answer["queues"] if new is None or (queue["name"] == "new") is new)
            for answer in (before, after)
        ]
        if value := per_second(sums[0], sums[1], span):
            found[name] = value
    if value := per_second(before["copies"]["lost"], after["copies"]["lost"], span):
        found["copies_lost"] = value
    return found


def growth(before: Fields, after: Fields) -> Frame:
    span = max(after["clock"] - before["clock"], 1) / 1000
    value = (after["entries"] - before["entries"]) / span
    found: Frame = {"growth_per_second": round(value, 3)}
    if value > 0 and after["limit"]:
        found["seconds_to_full"] = round(max(after["limit"] - after["entries"], 0) / value, 1)
    return found


def host(fields: Fields, period: float) -> Frame:
    found: Frame = {"address": fields["address"], "connections": fields["connections"]}
    moved = fields.get("moved") if period > 0 else None
    if moved is not None:
        found["created_per_second"] = round(moved["connections"] / period, 3)
    for key, name in MOVED.items():
        if key in fields:
            found[name] = fields[key]
            if moved is not None:
                found[f"{name}_per_second"] = round(moved[key] / period, 3)
    return found
