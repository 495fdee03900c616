"""The lines of keys, compared with tomllib: which lines of the text does it need to know the key?"""

import tomllib

from hypothesis import given
from hypothesis import strategies as st

from conntrackd_py.settings.lines import lines_of

KEYS = st.sampled_from(["a", "b", "mode", "first", "to", '"q k"', '"a.b"', "'l.k'", '"\\u0061"', "1", "nat", "rule"])
STRINGS = [
    '"x"',
    '""',
    "'y = 1'",
    '"# \\" ["',
    '"""\na = 1\n[b]\n"""',
    '"""x"""""',
    '"""x""""',
    '"""\\""""',
    "'''\n[[nat]]\nq = 1'''",
    "'''x''''",
]
SCALARS = st.sampled_from([*STRINGS, "1", "-1.5", "0xff", "true", "1979-05-27T07:32:00"])
TABLES = SCALARS.map(lambda value: f"{{ a = {value}, b.c = [{value}] }}")
LISTS = st.lists(st.one_of(SCALARS, TABLES)).map(lambda found: "[ # ]\n" + ",\n".join(found) + "\n]")
VALUES = st.one_of(SCALARS, SCALARS, LISTS, TABLES, LISTS.map(lambda one: f"[{one}, {one}]"))
DOTTED = st.lists(KEYS, min_size=1, max_size=3).map(" . ".join)
ENDS = st.sampled_from(["\n", "\n\n", " # a = 1 [b]\n", "\r\n", "  \n# x = 1\n"])
STATEMENTS = st.one_of(
    st.tuples(DOTTED, st.sampled_from([" = ", "="]), VALUES),
    st.tuples(st.just("["), DOTTED, st.just("]")),
    st.tuples(st.just("[["), DOTTED, st.just("]]")),
)


def paths(value: object, path: str = "") -> list[str]:
    """Of every table and key."""
    found = [path] if path else []
    if isinstance(value, dict):
        for key, inner in value.items():
            found += paths(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list) and value and all(isinstance(inner, dict) for inner in value):
        for at, inner in enumerate(value):
            found += paths(inner, f"{path}[{at}]")
    return found


def values(value: object, path: str = "") -> list[str]:
    """Of what is not a table: a table can exist before its header, because of a table in it."""
    if isinstance(value, dict):
        return [one for key, inner in value.items() for one in values(inner, f"{path}.{key}" if path else key)]
    if isinstance(value, list) and value and all(isinstance(inner, dict) for inner in value):
        return [one for at, inner in enumerate(value) for one in values(inner, f"{path}[{at}]")]
    return [path]


def read(text: str) -> dict[str, object] | None:
    """None if it is not TOML."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return None


def document(statements: list[tuple[tuple[str, ...], str]]) -> str:
    """The statements that tomllib accepts after the ones before them."""
    text = ""
    for words, end in statements:
        longer = text + "".join(words) + end
        text = longer if read(longer) is not None else text
    return text


@given(st.lists(st.tuples(STATEMENTS, ENDS), max_size=8))
def test_a_line_is_the_one_where_tomllib_needs_it(statements: list[tuple[tuple[str, ...], str]]) -> None:
    """Without the line and the rest the path is unknown; with the line and what it begins, the path is known."""
    text = document(statements)
    parts = text.split("\n")
    for path, line in lines_of(text).items():
        assert path not in values(read("\n".join(parts[: line - 1])) or {}), (path, line)
        ends = (read("\n".join(parts[:end])) for end in range(line, len(parts) + 1))
        assert path in paths(next(found for found in ends if found is not None)), (path, line)


RULE = st.fixed_dictionaries({}, optional=dict.fromkeys(("to", "action", "comment", "timeouts"), SCALARS))


@given(st.dictionaries(st.sampled_from(["queue", "log", "metrics"]), RULE), st.lists(RULE), st.lists(RULE), ENDS)
def test_every_key_of_the_samples_style_has_its_line(
    tables: dict[str, dict[str, str]], nat: list[dict[str, str]], rules: list[dict[str, str]], end: str
) -> None:
    text = "# head\n"
    expected = {}
    blocks = [(f"[{name}]", name, keys) for name, keys in tables.items()]
    blocks += [("[[nat]]", f"nat[{at}]", keys) for at, keys in enumerate(nat)]
    blocks += [("[[filter.rule]]", f"filter.rule[{at}]", keys) for at, keys in enumerate(rules)]
    for header, path, keys in blocks:
        expected[path] = text.count("\n") + 1
        text += header + end
        for key, value in keys.items():
            expected[f"{path}.{key}"] = text.count("\n") + 1
            text += f"{key} = {value}{end}"
    assert read(text) is not None
    assert lines_of(text) == expected
