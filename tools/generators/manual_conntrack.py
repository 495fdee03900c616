"""The manual page conntrack-py(8), from the tables of the program and the prose of manual_conntrack_text."""

from conntrackd_py.cli.conntrack.options import (
    BY_KEY,
    COMMANDS,
    EVENTS,
    FORMS,
    NEEDS,
    OPTIONS,
    SORT_KEYS,
    STATUSES,
    Option,
)
from conntrackd_py.const import PROTO_NAMES
from generators import completion, roff
from generators import manual_conntrack_text as text
from generators.differences import DIFFERENCES, Difference


def page() -> str:
    return roff.page(
        (
            roff.head("conntrack-py", 8, text.NAME),
            roff.section("SYNOPSIS"),
            roff.broken(text.SYNOPSIS),
            roff.section("DESCRIPTION"),
            roff.paragraphs(text.DESCRIPTION),
            roff.section("COMMANDS"),
            roff.tagged((_term(option), _command(option)) for option in COMMANDS),
            roff.subsection("Required options"),
            roff.tagged(_needs()),
            *_options(),
            *_values(),
            *_output(),
            roff.section("EXIT STATUS"),
            roff.tagged(text.EXIT_STATUS),
            *_examples(),
            *_differences(),
            roff.section("FILES"),
            roff.tagged(text.FILES),
            roff.section("ENVIRONMENT"),
            roff.tagged(text.ENVIRONMENT),
            roff.section("SEE ALSO"),
            [roff.inline(text.SEE_ALSO)],
        )
    )


def _term(option: Option) -> str:
    """Names in bold, value in italics: `-s`, `--src` <ip[/bits]>; [brackets] around an optional value."""
    names = ", ".join(f"`{name}`" for name in option.names)
    if completion.takes(option) == completion.MAYBE:
        return f"{names} [<{option.argument[1:-1]}>]"
    return f"{names} <{option.argument}>" if option.argument else names


def _command(option: Option) -> str:
    tables = completion.tables(option.key)
    words = f" Tables: {', '.join(tables)}." if tables else ""
    return f"{roff.sentence(option.help)}{words}{_more(option.key)}"


def _needs() -> list[tuple[str, str]]:
    entries = []
    for need in NEEDS:
        table = " expect" if need.table == "expect" else ""
        commands = ", ".join(f"`-{letter}{table}`" for letter in need.commands)
        only = f" with `-p` {_either([PROTO_NAMES[number] for number in need.protos])}" if need.protos else ""
        choices = [_either([f"`--{BY_KEY[key].long[0]}`" for key in choice], "and") for choice in need.choices]
        entries.append((f"{commands}{only}", f"{', or '.join(choices)}."))
    return entries


def _options() -> list[list[str]]:
    groups = (
        ("OPTIONS", text.OPTIONS, [option for option in OPTIONS if not option.protos and not option.extension]),
        ("OPTIONS OF PROTOCOLS", text.PROTOCOL_OPTIONS, [option for option in OPTIONS if option.protos]),
        ("OPTIONS NOT IN CONNTRACK(8)", text.EXTENSIONS, [option for option in OPTIONS if option.extension]),
    )
    return [
        part
        for title, prose, options in groups
        for part in (
            roff.section(title),
            roff.paragraphs(prose),
            roff.tagged((_term(option), _option(option)) for option in options),
        )
    ]


def _option(option: Option) -> str:
    only = f" Only with `-p` {_either(option.protocols)}." if option.protos else ""
    return f"{roff.sentence(option.help)}{only}{_more(option.key)}\n\n{_where(option)}"


def _more(key: str) -> str:
    return f" {text.MORE[key]}" if key in text.MORE else ""


def _where(option: Option) -> str:
    """The commands that take it, on connections and on expectations."""
    connections = " ".join(f"`-{letter}`" for letter in option.commands)
    expectations = " ".join(f"`-{letter} expect`" for letter in option.expect)
    return f"With {'; '.join(words for words in (connections, expectations) if words)}."


def _either(words: list[str], last: str = "or") -> str:
    return f"{', '.join(words[:-1])} {last} {words[-1]}" if len(words) > 1 else words[0]


def _values() -> list[list[str]]:
    states = [(f"State with `-p {name}`", ", ".join(states)) for name, states in completion.states().items()]
    return [
        roff.section("VALUES"),
        roff.tagged(
            [
                ("Protocol", f"{', '.join(PROTO_NAMES.values())}, any name of getprotobyname(3), or a number."),
                *((term, f"{words}.") for term, words in states),
                ("Status", f"{', '.join(STATUSES)}, in upper or lower case."),
                ("Event", f"{', '.join(EVENTS)}, in upper or lower case."),
                ("Key of `--sort`", f"{', '.join(SORT_KEYS)}."),
                *text.VALUES,
            ]
        ),
    ]


def _output() -> list[list[str]]:
    return [
        roff.section("OUTPUT FORMS"),
        roff.paragraphs(text.FORMS),
        _keys({form: roff.sentence(help_text) for form, help_text in FORMS.items()}),
        roff.subsection("Keys of json"),
        roff.paragraphs(text.JSON),
        _keys(text.JSON_KEYS),
        roff.paragraphs(text.JSON_EVENTS),
        _keys(text.JSON_EVENT_KEYS),
        roff.paragraphs(text.JSON_EXPECTATIONS),
        _keys(text.JSON_EXPECTATION_KEYS),
        roff.paragraphs(text.JSON_OTHERS),
    ]


def _keys(meanings: dict[str, str]) -> list[str]:
    return roff.tagged((f"`{key}`", meaning) for key, meaning in meanings.items())


def _examples() -> list[list[str]]:
    parts = [roff.section("EXAMPLES")]
    for line, what in text.EXAMPLES:
        parts += [roff.paragraphs(what), roff.example(line)]
    return parts


def _differences() -> list[list[str]]:
    return [
        roff.section("DIFFERENCES FROM CONNTRACK(8)"),
        roff.paragraphs(text.DIFFERENCES),
        roff.tagged((f"`{difference.line}`", _difference(difference)) for difference in DIFFERENCES),
        roff.paragraphs(text.MORE_DIFFERENCES),
    ]


def _difference(difference: Difference) -> str:
    statuses = f"exit status {difference.status}, in conntrack(8) {difference.conntrack_status}"
    return roff.sentence(f"{difference.why}: {statuses}")
