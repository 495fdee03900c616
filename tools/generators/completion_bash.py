"""Completion for bash 4.2, of both commands. The package bash-completion loads it; no function of it is used.

Each file has a table, one option a row, and functions that parse the line with it. bash splits words at `=` and `:`, so
`--sort=src` arrives as three words.
"""

from string import Template
from typing import Final

from conntrackd_py.cli.conntrack.options import (
    ALL,
    COMMANDS,
    EVERYTHING,
    FORM_OF_EVERY_COMMAND,
    OPTIONS,
    TABLES,
    Option,
)
from generators import WRITTEN, completion
from generators.completion import Value
from generators.subcommands import Argument, Subcommand, every

ABSENT: Final = "-"  # in a column of a table

CONNTRACK: Final = r"""# bash completion for conntrack-py
# $written

# One option a row: names; whether it takes a value; the commands that take it on connections, and on expectations;
# the protocols it needs; the kind of its value.
_conntrack_py_rows='
$rows
'

_conntrack_py_row() { # name: the row of that option, in names takes connections expectations protocols kind
    while read -r names takes connections expectations protocols kind; do
        [[ ,$$names, == *",$$1,"* ]] && return
    done <<<"$$_conntrack_py_rows"
    return 1
}

# Parses the words before the cursor: command (its letter), table, protocol, given (names of options), and waiting: the
# option whose value comes next, with the columns of its row.
_conntrack_py_read() { # word...
    local word letters
    for word; do
        [[ $$word == = ]] && continue
        if [[ -n $$waiting && ! ($$takes == maybe && $$word == -*) ]]; then
            _conntrack_py_take "$$word"
            continue
        fi
        waiting=''
        case $$word in
            --*=*) _conntrack_py_name "$${word%%=*}" && _conntrack_py_take "$${word#*=}" ;;
            --?*) _conntrack_py_name "$$word" ;;
            -?*)
                letters=$${word#-}
                while [[ -n $$letters ]]; do
                    _conntrack_py_name "-$${letters:0:1}"
                    letters=$${letters:1}
                    [[ $$kind == table && ' $tables ' != *" $$letters "* ]] && continue
                    if [[ -n $$letters && -n $$waiting ]]; then
                        _conntrack_py_take "$$letters"
                        break
                    fi
                done
                ;;
            *) [[ ' $tables ' == *" $$word "* ]] && table=$$word ;;
        esac
    done
}

_conntrack_py_name() { # name: an option on the line
    waiting=''
    _conntrack_py_row "$$1" || return
    given+="$$names,"
    case $$1 in
$commands
    esac
    [[ $$takes != - ]] && waiting=$$1
    return 0
}

_conntrack_py_take() { # value: of the waiting option
    case $$kind in
        table) table=$$1 ;;
        protocol)
            case $${1,,} in
$protocols
                *) protocol=$$1 ;;
            esac
            ;;
    esac
    waiting=''
}

_conntrack_py_options() { # sets words: the options that are legal now
    local names takes connections expectations protocols kind column
    words=''
    while read -r names takes connections expectations protocols kind; do
        [[ -z $$names || $$given == *",$$names,"* ]] && continue
        if [[ -z $$command ]]; then
            [[ $$connections == command ]] || continue
        else
            column=$$connections
            [[ $$table == expect ]] && column=$$expectations
            [[ $$column != command && $$column == *"$$command"* ]] || continue
            [[ $$protocols == - || ,$$protocols, == *",$$protocol,"* ]] || continue
        fi
        words+=" $${names//,/ }"
    done <<<"$$_conntrack_py_rows"
}

_conntrack_py_tables() { # sets words: the tables of the command
    case $$command in
$command_tables
        *) words='' ;;
    esac
}

# Sets words; several (comma-separated), signed, and alone (words that exclude others).
_conntrack_py_words() { # kind
    several='' signed='' alone='' words=''
    case $$1 in
$values
        table) _conntrack_py_tables ;;
        state)
            case $$protocol in
$states
            esac
            ;;
        form)
            several=yes alone='$alone'
            case $$table:$$command in
$forms
                *) words='$everywhere' ;;
            esac
            ;;
    esac
}

$shared

_conntrack_py() {
    local cur=$${COMP_WORDS[COMP_CWORD]} command='' table='' protocol='' given=, waiting='' before=''
    local words several signed alone
    local names takes connections expectations protocols kind
    COMPREPLY=()
    _conntrack_py_read "$${COMP_WORDS[@]:1:COMP_CWORD-1}"
    [[ $$cur == = ]] && cur=''
    if [[ $$cur == --*=* ]]; then
        before=$${cur%%=*}=
        _conntrack_py_row "$${cur%%=*}" || return
        waiting=$${cur%%=*} cur=$${cur#*=}
    fi
    if [[ -n $$waiting && ! ($$takes == maybe && $$cur == -*) ]]; then
        _conntrack_py_words "$$kind"
        _conntrack_py_value "$$kind"
    elif [[ $$cur != -* && -n $$command && -z $$table ]]; then
        _conntrack_py_tables
        mapfile -t COMPREPLY < <(compgen -W "$$words" -- "$$cur")
    fi
    [[ -n $$waiting && $$takes == value || -n $$before ]] && return
    if [[ $${#COMPREPLY[@]} == 0 && ($$cur == -* || -z $$cur) ]]; then
        _conntrack_py_options
        mapfile -t COMPREPLY < <(compgen -W "$$words" -- "$$cur")
    fi
} && complete -F _conntrack_py conntrack-py
"""

SHARED: Final = r"""_NAME_value() { # kind: completes cur with words, or with files
    if [[ $1 == file ]]; then
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -P "$before" -f -- "$cur")
        return
    fi
    local kept='' piece=$cur word fitting=''
    if [[ -n $several && $cur == *,* ]]; then
        kept=${cur%,*}, piece=${cur##*,}
    fi
    [[ -n $signed && $piece == -* ]] && words=" $words" words=${words// / -}
    for word in $words; do
        [[ -n $kept ]] && [[ " $alone " == *" $word "* || " $alone " == *" ${kept%,} "* ]] && continue
        [[ ,$kept == *",$word,"* ]] || fitting+=" $before$kept$word"
    done
    mapfile -t COMPREPLY < <(compgen -W "$fitting" -- "$before$cur")
    word=${COMPREPLY[0]-}
    [[ -n $several && " $alone " != *" ${word#"$before"} "* ]] && compopt -o nospace 2>/dev/null
    return 0
}"""


def conntrack() -> str:
    """The file for conntrack-py."""
    values = [item for item in {value.name: value for value in completion.VALUES.values()}.values() if _plain(item)]
    return Template(CONNTRACK).substitute(
        written=WRITTEN,
        rows="\n".join(_row(option) for option in EVERYTHING),
        tables=" ".join(TABLES),
        commands=_cases(8, {pattern: f"command={key}" for key, pattern in completion.command_patterns().items()}),
        protocols=_cases(16, {pattern: f"protocol={name}" for name, pattern in completion.proto_patterns().items()}),
        command_tables=_cases(8, _gathered({letter: completion.tables(letter) for letter in ALL}, "words")),
        values=_cases(8, {value.name: _words(value) for value in values}),
        states=_cases(16, {name: f"words='{' '.join(states)}'" for name, states in completion.states().items()}),
        alone=" ".join(completion.FORM.alone),
        forms=_forms(),
        everywhere=FORM_OF_EVERY_COMMAND,
        shared=SHARED.replace("NAME", "conntrack_py"),
    )


def _row(option: Option) -> str:
    command = option in COMMANDS
    connections, expectations = ("command", "command") if command else completion.legal(option)
    return " ".join(
        (
            ",".join(option.names),
            completion.takes(option) or ABSENT,
            connections or ABSENT,
            expectations or ABSENT,
            ",".join(option.protocols) or ABSENT,
            completion.value(option).name,
        )
    )


def _plain(value: Value) -> bool:
    return bool(value.words or value.command) and value != completion.FORM


def _words(value: Value) -> str:
    several = "several=yes " * value.several + "signed=yes " * value.signed
    words = f"$({value.command})" if value.command else " ".join(value.words)
    quote = '"' if value.command else "'"
    return f"{several}words={quote}{words}{quote}"


def _cases(indent: int, cases: dict[str, str]) -> str:
    return "\n".join(f"{' ' * indent}{pattern}) {action} ;;" for pattern, action in cases.items())


def _gathered(words: dict[str, tuple[str, ...]], name: str) -> dict[str, str]:
    """Cases; patterns with the same words are joined."""
    patterns: dict[tuple[str, ...], list[str]] = {}
    for pattern, found in words.items():
        if found:
            patterns.setdefault(found, []).append(pattern)
    return {"|".join(together): f"{name}='{' '.join(found)}'" for found, together in patterns.items()}


def _forms() -> str:
    output = next(option for option in OPTIONS if option.key == "output")
    action = f"words='{' '.join(completion.FORM.words)}'"
    patterns = {f"expect:[{output.expect}]": action, "expect:?": f"words='{FORM_OF_EVERY_COMMAND}'"}
    return _cases(16, patterns | {f"*:[{output.commands}]": action, "*:": action})


CONNTRACKD: Final = r"""# bash completion for conntrackd-py
# $written

# One option a row: the subcommand; names; whether it takes a value; the kind of its value.
_conntrackd_py_rows='
$rows
'

$shared

_conntrackd_py_words() { # kind: sets words
    words=''
    case $$1 in
$values
    esac
}

_conntrackd_py_enter() { # word: enters that subcommand, or counts an argument
    case $$place:$$1 in
$steps
        *) arguments=$$((arguments + 1)) ;;
    esac
}

_conntrackd_py_row() { # name: sets at names takes kind to the row of that option
    while read -r at names takes kind; do
        [[ $$at == "$$place" && ,$$names, == *",$$1,"* ]] && return
    done <<<"$$_conntrackd_py_rows"
    return 1
}

_conntrackd_py_options() { # sets words: the options that are legal now
    words=''
    local at names takes kind
    while read -r at names takes kind; do
        [[ $$at == "$$place" ]] && words+=" $${names//,/ }"
    done <<<"$$_conntrackd_py_rows"
}

_conntrackd_py() {
    local cur=$${COMP_WORDS[COMP_CWORD]} place=/ arguments=0 waiting='' before='' words word
    local several='' signed='' alone=''
    local at names takes kind
    COMPREPLY=()
    for word in "$${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        [[ $$word == = ]] && continue
        if [[ -n $$waiting && ! ($$takes == maybe && $$word == -*) ]]; then
            waiting=''
        elif [[ $$word == -?* ]]; then
            waiting=''
            _conntrackd_py_row "$$word" && [[ $$takes != - ]] && waiting=$$word
        else
            _conntrackd_py_enter "$$word"
        fi
    done
    [[ $$cur == = ]] && cur=''
    if [[ $$cur == --*=* ]]; then
        before=$${cur%%=*}=
        _conntrackd_py_row "$${cur%%=*}" || return
        waiting=$${cur%%=*} cur=$${cur#*=}
    fi
    if [[ -n $$waiting && ! ($$takes == maybe && $$cur == -*) ]]; then
        _conntrackd_py_words "$$kind"
        _conntrackd_py_value "$$kind"
    elif [[ $$cur == -* ]]; then
        _conntrackd_py_options
        mapfile -t COMPREPLY < <(compgen -W "$$words" -- "$$cur")
    else
        case $$place:$$arguments in
$arguments
        esac
        if [[ $${#COMPREPLY[@]} == 0 && -z $$cur ]]; then
            _conntrackd_py_options
            mapfile -t COMPREPLY < <(compgen -W "$$words" -- "$$cur")
        fi
    fi
} && complete -F _conntrackd_py conntrackd-py
"""


def conntrackd() -> str:
    """The file for conntrackd-py."""
    places = {place(node): node for node in every()}
    words = {
        argument.value.name: _words(argument.value)
        for node in places.values()
        for argument in (*node.options, *node.arguments)
        if _plain(argument.value)
    }
    steps = {f"{at}:{child.name}": f"place={place(child)}" for at, node in places.items() for child in node.subcommands}
    return Template(CONNTRACKD).substitute(
        written=WRITTEN,
        rows="\n".join(_argument_row(at, option) for at, node in places.items() for option in node.options),
        values=_cases(8, words),
        steps=_cases(8, steps),
        arguments="\n".join(_arguments(at, node) for at, node in places.items() if node.subcommands or node.arguments),
        shared=SHARED.replace("NAME", "conntrackd_py"),
    )


def place(node: Subcommand) -> str:
    """For example /rules/print."""
    return "/" + "/".join(node.path)


def _argument_row(at: str, option: Argument) -> str:
    return " ".join((at, ",".join(option.names), option.takes or ABSENT, option.value.name))


def _arguments(at: str, node: Subcommand) -> str:
    """The cases for subcommands and positional arguments."""
    if node.subcommands:
        words = " ".join(child.name for child in node.subcommands)
        return _cases(12, {f"{at}:0": f"mapfile -t COMPREPLY < <(compgen -W '{words}' -- \"$cur\")"})
    return "\n".join(
        f"{' ' * 12}{at}:{number if not argument.repeated else '*'})\n"
        f"{' ' * 16}_conntrackd_py_words {argument.value.name}\n"
        f"{' ' * 16}_conntrackd_py_value {argument.value.name}\n"
        f"{' ' * 16};;"
        for number, argument in enumerate(node.arguments)
    )
