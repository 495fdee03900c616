"""Text of manual pages: it stands in the page as it was written."""

import pytest
from generators import roff


@pytest.mark.parametrize(
    ("text", "roffed"),
    [
        ("plain", "plain"),
        ("`-o` <form>", r"\fB\-o\fR \fIform\fR"),
        (".config", r"\&.config"),
        ("`.config`", r"\fB\&.config\fR"),
        ("'quoted' \"twice\"", r"\(aqquoted\(aq \(dqtwice\(dq"),
        (r"a\b", r"a\eb"),
    ],
)
def test_inline(text: str, roffed: str) -> None:
    assert roff.inline(text) == roffed


def test_a_paragraph_below_a_heading_needs_no_mark() -> None:
    page = roff.page(
        (roff.section("A"), roff.paragraphs("one\n\ntwo"), roff.section("B"), roff.tagged([("t", "x\n\ny")]))
    )
    assert page == '.SH "A"\none\n.PP\ntwo\n.SH "B"\n.TP\nt\nx\n.IP\ny\n'
