"""[[raw]] and [[connmark]] tables, and the errors."""

import tomllib

import pytest

from conntrackd_py.const import FORWARD, LOCAL_OUT, PRE_ROUTING
from conntrackd_py.engine.raw_mangle import MarkRule
from conntrackd_py.settings.errors import ConfigError
from conntrackd_py.settings.load import parse
from conntrackd_py.settings.schema import RawSpec, Settings


def settings(text: str) -> Settings:
    return parse(tomllib.loads(text), "FILE")


def raw(text: str) -> RawSpec:
    return settings(f"[[raw]]\n{text}").raw[0]


def connmark(text: str) -> MarkRule:
    return settings(f"[[connmark]]\n{text}").connmark[0]


def test_raw_rules() -> None:
    assert raw("notrack = true").notrack
    one = raw('in_interface = "lan+"\nzone = 7')
    assert (one.zone_orig, one.zone_reply) == (7, 7)
    assert one.match.in_interface is not None
    assert (raw("zone_orig = 9").zone_orig, raw("zone_orig = 9").zone_reply) == (9, 0)
    assert raw("timeouts = { nf_conntrack_udp_timeout = 5 }").timeouts == (("nf_conntrack_udp_timeout", 5),)
    assert raw('zone = 1\ntcp_tracker = "rfc7857"').tcp_tracker == "rfc7857"


def test_mark_rules() -> None:
    assert (connmark('set = "0x10/0xff"').value, connmark('set = "0x10/0xff"').mask) == (0x10, 0xFF)
    assert (connmark("set = 3").value, connmark("set = 3").mask) == (3, 0xFFFFFFFF)
    assert connmark("save = true").mask == 0xFFFFFFFF
    assert connmark("restore = 0xff").mask == 0xFF
    assert connmark("label = 5").value == 1 << 5
    assert connmark("restore = true").hooks == (PRE_ROUTING, LOCAL_OUT)
    assert connmark('hooks = ["forward"]\nct = "state new"\nset = 1').hooks == (FORWARD,)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[[raw]]\nzone = 65536", "FILE: raw[0].zone = 65536: must be between 0 and 65535"),
        ('[[raw]]\nct = "state new"\nnotrack = true', "matches before the packet has a connection"),
        ("[[raw]]\nnotrack = true\nzone = 1", "FILE: raw[0].zone = 1: has no effect together with notrack"),
        ('[[raw]]\nproto = "tcp"', "does nothing"),
        ("[[raw]]\ntimeouts = { nf_conntrack_udp_timeot = 5 }", "did you mean nf_conntrack_udp_timeout?"),
        ("[[raw]]\ntimeouts = { nf_conntrack_udp_timeout = 0 }", "must be a number of seconds"),
        ("[[raw]]\nzoen = 1\nnotrack = true", "did you mean zone?"),
        ("[[connmark]]\nset = 1\nsave = true", "exactly one"),
        ('[[connmark]]\nproto = "tcp"', "exactly one of set, save, restore, label is required"),
        ('[[connmark]]\nset = "x"', "must be a 32-bit number"),
        ('[[connmark]]\nhooks = ["prerouting", "forwad"]\nset = 1', "did you mean forward?"),
        ("[[connmark]]\nlabel = 128", "must be between 0 and 127"),
        ("[raw]\nzone = 1", "must be [[raw]] tables"),
        ('tcp_tracker = "rfc7858"', "FILE: tcp_tracker"),
    ],
)
def test_mistakes(text: str, why: str) -> None:
    with pytest.raises(ConfigError) as caught:
        settings(text)
    assert why in str(caught.value)
