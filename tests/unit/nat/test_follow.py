"""An expected connection is bound as its master; conversations/test_ftp.py has the ways of the packets."""

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.conntrack.expect import Expectation
from conntrackd_py.const import IPS_DST_NAT, IPS_NAT_DONE_MASK, IPS_NAT_MASK, IPS_SRC_NAT, ORIGINAL, REPLY
from conntrackd_py.nat.core import Nat
from conntrackd_py.nat.follow import follow_master
from tests.support.core import core_with
from tests.support.packets import address

INSIDE, ROUTER, SERVER = (address(text) for text in ("192.168.1.2", "203.0.113.1", "198.51.100.2"))


def made(nat: Nat, source: bytes, target: bytes, port: int) -> NfConn:
    t = tuples.make(source + target, b"\0\x14" + port.to_bytes(2, "big"), 6)
    ct = NfConn(t, tuples.swapped(t, tuples.l4(t)[2:] + tuples.l4(t)[:2]), nat.core.protos[6], 0)
    nat.core.table.allocate(ct)
    return ct


def expectation(nat: Nat, direction: int, port: int) -> Expectation:
    """Of a master from inside to the server, with the address of the router."""
    master = made(nat, INSIDE, SERVER, 21)
    nat.core.table.alter_reply(master, tuples.with_dst(master.reply, ROUTER, tuples.l4(master.reply)))
    known = Expectation(master, master.reply, b"\xff" * len(master.reply), 0)
    known.follows, known.direction, known.port = True, direction, port
    return known


def test_towards_the_client() -> None:
    nat = Nat(core_with(), [], True)
    known = expectation(nat, REPLY, 5001)
    ct = made(nat, SERVER, ROUTER, 9999)
    follow_master(nat, ct, known)
    assert (tuples.src(ct.reply), tuples.l4src(ct.reply), tuples.dst(ct.reply)) == (INSIDE, 5001, SERVER)
    assert ct.status & IPS_NAT_MASK == IPS_DST_NAT
    assert ct.status & IPS_NAT_DONE_MASK == IPS_NAT_DONE_MASK


def test_towards_the_server() -> None:
    nat = Nat(core_with(), [], True)
    known = expectation(nat, ORIGINAL, 30000)
    known.master.masquerade = True
    ct = made(nat, INSIDE, SERVER, 30000)
    follow_master(nat, ct, known)
    assert (tuples.src(ct.reply), tuples.l4src(ct.reply), tuples.dst(ct.reply)) == (SERVER, 30000, ROUTER)
    assert ct.status & IPS_NAT_MASK == IPS_SRC_NAT
    assert ct.masquerade
    assert len(nat.port_usage.outers) == 1
    nat.core.kill(ct, 0, 0)
    assert nat.port_usage.outers == {}


def test_a_first_packet_that_is_refused_leaves_no_port_in_use() -> None:
    nat = Nat(core_with(), [], True)
    ct = made(nat, INSIDE, SERVER, 30000)
    ct.status |= 1  # EXPECTED
    follow_master(nat, ct, expectation(nat, ORIGINAL, 30000))
    nat.core.discard(ct)
    assert nat.port_usage.outers == {}
