"""The line of a key."""

import pytest

from conntrackd_py.settings.lines import lines_of

TEXT = '''\
mode = "nat"  # = [x]
"a key".'of three'.parts = 1
[queue] # [x]
first = [1,
  "[", """x"""", "]", # ]
  \'\'\'x\'\'\'\', ']',
  { inner = 1 },
]
text = """
x = 1
\\""" y = 2 """"" # z = 3
after = {one = 1, two = ["]"]}

[[nat]]
to = ":80"

[[ nat ]]
to=1.5
[nat.below]
key = 2026-11-21T16:00:00
[filter]
[[filter.rule]]
a=\'\'\'
b=1\'\'\'
c=""
d="""x"""
'''
EXPECTED = {
    "mode": 1,
    "a key.of three.parts": 2,
    "queue": 3,
    "queue.first": 4,
    "queue.text": 9,
    "queue.after": 12,
    "nat[0]": 14,
    "nat[0].to": 15,
    "nat[1]": 17,
    "nat[1].to": 18,
    "nat[1].below": 19,
    "nat[1].below.key": 20,
    "filter": 21,
    "filter.rule[0]": 22,
    "filter.rule[0].a": 23,
    "filter.rule[0].c": 25,
    "filter.rule[0].d": 26,
}


def test_every_table_and_key() -> None:
    assert lines_of(TEXT) == EXPECTED


def test_other_ends_of_lines() -> None:
    assert lines_of(TEXT.replace("\n", "\r\n")) == EXPECTED
    assert lines_of(TEXT.rstrip()) == EXPECTED


@pytest.mark.parametrize(
    "text",
    ['a.b = 1\n"a.b" = 2', '"a.b" = 1\na.c = { b = 2 }', 'a = [{ b = 1 }]\n["a[0]"]\nb = 2'],
)
def test_a_path_that_may_be_that_of_two_keys_has_no_line(text: str) -> None:
    assert not {"a.b", "a[0]", "a[0].b"} & lines_of(text).keys()


def test_an_array_with_a_dot_in_its_key_is_on_no_other_path() -> None:
    assert lines_of('[["a.b"]]\n[a.b.c]\nd = 1') == {"a.b.c": 2, "a.b.c.d": 3}
