"""Alert rules, dashboard and docs/metrics.md speak of the metrics that the daemon publishes, and of no others."""

import json
import re
import subprocess
from pathlib import Path

import pytest
from prometheus_client.metrics_core import Metric

from conntrackd_py.control.server import ControlServer
from conntrackd_py.control.steering import Steering
from conntrackd_py.kernel.queues.queue import QueueCounters
from conntrackd_py.service.metrics.collector import EngineCollector
from conntrackd_py.service.metrics.families import PREFIX
from conntrackd_py.service.pauses import Pauses
from conntrackd_py.service.refusal_log import RefusalLog
from tests.support.prometheus import CONFIG, DASHBOARD, RULES, panels
from tests.support.router import Router
from tests.support.tools import needs

PAGE = Path(__file__).parents[1] / "docs" / "metrics.md"
ROW = re.compile(r"^\| `(\w+)` \| (\w+) \| ([\w, ]*?) ?\|", re.MULTILINE)
SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}


def families() -> list[Metric]:
    router = Router()
    log = RefusalLog(router.engine.diagnostics.recent, router.clock)
    control = ControlServer(router.engine, router.clock, path="unused")
    collector = EngineCollector(
        router.engine, QueueCounters(), control, refusals=log, pauses=Pauses(), steering=Steering()
    )
    return list(collector.collect())


def published() -> set[str]:
    return {family.name + suffix for family in families() for suffix in SUFFIXES[family.type]}


def test_the_page_has_every_metric_with_its_type_and_labels() -> None:
    named = {
        family.name.removeprefix(PREFIX) + ("_total" if family.type == "counter" else ""): (
            family.type,
            list(getattr(family, "_labelnames", ())),
        )
        for family in families()
    }
    rows = {name: (kind, labels.split(", ") if labels else []) for name, kind, labels in ROW.findall(PAGE.read_text())}
    assert rows == named


@pytest.mark.parametrize("file", [RULES, DASHBOARD], ids=lambda file: file.name)
def test_queries_name_metrics_that_exist(file: Path) -> None:
    asked = set(re.findall(rf"(?<!:)\b{PREFIX}\w+\b(?!:)", file.read_text()))
    assert len(asked) > 10
    assert asked <= published() | {family.name for family in families() if family.type == "histogram"}


def test_every_alert_says_what_it_means_and_what_to_do() -> None:
    alerts = RULES.read_text().split("- alert: ")[1:]
    assert len(alerts) > 10
    for alert in alerts:
        for key in ("severity:", "summary:", "description:", "action:"):
            assert key in alert, alert.split("\n")[0]
    assert "://" not in RULES.read_text()


def test_the_dashboard_can_be_imported_anywhere() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    assert (dashboard["id"], dashboard["uid"]) == (None, "conntrackd-py")
    assert [variable["name"] for variable in dashboard["templating"]["list"]] == ["datasource", "instance"]
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)
    for panel in panels():
        assert panel["datasource"]["uid"] == "${datasource}"
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["description"]
        for target in panel["targets"]:
            assert 'instance=~"$instance"' in target["expr"]
            assert not re.search(r"rate\([^)]*\[(?!\$__rate_interval)", target["expr"])


@needs("promtool")
@pytest.mark.parametrize(
    "words",
    [
        ("check", "rules", "conntrackd-py.rules.yml"),
        ("test", "rules", "conntrackd-py.test.yml"),
        ("check", "config", "prometheus.yml"),
    ],
    ids=" ".join,
)
def test_promtool_is_content(words: tuple[str, ...]) -> None:
    folder = CONFIG / "prometheus"
    done = subprocess.run(["promtool", *words], cwd=folder, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
