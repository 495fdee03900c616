"""The benchmark's arithmetic and its pages; a short real run: tests/e2e/test_bench.py."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.bench import __main__ as program
from tests.bench import flood, latency, memory, page, plots, scale, turns
from tests.bench.results import Results, added, aligned, markdown, number, plain, ratio, table

DOCS = Path(__file__).parents[2] / "docs"
TITLES = {"daemon": "ours", "route": "routing", "kernel": "kernel", "absent": "not measured"}


@pytest.fixture
def results() -> Results:
    made = Results()
    for row, values in {"daemon": (3, 1, 2), "kernel": (4, 4, 5), "route": (1,)}.items():
        for value in values:
            made.add("part", row, "k", value)
    return made


@pytest.fixture(scope="module")
def published() -> Results:
    return Results.loaded((DOCS / page.VALUES).read_text())


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0.0, "0"),
        (0.04871, "0.0487"),
        (99.96, "100"),
        (123.4, "123"),
        (12345.6, "12,300"),
        (-29.4, "-29.4"),
    ],
)
def test_a_number_has_three_digits(value: float | None, text: str) -> None:
    assert number(value) == text


def test_a_table_shows_medians_ratios_and_differences_of_what_was_measured(results: Results) -> None:
    lines = table(results, "part", TITLES, [plain("value", "k"), ratio("ratio", "k"), added("added", "k")], "")
    assert lines == [
        ["", "value", "ratio", "added"],
        ["ours", "2", "", "1"],
        ["routing", "1", "2.00", ""],
        ["kernel", "4", "0.50", "3"],
    ]
    assert aligned(lines).splitlines()[1] == "ours         2             1"
    assert markdown(lines).splitlines()[1:3] == ["| --- | --- | --- | --- |", "| ours | 2 |  | 1 |"]


def test_a_column_without_values_is_not_a_zero(results: Results) -> None:
    lines = table(results, "part", TITLES, [plain("value", "x"), ratio("ratio", "x")], "")
    assert lines[1] == ["ours", "-", ""]


def test_the_file_reads_back(results: Results) -> None:
    assert Results.loaded(results.dumped()) == results


def test_a_block_of_a_page_is_replaced_and_the_rest_stays() -> None:
    text = "before\n<!-- bench a -->\nold\n<!-- /bench -->\nbetween\n<!-- bench b-c -->\n<!-- /bench -->\n"
    new = page.filled(text, {"a": [["x"], ["1"]], "b-c": [["y"]]})
    assert new == (
        "before\n<!-- bench a -->\n| x |\n| --- |\n| 1 |\n<!-- /bench -->\nbetween\n"
        "<!-- bench b-c -->\n| y |\n| --- |\n<!-- /bench -->\n"
    )
    assert page.filled(new, {"a": [["x"], ["1"]], "b-c": [["y"]]}) == new


def test_a_block_that_no_table_fills_is_an_error() -> None:
    with pytest.raises(KeyError):
        page.filled("<!-- bench other -->\n<!-- /bench -->", {})


def test_the_pages_and_plots_show_the_published_values(published: Results) -> None:
    for path, text in page.files(published, DOCS).items():
        assert path.read_text() == text, (
            f"{path.name}: write it again: scripts/bench --results docs/speed.json --write docs"
        )


@pytest.mark.parametrize(("load", "warnings"), [("0.31 2.00 3.00", 0), ("3.84 2.67 2.54", 1)])
def test_a_run_on_a_busy_machine_says_so(published: Results, load: str, warnings: int) -> None:
    busy = Results({**published.conditions, "load before": load}, published.parts)
    assert [row[0] for row in page.blocks(busy)["conditions"]].count("**warning**") == warnings


def test_every_table_stands_in_a_page(published: Results) -> None:
    written = {name for path in page.PAGES for _, name, _ in page.BLOCK.findall((DOCS / path).read_text())}
    assert written == set(page.blocks(published))


@pytest.mark.parametrize("name", plots.PLOTS)
def test_a_plot_is_well_formed_and_stays_within_its_frame(published: Results, name: str) -> None:
    root = ET.fromstring(plots.PLOTS[name](published))
    wide, high = map(float, root.attrib["viewBox"].split()[2:])
    for shape in root.iter("{http://www.w3.org/2000/svg}rect"):
        assert 0 <= float(shape.get("x", 0)) <= float(shape.get("x", 0)) + float(shape.attrib["width"]) <= wide
        assert 0 <= float(shape.get("y", 0)) <= float(shape.get("y", 0)) + float(shape.attrib["height"]) <= high


def test_a_bar_without_a_value_is_left_out_and_all_zero_is_drawn() -> None:
    drawn = plots.bars("<title>", {"a": [("x & y", 0.0), ("gone", None)]})
    assert "x &amp; y" in drawn
    assert "gone" not in drawn


def test_scale_is_a_second_divided_by_the_cost() -> None:
    made = Results()
    for part, column, value in (
        ("throughput", "udp us", 5),
        ("connections", "tcp us", 100),
        ("connections", "udp us", 10),
    ):
        made.add(part, "daemon", column, value)
    assert scale.carried(made, 4) == ["800,000", "40,000", "400,000"]


def test_percentiles_of_round_trips() -> None:
    trips = latency.trips_of("\n".join(f"{number} {number * 1000}" for number in range(1, 201)))
    assert latency.percentiles(trips) == {"p50": pytest.approx(100.5), "p99": pytest.approx(198.99)}
    with pytest.raises(SystemExit, match="only 99 round trips"):
        latency.percentiles(trips[:99])


def test_goodput_of_a_stream_that_stands_still_is_nothing() -> None:
    steps = [(1.0, 0.0), (1.1, 1000.0), (2.0, 10000.0)]
    assert flood.goodput(steps, 1.0, 2.0) == pytest.approx(80000)
    assert flood.goodput(steps, 3.0, 4.0) == 0
    assert flood.goodput([], 3.0, 4.0) == 0


@pytest.mark.parametrize("kind", memory.KINDS)
def test_the_engine_is_measured_in_a_process_of_its_own(kind: str) -> None:
    rows = memory.in_a_process(kind, 2000, accounting=True)
    columns = {(part, row, column) for part, row, column, _ in rows}
    assert {
        ("size", "1000", f"{kind} known us"),
        ("size", "2000", f"{kind} new us"),
        ("memory", kind, "bytes"),
    } <= columns
    assert all(value > 0 for *_, column, value in rows if column != "over")


def test_the_turns_of_the_loop_are_measured() -> None:
    results = Results()
    turns.measure(results, 2000, 1)
    assert results.rows("turns") == list(turns.OPERATIONS)
    assert results.sure("turns", "list", "turns") > 10
    assert results.sure("turns", "scrape", "max") > results.sure("turns", "nothing", "p50")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--part", "memory", "--write", "docs"], "needs all parts"),
        (["--only", "daemon", "--write", "docs"], "needs all parts"),
        (["--write", "/nonexistent"], "no speed.md there"),
        (["--part", "speed"], "speed: not one of throughput"),
        (["--only", "kernel,other"], "other: not one of daemon"),
        (["--rounds", "0"], "at least 1"),
        (["--seconds", "0"], "at least 0.2"),
        (["--count", "10"], "at least 1,000"),
    ],
)
def test_a_mistake_is_reported_before_the_first_measurement(
    words: list[str], says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["scripts/bench", *words])
    with pytest.raises(SystemExit):
        program.arguments()
    assert says in capsys.readouterr().err
