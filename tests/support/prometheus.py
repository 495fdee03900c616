"""A real Prometheus in a router's namespace, in a folder of its own, and the files for it in config/."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from conntrackd_py.lab.namespaces import LabError, Namespace
from conntrackd_py.lab.router import METRICS

CONFIG: Final = Path(__file__).parents[2] / "config"
RULES: Final = CONFIG / "prometheus" / "conntrackd-py.rules.yml"
DASHBOARD: Final = CONFIG / "grafana" / "conntrackd-py.json"
ADDRESS: Final = "127.0.0.1:9590"  # of the namespace
PATIENCE: Final = 40.0  # seconds

SCRAPE: Final = """\
global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}
rule_files: [rules.yml]
scrape_configs:
  - job_name: conntrackd-py
    static_configs: [{targets: ["%s"]}]
"""

Json = dict[str, Any]


def quick(rules: str, window: str) -> str:
    """The rules for a short test: rates over `window`, and alerts that wait for a second only."""
    return re.sub(r"\bfor: \w+", "for: 1s", re.sub(r"\[(5|10|15)m\]", f"[{window}]", rules))


class Prometheus:
    """Scrapes the daemon each second. It ends with the namespace."""

    def __init__(self, namespace: Namespace, folder: Path, rules: str) -> None:
        self.namespace = namespace
        self.log = folder / "prometheus.log"
        (folder / "prometheus.yml").write_text(SCRAPE % METRICS)
        (folder / "rules.yml").write_text(rules)
        words = (
            *("prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"),
            *(f"--web.listen-address={ADDRESS}", "--log.level=warn"),
        )
        with self.log.open("w") as log:
            self.process = namespace.start(*words, stdout=log, stderr=log)
        self.wait(lambda: self.namespace.complete("curl", "-sf", f"http://{ADDRESS}/-/ready").returncode == 0)

    def wait(self, done: Callable[[], object], what: str = "Prometheus is not ready") -> None:
        """LabError when it does not come true."""
        until = time.monotonic() + PATIENCE
        while not done():
            if self.process.poll() is not None or time.monotonic() > until:
                raise LabError(f"{what}: {self.log.read_text()[-2000:]}")
            time.sleep(0.2)

    def ask(self, path: str, **arguments: object) -> Json:
        """The data of an answer. LabError for an error, such as a query that cannot be read."""
        words = [word for key, value in arguments.items() for word in ("--data-urlencode", f"{key}={value}")]
        text = self.namespace.run("curl", "-sS", "--get", *words, f"http://{ADDRESS}/api/v1/{path}")
        answer: Json = json.loads(text)
        if answer["status"] != "success":
            raise LabError(f"{arguments}: {answer.get('error')}")
        data: Json = answer["data"]
        return data

    def query(self, expression: str) -> list[Json]:
        found: list[Json] = self.ask("query", query=expression)["result"]
        return found

    def value(self, expression: str) -> float:
        """Of the one series there is."""
        (series,) = self.query(expression)
        return float(series["value"][1])

    def range(self, expression: str, start: float, end: float, step: float) -> list[Json]:
        found: list[Json] = self.ask("query_range", query=expression, start=start, end=end, step=step)["result"]
        return found

    def firing(self) -> set[str]:
        return {alert["labels"]["alertname"] for alert in self.ask("alerts")["alerts"] if alert["state"] == "firing"}


def panels() -> list[Json]:
    """Of the dashboard, without its rows."""
    found: list[Json] = json.loads(DASHBOARD.read_text())["panels"]
    return [panel for panel in found if panel["type"] != "row"]


def filled(expression: str, window: str) -> str:
    """A query of the dashboard as Grafana sends it, for every router."""
    return expression.replace("$__rate_interval", window).replace("$instance", ".*")
