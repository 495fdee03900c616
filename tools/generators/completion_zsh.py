"""Completion for zsh, of both commands: specifications for _arguments, chosen by the words on the line."""

from string import Template
from typing import Final

from conntrackd_py.cli.conntrack.options import COMMANDS, FORM_OF_EVERY_COMMAND, OPTIONS, TABLES, Option
from generators import WRITTEN, completion
from generators.completion import MAYBE, NOTHING, VALUE, Value
from generators.subcommands import Argument, Subcommand, every

CONNTRACK: Final = r"""#compdef conntrack-py
# $written

$helpers
_conntrack-py_takes() { # commands on connections, on expectations, protocols...: whether such an option is legal
    local letters=$$1
    [[ $$table == expect ]] && letters=$$2
    shift 2
    [[ -z $$command ]] || [[ $$letters == *$$command* ]] && (( ! $$# || $${@[(Ie)$$protocol]} ))
}

_conntrack-py() {
    local command table protocol next word hidden commands
    local -a specs tables states forms
    for word in "$${(@)words[2,CURRENT-1]}"; do
        [[ $$next == protocol ]] && protocol=$${(L)word}
        next=''
        case $$word in
$commands
        esac
        case $$word in
            (-p|-[A-Z]p|--protonum) next=protocol ;;
            (-p*|-[A-Z]p*) protocol=$${(L)word#*p} ;;
            (--protonum=*) protocol=$${(L)word#*=} ;;
            ($tables) table=$$word ;;
            (-[A-Z]($tables)) table=$${word[3,-1]} ;;
            (--*=($tables)) table=$${word#*=} ;;
        esac
    done
    case $$protocol in
$protocols
    esac
    case $$protocol in
$states
    esac
    forms=($everywhere)
    _conntrack-py_takes '$form_commands' '$form_expect' && forms=($forms)
    [[ $$words[CURRENT] == *,* ]] && forms=($${forms:#($alone)})
    case $$command in
$command_tables
    esac
    commands='($all)'
    if [[ -z $$command ]]; then
        hidden='!' # options before the command are parsed but not offered
        specs=(
$begin
        )
    else
        (( $$#tables )) && specs=("1::table:($$tables)")
        case $$command in
$command_specs
        esac
    fi
$options
    _arguments -s -S : $$specs
}

_conntrack-py "$$@"
"""


def conntrack() -> str:
    """The file for conntrack-py."""
    output = next(option for option in OPTIONS if option.key == "output")
    by_table: dict[tuple[str, ...], list[str]] = {}
    for option in COMMANDS:
        by_table.setdefault(completion.tables(option.key), []).append(option.key)
    return Template(CONNTRACK).substitute(
        written=WRITTEN,
        helpers="".join(
            _helper("_conntrack-py", value) for value in dict.fromkeys(completion.VALUES.values()) if value.command
        ),
        commands="\n".join(f"            ({_command_pattern(option)}) command={option.key} ;;" for option in COMMANDS),
        tables="|".join(TABLES),
        protocols="\n".join(
            f"        ({pattern}) protocol={name} ;;" for name, pattern in completion.proto_patterns().items()
        ),
        states="\n".join(
            f"        ({name}) states=({' '.join(states)}) ;;" for name, states in completion.states().items()
        ),
        all=" ".join(name for option in COMMANDS for name in option.names),
        alone="|".join(completion.FORM.alone),
        everywhere=FORM_OF_EVERY_COMMAND,
        forms=" ".join(completion.FORM.words),
        form_commands=output.commands,
        form_expect=output.expect,
        command_tables="\n".join(
            f"        ({'|'.join(keys)}) tables=({' '.join(tables)}) ;;" for tables, keys in by_table.items() if tables
        ),
        begin="\n".join(f"            {_spec(option, alone=True)}" for option in COMMANDS),
        command_specs="\n".join(
            f"            ({option.key}) specs+=({_spec(option, alone=option.key != 'R')}) ;;" for option in COMMANDS
        ),
        options="\n".join(_legal_spec(option) for option in OPTIONS),
    )


def _command_pattern(option: Option) -> str:
    return "|".join([f"-{option.short}*", *(f"--{name}|--{name}=*" for name in option.long)])


def _legal_spec(option: Option) -> str:
    connections, expectations = completion.legal(option)
    words = " ".join((f"'{connections}'", f"'{expectations}'", *option.protocols))
    return f"    _conntrack-py_takes {words} && specs+=({_spec(option, hidden=True)})"


def _spec(option: Option, *, alone: bool = False, hidden: bool = False) -> str:
    """The specification of an option for _arguments, names in braces. alone: for a command, without its table."""
    names = option.names
    takes = NOTHING if alone else completion.takes(option)
    marked = [_with_mark(name, takes) for name in names]
    braces = f"{{{','.join(marked)}}}" if len(marked) > 1 else marked[0]
    prefix = '"$hidden"' if hidden else '"$commands"' if alone else ""
    tail = f"[{_inside(option.help)}]"
    if takes != NOTHING:
        colon = "::" if takes == MAYBE else ":"
        tail += f"{colon}{_message(option.argument)}:{_action('_conntrack-py', completion.value(option))}"
    excluded = "" if alone else f"'({' '.join(names)})'"
    return f"{prefix}{excluded}{braces}{quoted(tail)}"


def _with_mark(name: str, takes: str) -> str:
    """The name with the mark for its value: -p+ and --protonum=."""
    if takes == NOTHING:
        return name
    return f"{name}=" if name.startswith("--") else f"{name}+"


def _action(prefix: str, value: Value) -> str:
    """The action of _arguments that completes the value."""
    plain = {
        completion.STATE: "($states)",
        completion.TABLE: "($tables)",
        completion.FORM: "_sequence compadd - $forms",
    }
    if value in plain:
        return plain[value]
    if value.files:
        return "_files"
    if value.command:
        return f"{'_sequence ' * value.several}{prefix}_{value.name}"
    if value.several:
        signed = tuple(f"-{word}" for word in value.words if value.signed)
        return f"_sequence compadd - {' '.join(value.words + signed)}"
    return f"({' '.join(value.words)})" if value.words else " "


def _helper(prefix: str, value: Value) -> str:
    return f'{prefix}_{value.name}() {{\n    compadd "$@" - ${{(f)"$({value.command})"}}\n}}\n\n'


def _inside(text: str) -> str:
    """Escaped for the brackets of an explanation."""
    return text.replace("\\", "\\\\").replace("[", "\\[").replace("]", "\\]").replace(":", "\\:")


def _message(argument: str) -> str:
    """The name of the value, without the brackets of an optional one."""
    text = argument[1:-1] if argument.startswith("[") else argument
    return text.replace(":", "\\:")


def quoted(text: str) -> str:
    """In single quotes, or in double quotes if it has a variable."""
    if "$" in text:
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("`", "\\`") + '"'
    return "'" + text.replace("'", "'\\''") + "'"


CONNTRACKD: Final = r"""#compdef conntrackd-py
# $written

$functions
_conntrackd-py "$$@"
"""


def conntrackd() -> str:
    """The file for conntrackd-py."""
    return Template(CONNTRACKD).substitute(written=WRITTEN, functions="\n".join(_function(node) for node in every()))


def _name(node: Subcommand) -> str:
    return "_".join(("_conntrackd-py", *node.path))


def _function(node: Subcommand) -> str:
    """A function that completes the words after this subcommand."""
    specs = [_argument(option) for option in node.options]
    if not node.subcommands:
        specs += [
            quoted(f"{'*' if argument.repeated else number}:{_message(argument.metavar)}:{_of(argument)}")
            for number, argument in enumerate(node.arguments, 1)
        ]
        lines = " \\\n        ".join(("_arguments -s -S :", *specs))
        return f"{_name(node)}() {{\n    {lines}\n}}\n"
    specs += ["'1:command:->command'", "'*::argument:->argument'"]
    arguments = " \\\n        ".join(("_arguments -C -s -S :", *specs))
    described = "\n".join(
        f"                {quoted(f'{child.name}:{completion.sentence(child.help)}')}" for child in node.subcommands
    )
    cases = "\n".join(f"                ({child.name}) {_name(child)} ;;" for child in node.subcommands)
    return f"""{_name(node)}() {{
    local curcontext=$curcontext state line
    local -a commands
    {arguments}
    case $state in
        (command)
            commands=(
{described}
            )
            _describe -t commands command commands
            ;;
        (argument)
            case $line[1] in
{cases}
            esac
            ;;
    esac
}}
"""


def _argument(option: Argument) -> str:
    marked = [_with_mark(name, option.takes) for name in option.names]
    braces = f"{{{','.join(marked)}}}" if len(marked) > 1 else marked[0]
    prefix = "'*'" if option.repeated else f"'({' '.join(option.names)})'"
    tail = f"[{_inside(completion.sentence(option.help))}]"
    if option.takes != NOTHING:
        tail += f"{':' if option.takes == VALUE else '::'}{_message(option.metavar)}:{_of(option)}"
    return f"{prefix}{braces}{quoted(tail)}"


def _of(argument: Argument) -> str:
    return _action("_conntrackd-py", argument.value)
