"""An expected connection is translated as its master, whatever the rules say (nf_nat_follow_master).

Its source becomes the address that the master's sender has outside, with the port that this end announced, if it did.
Its destination becomes the master's host and the port that this host announced. Source: nf_nat_sip_expected.
"""

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.conntrack.expect import KEEPS_SOURCE, Expectation
from conntrackd_py.const import (
    IPS_DST_NAT,
    IPS_DST_NAT_DONE,
    IPS_SRC_NAT,
    IPS_SRC_NAT_DONE,
    MANIP_DST,
    MANIP_SRC,
    ORIGINAL,
)
from conntrackd_py.nat.binding import info_of, inverted, range_of
from conntrackd_py.nat.core import Nat
from conntrackd_py.nat.range import Range


def follow_master(nat: Nat, ct: NfConn, expected: Expectation, port: int = 0) -> None:
    """Bind a new ct. Without a free tuple it stays unbound for the rules. port: which its source announced, or 0."""
    master, direction = expected.master, expected.direction
    if expected.calls:
        _bind_call(nat, ct, expected)
        return
    path = master.tuple(1 - direction)
    outside, host = tuples.dst(path), tuples.src(path)
    if not expected.flags & KEEPS_SOURCE or tuples.src(ct.original) == tuples.src(master.tuple(direction)):
        allotted = ports_allotted(nat, master) if direction == ORIGINAL else None
        announced = port != 0 and _bind(nat, ct, Range(outside, outside, port, port), MANIP_SRC)
        if not announced and not _bind(nat, ct, allotted or Range(outside, outside), MANIP_SRC):
            return
    if not _bind(nat, ct, Range(host, host, expected.port, expected.port), MANIP_DST):
        return
    _keep(nat, ct, expected)


def _keep(nat: Nat, ct: NfConn, expected: Expectation) -> None:
    if nat.blocks.active:
        nat.blocks.hold(ct)
    if ct.status & IPS_SRC_NAT and expected.direction == ORIGINAL:
        ct.masquerade = expected.master.masquerade  # it ends with the same address
        nat.port_usage.add(ct, None)


def ports_allotted(nat: Nat, master: NfConn) -> Range | None:
    """The outer ports for connections of the host of a master: its block, or its slice; None: any port.

    The block of the master, because it is there as long as the master.
    """
    block = nat.blocks.of(master)
    if block is not None:
        return Range(block.outer, block.outer, block.low, block.high)
    if not nat.rules.deterministic or not master.status & IPS_SRC_NAT:
        return None
    now = inverted(master.reply, master.l4proto)
    before = tuples.with_src(now, tuples.src(master.original), tuples.l4src(master.original))
    rule = nat.rules.source(info_of(master, before), master.oif)
    return range_of(rule, nat.interfaces, master.oif, before) if rule is not None and rule.deterministic else None


def call_outside(expected: Expectation) -> bytes:
    """The tuple of the packets of an expected call behind the router; `port` is the call id there (pptp_exp_gre)."""
    path, l4 = expected.master.tuple(1 - expected.direction), tuples.l4(expected.tuple)
    if not expected.follows:
        return expected.tuple
    number = expected.port.to_bytes(2, "big")
    l4 = number + l4[2:] if expected.direction == ORIGINAL else l4[:2] + number
    t = tuples.make(tuples.dst(path) + tuples.src(path), l4, tuples.protonum(expected.tuple))
    return tuples.with_zone(t, tuples.zone(path))


def _bind_call(nat: Nat, ct: NfConn, expected: Expectation) -> None:
    """Both ends and the call id of GRE at once."""
    chosen = call_outside(expected)
    if nat.ports.used(chosen, ct):
        return
    if chosen != ct.original:
        nat.core.table.alter_reply(ct, inverted(chosen, ct.l4proto))
        before = ct.original
        if tuples.source_key(chosen) != tuples.source_key(before):
            ct.status |= IPS_SRC_NAT
        if tuples.destination_key(chosen, False) != tuples.destination_key(before, False):
            ct.status |= IPS_DST_NAT
    ct.status |= IPS_SRC_NAT_DONE | IPS_DST_NAT_DONE
    _keep(nat, ct, expected)


def _bind(nat: Nat, ct: NfConn, wanted: Range, manip: int) -> bool:
    current = inverted(ct.reply, ct.l4proto)
    chosen = nat.ports.unique(current, wanted, ct, manip)
    if not chosen:
        return False
    if chosen != current:
        nat.core.table.alter_reply(ct, inverted(chosen, ct.l4proto))
        ct.status |= IPS_SRC_NAT if manip == MANIP_SRC else IPS_DST_NAT
    ct.status |= IPS_SRC_NAT_DONE if manip == MANIP_SRC else IPS_DST_NAT_DONE
    return True
