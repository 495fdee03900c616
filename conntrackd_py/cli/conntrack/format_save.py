"""`-o save`: a connection as the command that creates it. -R of this program and of conntrack(8) reads it.

Source: the output of conntrack(8) 1.4.7. As there, mark and labels are left out, and SCTP tags are in host byte order.
EXPECTED is left out: no command can set it.
"""

from collections.abc import Mapping
from socket import htonl
from typing import Any, Final

from conntrackd_py.const import IPPROTO_DCCP, IPPROTO_ICMPV6, PROTO_NAMES

Fields = Mapping[str, Any]

STATUSES: Final = ("SEEN_REPLY", "ASSURED", "FIXED_TIMEOUT")
COMMANDS: Final = {"NEW": "-A", "UPDATE": "-U", "DESTROY": "-D"}


def save_line(ct: Fields, command: str = "-A") -> str:
    words = [command, "-t", str(ct["timeout"]), "-u"]
    words.append(",".join(flag for flag in STATUSES if flag in ct["status"]) or "UNSET")
    words += _zones(ct)
    orig, reply = ct["orig"], ct["reply"]
    words += ["-s", orig["src"], "-d", orig["dst"]]
    words += ["-g" if _translated(ct, "DST", reply["src"], orig["dst"]) else "-r", reply["src"]]
    words += ["-n" if _translated(ct, "SRC", reply["dst"], orig["src"]) else "-q", reply["dst"]]
    words += ["-p", PROTO_NAMES.get(ct["protonum"], str(ct["protonum"]))]
    words += _layer4(ct)
    if "state" in ct:
        words += ["--state", ct["state"]]
    if "vtag" in orig:
        words += ["--orig-vtag", str(htonl(orig["vtag"])), "--reply-vtag", str(htonl(reply["vtag"]))]
    return " ".join(words)


def _translated(ct: Fields, side: str, now: str, before: str) -> bool:
    return f"{side}_NAT_DONE" in ct["status"] and now != before


def _zones(ct: Fields) -> list[str]:
    if "zone" in ct:
        return ["-w", str(ct["zone"])]
    words = []
    for key, name in (("orig", "--orig-zone"), ("reply", "--reply-zone")):
        if "zone" in ct[key]:
            words += [name, str(ct[key]["zone"])]
    return words


def _layer4(ct: Fields) -> list[str]:
    orig, reply = ct["orig"], ct["reply"]
    if "type" in orig:
        name = "icmpv6" if ct["protonum"] == IPPROTO_ICMPV6 else "icmp"
        return [word for key in ("type", "code", "id") for word in (f"--{name}-{key}", str(orig[key]))]
    if "srckey" in orig:
        return _pairs(orig, reply, ("--srckey", "--dstkey", "--reply-key-src", "--reply-key-dst"), ("srckey", "dstkey"))
    if "sport" in orig and ct["protonum"] != IPPROTO_DCCP:
        return _pairs(orig, reply, ("--sport", "--dport", "--reply-port-src", "--reply-port-dst"), ("sport", "dport"))
    return []


def _pairs(orig: Fields, reply: Fields, names: tuple[str, ...], keys: tuple[str, str]) -> list[str]:
    values = [str(side[key]) for side in (orig, reply) for key in keys]
    return [word for pair in zip(names, values, strict=True) for word in pair]
