"""`-o xml`: connections, events and expectations as conntrack(8) 1.4.7 prints them, one element a line.

Source: __snprintf_conntrack_xml and __snprintf_expect_xml of libnetfilter_conntrack. One difference: an SCTP state has
its SCTP name; the library prints the TCP state of the same number.
"""

import time
from collections.abc import Mapping
from typing import Any, Final
from xml.sax.saxutils import escape

from conntrackd_py.cli.conntrack.format import FAMILY_NUMBERS, KEYS, NO_NAMES

Fields = Mapping[str, Any]

HEADER: Final = '<?xml version="1.0" encoding="utf-8"?>'
PORTS: Final = ("sport", "dport")


def connection_xml(ct: Fields, output: frozenset[str], labels: Mapping[int, str] = NO_NAMES, use: int = 1) -> str:
    """One connection of a listing."""
    return f"<flow>{_flow(ct, output, labels, counters=True, mark=True, state=True, use=use)}</flow>"


def event_xml(event: Fields, output: frozenset[str], labels: Mapping[int, str] = NO_NAMES) -> str:
    """One event. It has the same parts as a line: see format.py."""
    over = event["event"] == "DESTROY"
    changed = event["changed"]
    body = _flow(
        event,
        output,
        labels,
        counters=over,
        mark=bool(event["mark"]) or "mark" in changed,
        state=over or "protoinfo" in changed,
        use=0,
    )
    when = _when(event["time"]) if "timestamp" in output else ""
    return f'<flow type="{event["event"].lower()}">{body}{when}</flow>'


def _flow(
    ct: Fields, output: frozenset[str], labels: Mapping[int, str], *, counters: bool, mark: bool, state: bool, use: int
) -> str:
    parts = [_direction(ct, "original", ct["orig"], counters), _direction(ct, "reply", ct["reply"], counters)]
    known = []
    if state and "state" in ct:
        known.append(_tag("state", ct["state"]))
    if ct["timeout"] or ct.get("event") != "DESTROY":
        known.append(_tag("timeout", ct["timeout"]))
    if mark:
        known.append(_tag("mark", ct["mark"]))
    if "zone" in ct:
        known.append(_tag("zone", ct["zone"]))
    if use:
        known.append(_tag("use", use))
    known.append(_tag("id", ct["id"]))
    if "ASSURED" in ct["status"]:
        known.append("<assured/>")
    if "SEEN_REPLY" not in ct["status"]:
        known.append("<unreplied/>")
    if "labels" in output and ct.get("labels") and {"new", "label"} & set(ct.get("changed", ["new"])):
        known.append(_tag("labels", "".join(_tag("label", labels.get(bit, str(bit))) for bit in ct["labels"])))
    if "event" not in ct or ct["event"] == "DESTROY":
        known += _times(ct, output)
    helper = _tag("helper", escape(ct["helper"])) if "helper" in ct else ""
    return "".join(parts) + f'<meta direction="independent">{"".join(known)}</meta>{helper}'


def _direction(ct: Fields, name: str, side: Fields, counters: bool) -> str:
    layer4 = "".join(_tag(key, side[key]) for key in PORTS if key in side)
    layer4 += "".join(_tag(key, f"{side[key]:#x}") for key in KEYS if key in side)
    parts = [_layer3(ct["family"], _addresses(side)), _layer4(ct, layer4)]
    if "zone" in side:
        parts.append(_tag("zone", side["zone"]))
    if counters and "packets" in side:
        parts.append(_tag("counters", _tag("packets", side["packets"]) + _tag("bytes", side["bytes"])))
    return f'<meta direction="{name}">{"".join(parts)}</meta>'


def _layer3(family: str, inside: str) -> str:
    return f'<layer3 protonum="{FAMILY_NUMBERS[family]}" protoname="{family}">{inside}</layer3>'


def _layer4(known: Fields, inside: str) -> str:
    return f'<layer4 protonum="{known["protonum"]}" protoname="{known["proto"]}">{inside}</layer4>'


def _addresses(side: Fields) -> str:
    return _tag("src", side["src"]) + _tag("dst", side["dst"])


def _times(ct: Fields, output: frozenset[str]) -> list[str]:
    if "start" not in ct:
        return []
    parts = []
    if "ktimestamp" in output:
        marks = "".join(_tag(key, round(ct[key] * 1e6) * 1000) for key in ("start", "stop") if key in ct)
        parts.append(_tag("timestamp", marks))
    lasted = int(ct.get("stop", time.time())) - int(ct["start"])
    return [*parts, _tag("deltatime", max(lasted, 0))]


def _when(at: float) -> str:
    t = time.localtime(at)
    wday = t.tm_wday + 1  # the library counts from Sunday, 1
    parts = (
        ("hour", t.tm_hour),
        ("min", f"{t.tm_min:02}"),
        ("sec", f"{t.tm_sec:02}"),
        ("wday", wday % 7 + 1),
        ("day", t.tm_mday),
        ("month", t.tm_mon),
        ("year", t.tm_year),
    )
    return _tag("when", "".join(_tag(name, value) for name, value in parts))


def expectation_xml(known: Fields) -> str:
    parts = ("expected", "tuple"), ("mask", "mask"), ("master", "master")
    layer3 = "".join(_tag(name, _addresses(known[key])) for name, key in parts)
    layer4 = "".join(
        _tag(name, "".join(_tag(at, known[key][at]) for at in PORTS if at in known[key])) for name, key in parts
    )
    meta = _tag("helper-name", escape(known["helper"])) if "helper" in known else ""
    meta += _tag("timeout", known["timeout"]) + _tag("class", known["class"])
    if "zone" in known:
        meta += _tag("zone", known["zone"])
    kind = f' type="{known["event"].lower()}"' if "event" in known else ""
    return f"<flow{kind}>{_layer3(known['family'], layer3)}{_layer4(known, layer4)}{_tag('meta', meta)}</flow>"


def _tag(name: str, inside: object) -> str:
    return f"<{name}>{inside}</{name}>"
