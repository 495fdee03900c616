"""Metrics as Prometheus reads them, over real HTTP, from an engine that has seen real packets."""

from __future__ import annotations

import asyncio
import gzip
import ssl
import subprocess
from collections.abc import Callable, Iterator
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from conntrackd_py import __version__
from conntrackd_py.conntrack.randomness import Repeatable
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.control.server import ControlServer
from conntrackd_py.engine.engine import Engine
from conntrackd_py.engine.offload import RETURNED_FLAGS
from conntrackd_py.engine.raw_mangle import RawRule
from conntrackd_py.kernel.queues.queue import QueueCounters
from conntrackd_py.match.match import Match
from conntrackd_py.match.numbers import Numbers
from conntrackd_py.proto.standard import standard_protos
from conntrackd_py.reasons import END_DELETED, INSERT_FAILED, TABLE_FULL, TCP_IGNORED
from conntrackd_py.service.metrics import exporter as exporters
from conntrackd_py.service.metrics.collector import EngineCollector
from conntrackd_py.service.metrics.exporter import Exporter, in_turns
from conntrackd_py.service.pauses import Pauses
from conntrackd_py.service.refusal_log import RefusalLog
from conntrackd_py.settings.errors import ConfigError
from conntrackd_py.settings.tls import context
from tests.support import packets
from tests.support.certificates import Authority
from tests.support.loop import running
from tests.support.router import CLIENT, SERVER, Router
from tests.support.stage import Stage, play
from tests.support.tools import needs


def counters() -> QueueCounters:
    found = QueueCounters()
    found.enobufs, found.verdict_errors, found.truncated, found.backend = 3, 2, 1, "netfilterqueue"
    found.send_errors = 4
    found.copies_lost, found.translations_lost = 5, 4
    return found


def control(router: Router) -> ControlServer:
    """It does not listen."""
    server = ControlServer(router.engine, router.clock, path="unused")
    server.acceptor.refused["connections"] = 4
    return server


@pytest.fixture
def router() -> Router:
    return Router()


@pytest.fixture
def exporter(router: Router) -> Iterator[Exporter]:
    exporter = Exporter(EngineCollector(router.engine, counters(), control(router)), ("127.0.0.1", 0))
    with running(exporter):
        yield exporter


def fetch(exporter: Exporter, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    host, port = exporter.address
    request = Request(f"http://{host}:{port}{path}", method=method, headers=headers)
    try:
        with urlopen(request, timeout=5) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except HTTPError as error:
        with error:
            return error.code, dict(error.headers), error.read()


def scrape(exporter: Exporter) -> str:
    return fetch(exporter, "/metrics")[2].decode()


def values(text: str) -> dict[str, float]:
    """Sample name with its labels in order -> value."""
    return {
        " ".join([sample.name, *(f"{name}={value}" for name, value in sample.labels.items())]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_what_happened_is_counted(router: Router, exporter: Exporter) -> None:
    router.established()
    router.udp()
    router.engine.core.kill(router.udp(7), END_DELETED, router.now)
    found = values(scrape(exporter))
    assert found["conntrackd_py_entries proto=tcp state=ESTABLISHED"] == 1
    assert found["conntrackd_py_entries proto=udp state="] == 1
    assert found["conntrackd_py_entries proto=unknown state="] == 0
    assert found["conntrackd_py_entries_limit"] == 262144
    assert found["conntrackd_py_created_total"] == 3
    assert found["conntrackd_py_destroyed_total reason=deleted"] == 1
    assert found["conntrackd_py_packets_total hook=post_routing verdict=accept"] == 3, (
        "the first packets; the others are done"
    )
    assert found["conntrackd_py_bytes_total hook=pre_routing"] == 3 * 40 + 2 * 30
    assert found["conntrackd_py_dying"] == 1


@pytest.mark.parametrize("encoder", [generate_latest, openmetrics.generate_latest])
def test_packets_pass_while_the_metrics_are_written(
    router: Router, encoder: Callable[[Collector], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the shortest turns, the loop runs after each family; the text is that of one piece."""
    monkeypatch.setattr(exporters, "TURN", 0.0)
    registry = CollectorRegistry()
    registry.register(EngineCollector(router.engine, counters(), control(router)))
    families = len(list(registry.collect()))

    async def written() -> tuple[bytes, int]:
        task = asyncio.ensure_future(in_turns(registry, encoder, bytes))
        turns = 0
        while not task.done():
            await asyncio.sleep(0)
            turns += 1
        return task.result(), turns

    text, turns = asyncio.run(written())
    assert text == encoder(registry)
    assert turns >= families


def test_connections_with_timeouts_of_their_own_are_counted_too(router: Router) -> None:
    """A raw rule brings other trackers of the same protocols; an entry is one whichever tracks it."""
    quick = RawRule(Match(sport=Numbers([7, 7])), protos=standard_protos(Tunables()))
    router.engine = Engine(Tunables(), Repeatable(), mode="track", raw_rules=[quick])
    router.udp(6)
    router.udp(7)
    registry = CollectorRegistry()
    registry.register(EngineCollector(router.engine, counters(), control(router)))
    assert registry.get_sample_value("conntrackd_py_entries", {"proto": "udp", "state": ""}) == 2


def test_reasons_are_counted_by_outcome(router: Router, exporter: Exporter) -> None:
    router.engine.core.stats.reasons[:] = range(len(router.engine.core.stats.reasons))
    found = values(scrape(exporter))
    assert found["conntrackd_py_invalid_total reason=ip_truncated"] == 1
    assert found["conntrackd_py_packets_ignored_total reason=tcp_ignored"] == TCP_IGNORED
    assert found["conntrackd_py_packets_dropped_total reason=table_full"] == TABLE_FULL
    assert found["conntrackd_py_packets_dropped_total reason=insert_failed"] == INSERT_FAILED
    assert not any("reason=ok" in name for name in found)


def test_offload(router: Router) -> None:
    offload = router.engine.offload
    offload.total, offload.refused, offload.failures, offload.returned_by[RETURNED_FLAGS] = 5, 2, 1, 3
    families = EngineCollector(router.engine, counters()).collect()
    found = {(sample.name, *sample.labels.values()): sample.value for family in families for sample in family.samples}
    assert found["conntrackd_py_offloaded",] == 0
    assert found["conntrackd_py_offload_added_total",] == 5
    assert found["conntrackd_py_offload_refused_total",] == 2
    assert found["conntrackd_py_offload_failures_total",] == 1
    assert found["conntrackd_py_offload_returned_total", "tcp_flags"] == 3


def test_hints(router: Router) -> None:
    router.established()
    router.now += 432_014_000
    router.forward(packets.tcp(CLIENT, SERVER, 40000, 80, "A", seq=2, ack=2))
    refusals = RefusalLog(router.engine.diagnostics.recent, router.clock)
    refusals.not_logged = 6
    collector = EngineCollector(router.engine, counters(), refusals=refusals)
    found = {sample.name: sample.value for family in collector.collect() for sample in family.samples}
    assert found["conntrackd_py_expired_in_use_total"] == 1
    assert found["conntrackd_py_one_sided_flows_total"] == 0
    assert found["conntrackd_py_mark_overwritten_total"] == 0
    assert found["conntrackd_py_refusals_not_logged_total"] == 6


def test_the_daemon_and_its_queue(exporter: Exporter) -> None:
    found = values(scrape(exporter))
    assert found["conntrackd_py_queue_enobufs_total"] == 3
    assert found["conntrackd_py_verdict_errors_total"] == 2
    assert found["conntrackd_py_truncated_packets_total"] == 1
    assert found["conntrackd_py_verdict_send_errors_total"] == 4
    assert found["conntrackd_py_copies_lost_total"] == 5
    assert found["conntrackd_py_translations_lost_total"] == 4
    (build,) = [name for name in found if name.startswith("conntrackd_py_build_info ")]
    assert f"version={__version__}" in build


def test_the_control_socket(tmp_path: Path) -> None:
    """One of its clients listens and is too slow."""

    async def scene(stage: Stage) -> None:
        listener = await stage.listener(buffer=1)
        await stage.client()
        await stage.until(lambda: stage.control.acceptor.sessions == 2)
        listener.reader._transport.pause_reading()  # type: ignore[attr-defined]
        for port in range(3000):
            stage.router.udp(10000 + port)
            stage.publish()
        registry = CollectorRegistry()
        registry.register(EngineCollector(stage.router.engine, counters(), stage.control))
        found = values(generate_latest(registry).decode())
        assert found["conntrackd_py_control_clients"] == 2
        assert found["conntrackd_py_events_lost_total queue=subscriber"] == stage.control.publisher.lost > 0

    play(tmp_path / "control.sock", scene)


def test_the_kernels_queues_are_read_where_there_are_some(router: Router, tmp_path: Path) -> None:
    proc = tmp_path / "nfnetlink_queue"
    of_queues = counters()
    of_queues.names = {0: "new"}
    collector = EngineCollector(router.engine, of_queues, None, proc)

    def queues() -> dict[str, float]:
        return {
            f"{sample.name} {sample.labels['queue']} {sample.labels['name']}".strip(): sample.value
            for family in collector.collect()
            for sample in family.samples
            if "queue_waiting" in sample.name or "queue_dropped" in sample.name or "user_dropped" in sample.name
        }

    assert queues() == {}
    proc.write_text(
        "    0  31337     5 2 65531     7     9      100  1\n    3  31338     0 2 65531     0     0        2  1\n"
    )
    assert queues() == {
        "conntrackd_py_queue_waiting 0 new": 5,
        "conntrackd_py_queue_waiting 3": 0,
        "conntrackd_py_queue_dropped_total 0 new": 7,
        "conntrackd_py_queue_dropped_total 3": 0,
        "conntrackd_py_queue_user_dropped_total 0 new": 9,
        "conntrackd_py_queue_user_dropped_total 3": 0,
    }


def test_no_address_becomes_a_label(router: Router, exporter: Exporter) -> None:
    router.established()
    router.forward(packets.icmp(CLIENT, SERVER, 8, ident=1))
    text = scrape(exporter)
    assert CLIENT not in text
    assert SERVER not in text


def test_registering_twice_is_noticed_and_describing_scrapes_nothing(router: Router) -> None:
    collector = EngineCollector(router.engine, counters())
    described = list(collector.describe())
    assert len(described) > 10
    assert not any(family.samples for family in described)
    registry = CollectorRegistry()
    registry.register(collector)
    with pytest.raises(ValueError, match="Duplicated"):
        registry.register(EngineCollector(router.engine, counters()))


def test_the_table_under_the_names_of_node_exporter(router: Router) -> None:
    router.udp()
    registry = CollectorRegistry()
    registry.register(EngineCollector(router.engine, counters(), node_exporter=True))
    assert registry.get_sample_value("node_nf_conntrack_entries") == 1
    assert registry.get_sample_value("node_nf_conntrack_entries_limit") == 262144
    assert registry.get_sample_value("node_nf_conntrack_stat_insert") == 1
    plain = EngineCollector(router.engine, counters())
    assert not any(family.name.startswith("node_") for family in plain.collect())


def test_how_the_last_reload_went(router: Router) -> None:
    server = control(router)
    reloads = server.reloads
    reloads.at = 1234.5
    registry = CollectorRegistry()
    registry.register(EngineCollector(router.engine, counters(), server))
    assert registry.get_sample_value("conntrackd_py_config_last_reload_successful") == 1
    reloads.successful, reloads.stale = False, 7
    assert registry.get_sample_value("conntrackd_py_config_last_reload_successful") == 0
    assert registry.get_sample_value("conntrackd_py_config_last_reload_success_timestamp_seconds") == 1234.5
    assert registry.get_sample_value("conntrackd_py_stale_connections") == 7


def test_times(router: Router) -> None:
    found = counters()
    found.visits.observe(3_000)
    found.visits.observe(200_000_000)
    registry = CollectorRegistry()
    registry.register(EngineCollector(router.engine, found, pauses=Pauses()))
    name = "conntrackd_py_packet_seconds"
    assert [registry.get_sample_value(f"{name}_bucket", {"le": le}) for le in ("2e-06", "5e-06", "0.1", "+Inf")] == [
        *(0, 1, 1, 2)
    ]
    assert registry.get_sample_value(f"{name}_sum") == pytest.approx(0.200003)
    assert registry.get_sample_value("conntrackd_py_gc_seconds_count", {"collector": "expire"}) == 0


def test_the_port_is_taken_and_given_back(router: Router) -> None:
    first = Exporter(EngineCollector(router.engine, counters()), ("127.0.0.1", 0))
    with running(first):
        second = Exporter(EngineCollector(router.engine, counters()), first.address)
        with pytest.raises(ConfigError, match="in use"):
            second.start()
    with running(second):
        assert "conntrackd_py_entries_limit" in scrape(second)


def test_metrics_are_at_their_path_and_nowhere_else(exporter: Exporter) -> None:
    status, headers, body = fetch(exporter, "/")
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert b'href="/metrics"' in body
    for path in ("/other", "/metrics/", "//metrics", "/favicon.ico"):
        assert fetch(exporter, path)[0] == 404
    found = values(scrape(exporter))
    assert found["conntrackd_py_metrics_requests_total code=200"] == 1
    assert found["conntrackd_py_metrics_requests_total code=404"] == 4


def test_head_is_get_without_the_body(exporter: Exporter) -> None:
    status, headers, body = fetch(exporter, "/metrics", "HEAD")
    got = fetch(exporter, "/metrics")
    assert (status, body) == (200, b"")
    assert headers["Content-Type"] == got[1]["Content-Type"]
    assert int(headers["Content-Length"]) > 5000


def test_other_methods_are_not_allowed(exporter: Exporter) -> None:
    status, headers, _ = fetch(exporter, "/metrics", "POST")
    assert (status, headers["Allow"]) == (405, "GET, HEAD")


def test_the_client_chooses_the_format(exporter: Exporter) -> None:
    """As prometheus_client's own server lets it."""
    assert fetch(exporter, "/metrics")[1]["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    _, headers, body = fetch(exporter, "/metrics", Accept="application/openmetrics-text;version=1.0.0,*/*;q=0.1")
    assert headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    assert body.endswith(b"# EOF\n")
    _, headers, body = fetch(exporter, "/metrics", **{"Accept-Encoding": "br, gzip"})
    assert headers["Content-Encoding"] == "gzip"
    assert b"conntrackd_py_entries_limit" in gzip.decompress(body)
    _, _, body = fetch(exporter, "/metrics?name[]=conntrackd_py_dying")
    assert [line.split()[0] for line in body.splitlines() if not line.startswith(b"#")] == [b"conntrackd_py_dying"]
    assert fetch(exporter, "/metrics", Accept="application/openmetrics-text;version=abc")[0] == 406


def test_who_was_refused_and_what_failed_is_counted(exporter: Exporter) -> None:
    exporter.http.acceptor.refused["descriptors"] = 3
    exporter.http.acceptor.errors = 2
    found = values(scrape(exporter))
    assert found["conntrackd_py_connections_refused_total cause=descriptors server=metrics"] == 3
    assert found["conntrackd_py_connections_refused_total cause=connections server=control"] == 4
    assert found["conntrackd_py_session_errors_total server=metrics"] == 2
    assert found["conntrackd_py_session_errors_total server=control"] == 0


@needs("promtool")
def test_promtool_has_nothing_to_say(router: Router, exporter: Exporter) -> None:
    router.established()
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=scrape(exporter), capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


@needs("openssl")
def test_tls(router: Router, tmp_path: Path) -> None:
    """A client checks our certificate, and we check its own if a client_ca is given."""
    ours, theirs = Authority(tmp_path, "ours"), Authority(tmp_path, "theirs")
    certificate, key = (str(path) for path in ours.signed("server"))
    prometheus, stranger = ours.signed("prometheus"), theirs.signed("stranger")
    tls = context(certificate, key, str(ours.certificate))
    exporter = Exporter(EngineCollector(router.engine, counters()), ("127.0.0.1", 0), tls)
    with running(exporter):
        assert "conntrackd_py_entries_limit" in secure(exporter, ours, prometheus)
        for pair in (None, stranger):
            with pytest.raises(OSError, match=r"(?i)alert|certificate|reset|closed"):
                secure(exporter, ours, pair)
        with pytest.raises(OSError, match="verify failed"):
            secure(exporter, theirs, prometheus)
        with pytest.raises((OSError, HTTPException)):
            fetch(exporter, "/metrics")
        certificate, key = (str(path) for path in theirs.signed("renewed"))
        exporter.renew(context(certificate, key, ""))
        text = secure(exporter, theirs, None)
        assert 'connections_refused_total{cause="tls",server="metrics"} 4' in text


def secure(exporter: Exporter, authority: Authority, client: tuple[Path, Path] | None) -> str:
    """What a client gets that trusts this authority and has this certificate."""
    trusting = ssl.create_default_context(cafile=str(authority.certificate))
    if client is not None:
        trusting.load_cert_chain(*client)
    with urlopen(f"https://127.0.0.1:{exporter.address[1]}/metrics", timeout=5, context=trusting) as answer:
        text: str = answer.read().decode()
    return text
