"""The manual page conntrackd-py(8), from the argparse parsers and the prose of manual_conntrackd_text."""

from generators import manual_conntrackd_text as text
from generators import roff
from generators.completion import MAYBE, NOTHING
from generators.subcommands import HELP, PROGRAM, Argument, Subcommand, every


def page() -> str:
    nodes = list(every())
    return roff.page(
        (
            roff.head(PROGRAM, 8, text.NAME),
            roff.section("SYNOPSIS"),
            _synopsis(nodes),
            roff.section("DESCRIPTION"),
            roff.paragraphs(text.DESCRIPTION),
            roff.section("OPTIONS"),
            roff.tagged((_term(option), roff.sentence(option.help)) for option in nodes[0].options),
            roff.section("SUBCOMMANDS"),
            *(part for node in nodes[1:] for part in _subcommand(node)),
            roff.section("EXIT STATUS"),
            roff.paragraphs(text.EXIT_STATUS),
            roff.tagged(text.EXIT_STATUSES),
            roff.section("SIGNALS"),
            roff.tagged(text.SIGNALS),
            roff.section("CONTROL SOCKET"),
            roff.paragraphs(text.CONTROL),
            roff.example(text.CONTROL_EXAMPLE),
            roff.section("EXAMPLES"),
            *(part for line, what in text.EXAMPLES for part in (roff.paragraphs(what), roff.example(line))),
            roff.section("FILES"),
            roff.tagged(text.FILES),
            roff.section("ENVIRONMENT"),
            roff.tagged(text.ENVIRONMENT),
            roff.section("SEE ALSO"),
            [roff.inline(text.SEE_ALSO)],
        )
    )


def _synopsis(nodes: list[Subcommand]) -> list[str]:
    """A line for each subcommand without subcommands."""
    return roff.broken(
        " ".join((f"`{' '.join((PROGRAM, *node.path))}`", *(_optional(option) for option in _own(node))))
        for node in nodes
        if not node.subcommands
    )


def _own(node: Subcommand) -> list[Argument]:
    return [argument for argument in (*node.options, *node.arguments) if argument != HELP]


def _optional(argument: Argument) -> str:
    """For example [`-c` <FILE>]; a required option has no brackets."""
    words = f"`{argument.names[0]}`" if argument.names else ""
    if argument.takes != NOTHING:
        words += f" [<{argument.metavar}>]" if argument.takes == MAYBE and words else f" <{argument.metavar}>"
    dots = " ..." if argument.repeated else ""
    return f"{words.strip()}{dots}" if argument.required else f"[{words.strip()}]{dots}"


def _term(argument: Argument) -> str:
    names = ", ".join(f"`{name}`" for name in argument.names)
    value = f"<{argument.metavar}>" if argument.metavar else ""
    return f"{names} [{value}]" if names and argument.takes == MAYBE else f"{names} {value}".strip()


def _subcommand(node: Subcommand) -> list[list[str]]:
    name = " ".join(node.path)
    if node.subcommands:
        return []
    parts = [roff.subsection(name), roff.paragraphs(roff.sentence(node.help))]
    if name in text.MORE:
        parts.append(roff.paragraphs(text.MORE[name]))
    parts.append(roff.tagged((_term(option), roff.sentence(option.help)) for option in _own(node)))
    if name in text.EXITS:
        parts.append(roff.paragraphs(f"Exit status: {text.EXITS[name]}"))
    return parts
