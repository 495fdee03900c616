"""Lines as conntrack(8) 1.4.7 prints them, from the dicts of service.view.

Source: __snprintf_conntrack_default of libnetfilter_conntrack, and for what an event leaves out,
ctnetlink_conntrack_event: counters only at the end, the state only when it changed or at the end,
the mark only when there is one or it changed, a timeout of zero not at the end.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

Fields = Mapping[str, Any]

FAMILY_NUMBERS: Final = {"ipv4": 2, "ipv6": 10}
LAYER4: Final = ("sport", "dport", "type", "code", "id")
KEYS: Final = ("srckey", "dstkey")


def connection_line(ct: Fields, output: frozenset[str]) -> str:
    """One connection of a listing. output: of extended, id."""
    words = _head(ct, output, timeout=True, state=True)
    words += _tuples(ct, counters=True)
    words.append(f"mark={ct['mark']}")
    words += _zone(ct)
    words.append("use=1")
    if "id" in output:
        words.append(f"id={ct['id']}")
    return " ".join(words)


def event_line(event: Fields, output: frozenset[str]) -> str:
    """One event. output: of extended, id, timestamp."""
    kind = event["event"]
    over = kind == "DESTROY"
    changed = event["changed"]
    words = _head(event, output, timeout=not over or event["timeout"] > 0, state=over or "protoinfo" in changed)
    words += _tuples(event, counters=over)
    if event["mark"] or "mark" in changed:
        words.append(f"mark={event['mark']}")
    words += _zone(event)
    if "id" in output:
        words.append(f"id={event['id']}")
    stamp = f"[{event['time']:<10.6f}]\t" if "timestamp" in output else ""
    return f"{stamp}{f'[{kind}]':>9} {' '.join(words)}"


def json_line(described: Fields) -> str:
    return json.dumps(described, separators=(",", ":"))


def stats_line(row: Fields) -> str:
    """One worker's counters; the blank at the end is conntrack(8)'s."""
    counters = "".join(f"{name}={value} " for name, value in row.items() if name != "cpu")
    return f"cpu={row['cpu']:<4}\t{counters}"


def _head(ct: Fields, output: frozenset[str], timeout: bool, state: bool) -> list[str]:
    words = []
    if "extended" in output:
        words.append(f"{ct['family']:<8} {FAMILY_NUMBERS[ct['family']]}")
    words.append(f"{ct['proto']:<8} {ct['protonum']}")
    if timeout:
        words.append(str(ct["timeout"]))
    if state and "state" in ct:
        words.append(ct["state"])
    return words


def _tuples(ct: Fields, counters: bool) -> list[str]:
    status = ct["status"]
    words = _direction(ct["orig"], counters, "zone-orig")
    if "SEEN_REPLY" not in status:
        words.append("[UNREPLIED]")
    words += _direction(ct["reply"], counters, "zone-reply")
    for flag in ("HW_OFFLOAD", "OFFLOAD", "ASSURED"):
        if flag in status:
            words.append(f"[{flag}]")
            break
    return words


def _zone(ct: Fields) -> list[str]:
    return [f"zone={ct['zone']}"] if "zone" in ct else []


def _direction(side: Fields, counters: bool, zone: str) -> list[str]:
    words = [f"src={side['src']}", f"dst={side['dst']}"]
    words += [f"{name}={side[name]}" for name in LAYER4 if name in side]
    words += [f"{name}={side[name]:#x}" for name in KEYS if name in side]
    if side.get("zone"):
        words.append(f"{zone}={side['zone']}")
    if counters and "packets" in side:
        words += [f"packets={side['packets']}", f"bytes={side['bytes']}"]
    return words
