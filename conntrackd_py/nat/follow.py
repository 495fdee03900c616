"""An expected connection is translated as its master, whatever the rules say (nf_nat_follow_master).

Its source becomes the address that the master's sender has outside; its destination becomes the master's host and the
port that this host announced.
"""

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.conntrack.expect import Expectation
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


def follow_master(nat: Nat, ct: NfConn, expected: Expectation) -> None:
    """Bind a new ct. Without a free tuple it stays unbound for the rules."""
    master, direction = expected.master, expected.direction
    path = master.tuple(1 - direction)
    source = Range(tuples.dst(path), tuples.dst(path))
    target = Range(tuples.src(path), tuples.src(path), expected.port, expected.port)
    for manip, wanted in ((MANIP_SRC, source), (MANIP_DST, target)):
        current = inverted(ct.reply, ct.l4proto)
        chosen = nat.ports.unique(current, wanted, ct, manip)
        if not chosen:
            return
        if chosen != current:
            nat.core.table.alter_reply(ct, inverted(chosen, ct.l4proto))
            ct.status |= IPS_SRC_NAT if manip == MANIP_SRC else IPS_DST_NAT
        ct.status |= IPS_SRC_NAT_DONE if manip == MANIP_SRC else IPS_DST_NAT_DONE
    if ct.status & IPS_SRC_NAT and direction == ORIGINAL:
        ct.masquerade = master.masquerade  # it ends with the same address
        nat.port_usage.add(ct, None)
