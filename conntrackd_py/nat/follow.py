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
from conntrackd_py.nat.binding import inverted
from conntrackd_py.nat.core import Nat
from conntrackd_py.nat.range import Range


def follow_master(nat: Nat, ct: NfConn, expected: Expectation, port: int = 0) -> None:
    """Bind a new ct. Without a free tuple it stays unbound for the rules. port: which its source announced, or 0."""
    master, direction = expected.master, expected.direction
    path = master.tuple(1 - direction)
    outside, host = tuples.dst(path), tuples.src(path)
    if not expected.flags & KEEPS_SOURCE or tuples.src(ct.original) == tuples.src(master.tuple(direction)):
        announced = port != 0 and _bind(nat, ct, Range(outside, outside, port, port), MANIP_SRC)
        if not announced and not _bind(nat, ct, Range(outside, outside), MANIP_SRC):
            return
    if not _bind(nat, ct, Range(host, host, expected.port, expected.port), MANIP_DST):
        return
    if ct.status & IPS_SRC_NAT and direction == ORIGINAL:
        ct.masquerade = master.masquerade  # it ends with the same address
        nat.port_usage.add(ct, None)


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
