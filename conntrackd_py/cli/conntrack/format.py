"""Lines as conntrack(8) 1.4.7 prints them, from the dicts of control/view.py.

Source: __snprintf_conntrack_default and __snprintf_expect_default of libnetfilter_conntrack; for events
ctnetlink_conntrack_event: DESTROY has counters, state and times, but no timeout of 0; other events have the state and
labels only if they changed, labels also if NEW; the mark if it is set or changed.

One difference: a label without a name in connlabel.conf is shown by its number; conntrack(8) omits it.
"""

import json
import time
from collections.abc import Mapping
from typing import Any, Final

from conntrackd_py.control.escape import escaped

Fields = Mapping[str, Any]

FAMILY_NUMBERS: Final = {"ipv4": 2, "ipv6": 10}
LAYER4: Final = ("sport", "dport", "type", "code", "id")
KEYS: Final = ("srckey", "dstkey")
NO_NAMES: Final[Mapping[int, str]] = {}


def connection_line(ct: Fields, output: frozenset[str], labels: Mapping[int, str] = NO_NAMES, use: int = 1) -> str:
    """One connection of a listing. output: any of extended, id, ktimestamp, labels; labels: their names by bit.

    use: the reference count that conntrack(8) shows: 1 in a listing, 2 for -G and -U.
    """
    words = _head(ct, output, timeout=True, state=True)
    words += _tuples(ct, counters=True)
    words.append(f"mark={ct['mark']}")
    words += _zone(ct)
    words += _times(ct, output)
    words += _helper(ct)
    words.append(f"use={use}")
    if "id" in output:
        words.append(f"id={ct['id']}")
    words += _labels(ct, output, labels)
    return " ".join(words)


def event_line(event: Fields, output: frozenset[str], labels: Mapping[int, str] = NO_NAMES) -> str:
    """One event. output: as for connection_line, and timestamp."""
    kind = event["event"]
    over = kind == "DESTROY"
    changed = event["changed"]
    words = _head(event, output, timeout=not over or event["timeout"] > 0, state=over or "protoinfo" in changed)
    words += _tuples(event, counters=over)
    if event["mark"] or "mark" in changed:
        words.append(f"mark={event['mark']}")
    words += _zone(event)
    if over:
        words += _times(event, output)
    words += _helper(event)
    if "id" in output:
        words.append(f"id={event['id']}")
    if kind == "NEW" or "label" in changed:
        words += _labels(event, output, labels)
    return f"{_stamp(event['time'], output)}{f'[{kind}]':>9} {' '.join(words)}{origin(event)}"


def origin(event: Fields) -> str:
    """The process that requested the change, as conntrack(8) shows a netlink port; empty for packets and timeouts.

    The name is escaped, unlike in conntrack(8): a process can choose it.
    """
    if "userspace" not in event:
        return ""
    by = event["userspace"]
    program = f" progname={escaped(by['program'])}" if "program" in by else ""
    return f" [USERSPACE] portid={by['pid']}{program}"


def expectation_event_line(event: Fields, output: frozenset[str]) -> str:
    kind = f"[{event['event']}]"
    return f"{_stamp(event['time'], output)}{kind:>9} {_expectation(event)}{origin(event)}"


def expectation_line(known: Fields, output: frozenset[str]) -> str:
    """One expectation. output: only timestamp has an effect."""
    return _stamp(time.time(), output) + _expectation(known)


def _expectation(known: Fields) -> str:
    words = [str(known["timeout"]), f"proto={known['protonum']}"]
    words += _direction(known["tuple"], counters=False, zone="")
    mask, master = known["mask"], known["master"]
    words += [f"mask-src={mask['src']}", f"mask-dst={mask['dst']}", *_layer4(mask)]
    words += [f"master-src={master['src']}", f"master-dst={master['dst']}", *_layer4(master)]
    if known["flags"]:
        words.append(",".join(known["flags"]))
    words.append(f"class={known['class']}")
    return " ".join([*words, *_helper(known)])


def json_line(described: Fields) -> str:
    return json.dumps(described, separators=(",", ":"))


def stats_line(row: Fields) -> str:
    """The counters of one worker. The trailing blank is that of conntrack(8)."""
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


def _helper(known: Fields) -> list[str]:
    return [f"helper={escaped(known['helper'])}"] if "helper" in known else []


def _zone(ct: Fields) -> list[str]:
    return [f"zone={ct['zone']}"] if "zone" in ct else []


def _direction(side: Fields, counters: bool, zone: str) -> list[str]:
    words = [f"src={side['src']}", f"dst={side['dst']}", *_layer4(side)]
    if side.get("zone"):
        words.append(f"{zone}={side['zone']}")
    if counters and "packets" in side:
        words += [f"packets={side['packets']}", f"bytes={side['bytes']}"]
    return words


def _layer4(side: Fields) -> list[str]:
    words = [f"{name}={side[name]}" for name in LAYER4 if name in side]
    return words + [f"{name}={side[name]:#x}" for name in KEYS if name in side]


def _times(ct: Fields, output: frozenset[str]) -> list[str]:
    """Age or duration, from whole seconds of the clock as in the library; with ktimestamp start and stop."""
    if "start" not in ct:
        return []
    lasted = int(ct.get("stop", time.time())) - int(ct["start"])
    words = [f"delta-time={max(lasted, 0)}"]
    if "ktimestamp" in output:
        words += [f"[{key}={time.ctime(ct[key])}]" for key in ("start", "stop") if key in ct]
    return words


def _labels(ct: Fields, output: frozenset[str], names: Mapping[int, str]) -> list[str]:
    if "labels" not in output or not ct.get("labels"):
        return []
    return ["labels=" + ",".join(names.get(bit, str(bit)) for bit in ct["labels"])]


def _stamp(at: float, output: frozenset[str]) -> str:
    return f"[{at:<10.6f}]\t" if "timestamp" in output else ""
