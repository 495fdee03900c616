"""The documentation: every TOML example loads, links lead somewhere, limits and docs/trackers.md are up to date."""

import re
import textwrap
from pathlib import Path

import pytest

from conntrackd_py.conntrack.evict import DYING_GRACE, EVICTION_RANGE, UNCONFIRMED_LIFETIME
from conntrackd_py.conntrack.gc import HORIZON
from conntrackd_py.conntrack.lookup import UNCONFIRMED_LIMIT
from conntrackd_py.engine.mark_maps import MOST_AT_ONCE, MOST_CONNECTIONS, PAUSE
from conntrackd_py.explain.hosts import HOSTS_LIMIT, POOLS_LIMIT
from conntrackd_py.explain.refusals import REFUSALS_LIMIT
from conntrackd_py.kernel.maps.recognition import FORGET_AFTER, MOST_KNOWN
from conntrackd_py.nat.usage import port_usage
from conntrackd_py.proto import rfc7857
from conntrackd_py.settings.load import load
from tests.support import diagrams

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
TOML = re.compile(r"^( *)```toml\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"^ {4,}\[\[?(nat|filter|raw|connmark|steering|queue|tunables)\b", re.MULTILINE)
FENCED = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)


LIMITS = [
    ("ARCHITECTURE.md", f"slot for {DYING_GRACE / 1000:g} s, so that"),
    ("ARCHITECTURE.md", f"in a ring of {REFUSALS_LIMIT}."),
    ("ARCHITECTURE.md", f"unconfirmed connections ({UNCONFIRMED_LIFETIME / 1000:g} s, {UNCONFIRMED_LIMIT:,}, half of"),
    ("ARCHITECTURE.md", f"or {HORIZON / 1000:g} s ahead at most"),
    ("ARCHITECTURE.md", f"one unassured connection among {EVICTION_RANGE} that"),
    ("ARCHITECTURE.md", f"count {HOSTS_LIMIT:,} hosts and {POOLS_LIMIT:,} NAT addresses"),
    (
        "ARCHITECTURE.md",
        f"forgets a tuple {FORGET_AFTER} s after its last packet. It has room for {MOST_KNOWN:,} tuples",
    ),
    ("ARCHITECTURE.md", f"every {PAUSE} ms at most, for up to {MOST_AT_ONCE} connections"),
    ("ARCHITECTURE.md", f"At most {MOST_CONNECTIONS:,} connections have elements"),
    ("docs/asking-why.md", f"kept for {DYING_GRACE / 1000:g} s more"),
    ("docs/asking-why.md", f"It counts {HOSTS_LIMIT:,} hosts"),
    ("docs/asking-why.md", f"keeps the last {REFUSALS_LIMIT} refused packets"),
    ("docs/metrics.md", f"keep their slot for {DYING_GRACE / 1000:g} s"),
    ("docs/metrics.md", f"beyond {port_usage.LIMIT} pairs of outer address and protocol"),
]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def toml_blocks() -> list[tuple[str, str]]:
    """(page and number, text) of every TOML example."""
    return [
        (f"{name_of(page)}-{number}", textwrap.dedent(text))
        for page in PAGES
        for number, (_, text) in enumerate(TOML.findall(page.read_text(encoding="utf-8")))
    ]


def anchors(page: Path) -> set[str]:
    """The anchors of the headings, as forges make them."""
    text = FENCED.sub("", page.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in HEADING.findall(text)}


@pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in toml_blocks()])
def test_a_toml_example_is_a_right_configuration(text: str, tmp_path: Path) -> None:
    config = tmp_path / "conntrackd.toml"
    config.write_text(text, encoding="utf-8")
    load(config)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_configuration_is_fenced_as_toml(page: Path) -> None:
    """So that the test above finds it."""
    assert not INDENTED.findall(FENCED.sub("", page.read_text(encoding="utf-8")))


@pytest.mark.parametrize(("page", "text"), LIMITS)
def test_a_limit_in_the_documentation_is_that_of_the_code(page: str, text: str) -> None:
    assert text in " ".join((ROOT / page).read_text(encoding="utf-8").split())


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(FENCED.sub("", page.read_text(encoding="utf-8"))):
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.is_file(), link
        assert not anchor or anchor in anchors(target), link


def test_the_table_of_contents_has_every_page() -> None:
    contents = ROOT / "docs" / "README.md"
    listed = set(LINK.findall(contents.read_text(encoding="utf-8")))
    assert {page.name for page in (ROOT / "docs").glob("*.md")} - {contents.name} <= listed


def test_the_diagrams_are_those_of_the_tables() -> None:
    if not diagrams.PAGE.is_file() or diagrams.PAGE.read_text(encoding="utf-8") != diagrams.page():
        pytest.fail(f"docs/trackers.md is not what the tables give; write it again: {diagrams.COMMAND}", pytrace=False)


def test_an_arrow_gathers_packets_by_direction() -> None:
    text = diagrams.page()
    assert "\n    SYN_SENT --> SYN_RECV: reply synack\n" in text
    assert "\n    FIN_TRANS --> REOPEN_SYN_I2O: I2O S SF SR SFR\n" in text
    assert "\n    ANY --> CLOSE: either rst\n" in text
    assert "ESTABLISHED --> ESTABLISHED" not in text


def test_the_list_of_arrows_reads_back_as_the_table() -> None:
    lines = list(diagrams.arrows_table(diagrams.rfc7857_moves(), rfc7857.STATE_NAMES, rfc7857.DIRECTIONS))
    assert rfc7857._flat("\n".join(lines[1:-1])) == rfc7857.TRANSITIONS


def test_the_tests_that_rfc_md_names_exist() -> None:
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", (ROOT / "docs" / "rfc.md").read_text())
    assert len(named) > 30
    missing = [
        f"{file}::{test}"
        for file, test in named
        if not any(f"def {test}(" in path.read_text() for path in (ROOT / "tests").rglob(file))
    ]
    assert missing == []
