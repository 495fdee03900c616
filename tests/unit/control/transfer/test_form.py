"""The line of a connection and its record say the same."""

from __future__ import annotations

import pytest
from msgspec.json import Decoder, Encoder

from conntrackd_py.conntrack.conn import NO_INTERFACE, NfConn
from conntrackd_py.conntrack.records import record
from conntrackd_py.conntrack.records.record import Help
from conntrackd_py.conntrack.seqadj import SeqAdj
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import IPS_EXPECTED, IPS_FIXED_TIMEOUT, IPS_HELPER, IPS_OFFLOAD, IPS_SEQ_ADJUST
from conntrackd_py.control.protocol.requests import RequestError
from conntrackd_py.control.transfer.form import UNKNOWN, Connection, form, packed
from conntrackd_py.engine.engine import Engine
from conntrackd_py.engine.takeover.restore import Origin, Restore
from tests.support import packets
from tests.support.router import Router
from tests.unit.control.transfer.test_transfer import INIT


def rfc7857() -> Router:
    router = Router()
    router.engine.configure(Tunables(), tcp_tracker="rfc7857")
    return router


def connections(router: Router) -> dict[str, NfConn]:
    router.engine.core.accounting = True
    router.engine.names.update({1: "lan0", 2: "wan0"})
    made = {
        "tcp": router.established(),
        "syn": router.syn(2000),
        "udp": router.udp_answered(),
        "sctp": router.forward(INIT),
        "gre": router.other(47),
        "esp": router.other(50),
        "ping": router.forward(packets.icmp("10.0.0.1", "10.0.0.2", 8, ident=7)),
        "ping6": router.forward(packets.udp("fd00::1", "fd00::2", 7, 8)),
    }
    helped = made["helped"] = router.established(40001, 21)
    helped.status |= IPS_HELPER | IPS_SEQ_ADJUST | IPS_EXPECTED | IPS_FIXED_TIMEOUT
    router.engine.core.helper_names[helped.slot] = "ftp"
    adjusted = router.engine.core.seqadj[helped.slot] = SeqAdj()
    for at in range(12):
        adjusted.sides[0].add(1000 * at + 1, 3 - at)
    helped.labels, helped.mark = 1 << 127 | 9, 0xFFFFFFFF
    helped.remembered = helped.port_counted = helped.source_early = True
    return made


def line_of(router: Router, ct: NfConn) -> Connection:
    """As the other end reads it."""
    return Decoder(Connection).decode(Encoder().encode(form(ct, router.engine, router.now)))


def read_back(router: Router, line: Connection) -> record.Record:
    engine = Engine(Tunables(), router.engine.core.randomness, mode="track")
    restore = Restore(engine, Tunables(), 0, Origin(0, 0, True), 0)
    read = record.decode(packed(line, restore, {"lan0": 1, "wan0": 2}), restore)
    assert read is not None
    return read


def encoded(router: Router, ct: NfConn) -> bytes:
    """Its record at the time 0, with the id that a line has, without a master."""
    core = router.engine.core
    ct.id, ct.timeout, ct.born = 1, ct.timeout - router.now, ct.born - router.now
    helped = Help(core.helper_names.get(ct.slot, ""), core.seqadj.get(ct.slot)) if ct.status & IPS_HELPER else None
    return record.encode(ct, helped)


@pytest.mark.parametrize("name", ["tcp", "syn", "udp", "sctp", "gre", "esp", "ping", "ping6", "helped"])
@pytest.mark.parametrize("new", [Router, rfc7857])
def test_the_record_of_a_line_is_that_of_its_connection(name: str, new: type[Router]) -> None:
    router = new()
    ct = connections(router)[name]
    line = line_of(router, ct)
    read = read_back(router, line)
    assert record.encode(read.ct, read.helped if read.ct.status & IPS_HELPER else None) == encoded(router, ct)


def test_status_bits_of_the_process_stay_behind() -> None:
    router = Router()
    ct = router.established()
    ct.status |= IPS_OFFLOAD
    assert "OFFLOAD" not in line_of(router, ct).status


def test_an_interface_that_this_machine_does_not_have() -> None:
    router = Router()
    line = line_of(router, router.udp())
    assert (line.iif, line.oif) == (UNKNOWN, UNKNOWN)
    router.engine.names[1] = "eth9"
    ct = read_back(router, line_of(router, router.udp())).ct
    assert (ct.iif, ct.oif) == (NO_INTERFACE, NO_INTERFACE)


def test_a_master_is_named_by_its_tuple() -> None:
    router = Router()
    child, child.master = router.udp(), router.established()
    line = line_of(router, child)
    assert line.master is not None
    assert (line.master.protonum, line.master.orig.sport) == (6, 40000)


def test_an_expired_timeout_is_no_negative_one() -> None:
    router = Router()
    ct = router.udp()
    router.now += 1_000_000
    assert line_of(router, ct).timeout == 0


def test_corrections_out_of_order() -> None:
    router = Router()
    line = form(connections(router)["helped"], router.engine, router.now)
    assert line.seqadj is not None
    first, second = line.seqadj
    turned = type(first)(first.base, first.corrections[::-1])
    wrong = Decoder(Connection).decode(Encoder().encode({**fields(line), "seqadj": (turned, second)}))
    with pytest.raises(RequestError, match="do not ascend"):
        read_back(router, wrong)


def fields(line: Connection) -> dict[str, object]:
    found: dict[str, object] = Decoder(dict[str, object]).decode(Encoder().encode(line))
    return found
