"""-o xml: well-formed, with the elements of conntrack(8); compared line by line in tests/e2e/test_side_by_side.py."""

from __future__ import annotations

import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from conntrackd_py.cli.conntrack.format_xml import connection_xml, event_xml, expectation_xml
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.control import view
from conntrackd_py.reasons import END_DELETED
from tests.support.router import Router
from tests.support.stage import Stage
from tests.unit.cli.conntrack.test_main import play

NOTHING = frozenset[str]()


def test_one_connection() -> None:
    router = Router(tunables=Tunables(nf_conntrack_acct=True))
    ct = router.established()
    ct.mark, ct.labels = 7, 5
    described = view.connection(ct, router.now, True, epoch=1000.0)
    flow = ElementTree.fromstring(connection_xml(described, frozenset({"labels", "ktimestamp"}), {0: "web"}))
    original, reply, known = flow.findall("meta")
    assert [meta.get("direction") for meta in (original, reply, known)] == ["original", "reply", "independent"]
    assert original.find("layer3").attrib == {"protonum": "2", "protoname": "ipv4"}  # type: ignore[union-attr]
    assert reply.findtext("layer3/src") == "10.0.0.2"
    assert original.findtext("layer4/dport") == "80"
    assert original.findtext("counters/packets") == "2"
    assert [child.tag for child in known] == [
        *("state", "timeout", "mark", "use", "id", "assured", "labels", "timestamp", "deltatime"),
    ]
    assert (known.findtext("state"), known.findtext("mark")) == ("ESTABLISHED", "7")
    assert [label.text for label in known.findall("labels/label")] == ["web", "2"]
    assert known.findtext("timestamp/start") == "2000000000000"


def test_a_helper() -> None:
    router = Router()
    described = view.connection(router.syn(), router.now, True, helper="a<b")
    flow = ElementTree.fromstring(connection_xml(described, NOTHING))
    assert [child.tag for child in flow] == ["meta", "meta", "meta", "helper"]
    assert flow.findtext("helper") == "a<b"


def test_events() -> None:
    router = Router()
    router.engine.core.events.enabled = True
    ct = router.udp()
    router.engine.core.kill(ct, END_DELETED, router.now)
    new, destroy = (view.event(event, 0.0, False) for event in router.engine.drain_events())
    flow = ElementTree.fromstring(event_xml(new, NOTHING))
    assert flow.get("type") == "new"
    assert flow.find("meta[@direction='independent']/unreplied") is not None
    assert flow.find("meta[@direction='independent']/mark") is None
    assert ElementTree.fromstring(event_xml(destroy, NOTHING)).get("type") == "destroy"


def test_when_it_happened() -> None:
    router = Router()
    router.engine.core.events.enabled = True
    router.udp()
    (event,) = router.engine.drain_events()
    sunday = time.mktime((2026, 11, 22, 7, 5, 9, 0, 0, -1))
    when = ElementTree.fromstring(event_xml(view.event(event, sunday, False), frozenset({"timestamp"}))).find("when")
    assert when is not None
    assert {child.tag: child.text for child in when} == {
        "hour": "7",
        "min": "05",
        "sec": "09",
        "wday": "1",
        "day": "22",
        "month": "11",
        "year": "2026",
    }


def test_expectations() -> None:
    router = Router()
    known = router.expect(router.established(40000, 21), 3000)
    flow = ElementTree.fromstring(expectation_xml(view.expectation(known, router.now)))
    assert flow.findtext("layer3/mask/src") == "255.255.255.255"
    assert flow.findtext("layer4/expected/dport") == "3000"
    assert flow.findtext("layer4/master/dport") == "21"
    assert flow.findtext("meta/helper-name") == "ftp"


def test_documents_are_whole(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        ct = stage.router.established(40000, 21)
        stage.router.udp(1000)
        stage.router.expect(ct, 3000)
        for line, root, flows in (
            ("-L -o xml", "conntrack", 2),
            ("-L expect -o xml", "expect", 1),
            ("-G -s 10.0.0.1 -d 10.0.0.2 -p udp --sport 1000 --dport 53 -o xml", "conntrack", 1),
        ):
            shown = await stage.run(line)
            document = ElementTree.fromstring(shown.out)
            assert (document.tag, len(document)) == (root, flows)
        assert (await stage.run("-L -p icmp -o xml")).out == ""

    play(tmp_path, scene)
