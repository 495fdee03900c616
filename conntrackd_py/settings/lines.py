"""The line of every key and table of a TOML text. tomllib reports lines only for wrong syntax.

The text must be one that tomllib accepts. Paths are written as in errors: `queue.first`, `nat[2].to`. The keys of an
inline table have no line of their own. A path has no line either if another key may have the same path: if it occurs
twice, or if a quoted key of it contains a dot or a bracket.
"""

import re
import tomllib
from typing import Final

TOKEN: Final = re.compile(
    r'''
      (?P<string> """ (?: \\. | [^\\] )*? """ "{0,2} | \'\'\' .*? \'\'\' '{0,2}
                | " (?: \\. | [^"\\\n] )* " | ' [^'\n]* ' )
    | (?P<comment> \# [^\n]* )
    | (?P<newline> \n )
    | (?P<sign> [][{}=.,] )
    | (?P<bare> [^\s"'\#\[\]{}=.,]+ )
    ''',
    re.VERBOSE | re.DOTALL,
)


def lines_of(text: str) -> dict[str, int]:
    """The line, from 1, by path."""
    scan = _Scan()
    line = at = 1
    end = 0
    for token in TOKEN.finditer(text):
        at = line + text.count("\n", end, token.start())
        scan.take(str(token.lastgroup), token[0], at)
        line, end = at + token[0].count("\n"), token.end()
    scan.take("newline", "\n", line)
    return {path: number for path, number in scan.lines.items() if number}


class _Scan:
    """A statement is a header or `key = value`. It ends with a line that ends outside of strings and brackets."""

    def __init__(self) -> None:
        self.lines: dict[str, int] = {}  # 0: no line
        self.lengths: dict[str, int] = {}  # of the arrays of tables
        self.table = ""
        self.plain = True  # no dot or bracket in a key of the table's path
        self.header = 0  # opening brackets of the header
        self.keys: list[str] = []
        self.in_value = False
        self.depth = 0  # of brackets in the value

    def take(self, kind: str, word: str, line: int) -> None:
        if kind == "newline":
            if self.header and self.keys:
                self._enter(line)
            if not self.depth:
                self.header, self.keys, self.in_value = 0, [], False
        elif self.in_value:
            if kind == "sign":
                self.depth += (word in "[{") - (word in "]}")
        elif word == "=":
            self._note(self._path(self.table, self.keys), line, self.plain and _plain(self.keys))
            self.in_value = True
        elif word == "[":
            self.header += 1
        elif kind in ("bare", "string"):
            self.keys.append(word if kind == "bare" else tomllib.loads(f"key = {word}")["key"])

    def _enter(self, line: int) -> None:
        """The header of a table, or of the next table of an array."""
        path = self._path("", self.keys)
        if self.header == 2 and _plain(self.keys):  # else another table may have this path
            self.lengths[path] = self.lengths.get(path, 0) + 1
            path += f"[{self.lengths[path] - 1}]"
        self.table, self.plain = path, _plain(self.keys)
        self._note(path, line, self.plain)

    def _path(self, path: str, keys: list[str]) -> str:
        """On the way an array of tables stands for its last table."""
        for key in keys:
            if path in self.lengths:
                path += f"[{self.lengths[path] - 1}]"
            path = f"{path}.{key}" if path else key
        return path

    def _note(self, path: str, line: int, plain: bool) -> None:
        self.lines[path] = line if plain and path not in self.lines else 0


def _plain(keys: list[str]) -> bool:
    return not any("." in key or "[" in key for key in keys)
