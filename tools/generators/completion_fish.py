"""Completion for fish, of both commands: one `complete` an option, with the condition under which it is legal."""

from string import Template
from typing import Final

from conntrackd_py.cli.conntrack.options import ALL, COMMANDS, OPTIONS, TABLES, Option
from generators import WRITTEN, completion
from generators.completion import MAYBE, NOTHING, Value
from generators.subcommands import Argument, Subcommand, every

CONNTRACK: Final = r"""# fish completion for conntrack-py
# $written

function __conntrack_py_read -S --description 'Set command (its letter), table and protocol from the line'
    set -l words (commandline -opc)
    set -l line ' '(string join ' ' -- $$words[2..-1])' '
    for word in $$words[2..-1]
        switch $$word
$commands
        end
    end
    set table (string match -r -- ' (?:-[A-Z]|--[a-z-]+=)?($tables) ' $$line)[2]
    set protocol (string lower -- (string match -r -- ' (?:-[A-Z]?p ?|--protonum[= ])([^ ]+) ' $$line)[2])
    switch "$$protocol"
$protocols
    end
end

function __conntrack_py_begins --description 'Whether no command is on the line'
    set -l command
    set -l table
    set -l protocol
    __conntrack_py_read
    test -z "$$command"
end

function __conntrack_py_takes -a connections expectations --description 'Whether it is a command that takes this'
    set -l command
    set -l table
    set -l protocol
    __conntrack_py_read
    if test -z "$$command" # then only the value of an option that stands before it
        string match -q -- '-*' (commandline -opc)[-1]; or return
    end
    set -l letters $$connections
    test "$$table" = expect; and set letters $$expectations
    string match -q -- "*$$command*" $$letters; or return
    test (count $$argv) -lt 3; or contains -- "$$protocol" $$argv[3..-1]
end

function __conntrack_py_wants -a letters --description 'Whether the command is one of these letters and has no table'
    set -l command
    set -l table
    set -l protocol
    __conntrack_py_read
    test -n "$$command" -a -z "$$table"; and string match -q -- "*$$command*" $$letters
end

function __conntrack_py_several --description 'The words that are not yet among those separated by commas'
    set -l token (string replace -r -- '^--[^=]*=' '' (commandline -ct))
    set -l kept (string match -r -- '.*,' $$token)
    test -n "$$kept"; or set kept ''
    for word in $$argv
        string match -q -- "*,$$word,*" ",$$kept"; or printf '%s\n' $$kept$$word
    end
end

complete -c conntrack-py -f
$completions
"""


def conntrack() -> str:
    """The file for conntrack-py."""
    return Template(CONNTRACK).substitute(
        written=WRITTEN,
        commands="\n".join(_command_case(option) for option in COMMANDS),
        tables="|".join(TABLES),
        protocols="\n".join(
            f"        case {pattern.replace('|', ' ')}\n            set protocol {name}"
            for name, pattern in completion.proto_patterns().items()
        ),
        completions="\n".join(
            [_line("__conntrack_py_begins", option) for option in COMMANDS]
            + [_tables(option) for option in COMMANDS if completion.tables(option.key)]
            + [
                "complete -c conntrack-py -n '__conntrack_py_takes R' -F",
                *(line for option in OPTIONS for line in _option(option)),
            ]
        ),
    )


def _command_case(option: Option) -> str:
    longs = " ".join(f"--{name} '--{name}=*'" for name in option.long)
    return f"            case '-{option.short}*' {longs}\n                set command {option.key}"


def _tables(option: Option) -> str:
    words = " ".join(completion.tables(option.key))
    return f"complete -c conntrack-py -n '__conntrack_py_wants {option.key}' -a '{words}'"


def _option(option: Option) -> list[str]:
    """One line, or one for each set of values."""
    value = completion.value(option)
    connections, expectations = completion.legal(option)
    if value == completion.STATE:
        return [
            _line(_takes(connections, expectations, name), option, words) for name, words in completion.states().items()
        ]
    if value == completion.FORM:
        others = "".join(letter for letter in connections if letter not in option.commands)
        others_expect = "".join(letter for letter in expectations if letter not in option.expect)
        return [
            _line(_takes(option.commands, option.expect), option, value.words, several=True),
            _line(_takes(others, others_expect), option, completion.forms(ALL[-1], "conntrack")),
        ]
    condition = _takes(connections, expectations, *option.protocols)
    return [_line(condition, option, _signed(value), several=value.several)]


def _takes(connections: str, expectations: str, *protocols: str) -> str:
    return " ".join(("__conntrack_py_takes", connections or '""', expectations or '""', *protocols))


def _signed(value: Value) -> tuple[str, ...]:
    return value.words + tuple(f"-{word}" for word in value.words if value.signed)


def _line(condition: str, option: Option, words: tuple[str, ...] = (), *, several: bool = False) -> str:
    value = completion.value(option)
    names = "".join(f" -s {option.short}" if option.short else "") + "".join(f" -l {name}" for name in option.long)
    return (
        f"complete -c conntrack-py -n {quoted(condition)}{names}"
        f"{_value(completion.takes(option), value, words, several)} -d {quoted(option.help)}"
    )


def _value(takes: str, value: Value, words: tuple[str, ...], several: bool) -> str:
    """The part of a line that describes the value."""
    if takes in (NOTHING, MAYBE):
        return ""  # fish completes an optional value only after `=`
    if value.files:
        return " -r -F"
    if value.command:
        lines = f"(__conntrack_py_several ({value.command}))" if several else f"({value.command})"
        return f" -x -a {quoted(lines)}"
    if not words:
        return " -x"
    if not several:
        return f" -x -a {quoted(' '.join(words))}"
    text = f"(__conntrack_py_several {' '.join(word for word in words if word not in value.alone)})"
    text = " ".join((text, *value.alone))
    return f" -x -a {quoted(text)}"


def quoted(text: str) -> str:
    """In single quotes of fish."""
    text = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{text}'"


CONNTRACKD: Final = r"""# fish completion for conntrackd-py
# $written

function __conntrackd_py_at --description 'Whether the line began with these subcommands'
    set -l words
    for word in (commandline -opc)[2..-1]
        string match -q -- '-*' $$word; or set -a words $$word
    end
    set -l last (count $$argv)
    test (count $$words) -ge $$last; and test "$$words[1..$$last]" = "$$argv"
end

function __conntrackd_py_begins --description 'Whether these subcommands are all there is on the line'
    set -l words
    for word in (commandline -opc)[2..-1]
        string match -q -- '-*' $$word; or set -a words $$word
    end
    test "$$words" = "$$argv"
end

complete -c conntrackd-py -f
$completions
"""


def conntrackd() -> str:
    """The file for conntrackd-py."""
    lines = [line for node in every() for line in _subcommand(node)]
    return Template(CONNTRACKD).substitute(written=WRITTEN, completions="\n".join(lines))


def _subcommand(node: Subcommand) -> list[str]:
    """Its options, arguments and subcommands."""
    begins = quoted(" ".join(("__conntrackd_py_begins", *node.path)))
    at = begins if node.subcommands else quoted(" ".join(("__conntrackd_py_at", *node.path)))
    lines = [
        f"complete -c conntrackd-py -n {begins} -a {child.name} -d {quoted(completion.sentence(child.help))}"
        for child in node.subcommands
    ]
    lines += [f"complete -c conntrackd-py -n {at} -F" for argument in node.arguments[:1] if argument.value.files]
    return lines + [f"complete -c conntrackd-py -n {at}{_names(option)}" for option in node.options]


def _names(option: Argument) -> str:
    names = "".join(f" -l {name[2:]}" if name.startswith("--") else f" -s {name[1:]}" for name in option.names)
    end = _value(option.takes, option.value, option.value.words, option.value.several)
    return f"{names}{end} -d {quoted(completion.sentence(option.help))}"
