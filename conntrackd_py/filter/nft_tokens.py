"""nft text split into words, each with its line."""

import re
from typing import Final, final

from conntrackd_py.match.words import ParseError

NEWLINE: Final = "\n"
END: Final = ""
WORD: Final = re.compile(
    r"""
      [ \t\r]+ | \\\n | \#[^\n]*             # between the words
    | ( "[^"\n]*" | \n
      | == | != | <= | >= | << | >> | [][{}();,&|^!<>=]
      | [^][{}();,&|^!<>="\#\s\\]+
      | . )
    """,
    re.VERBOSE,
)


@final
class Cursor:
    """A position in the text. lines: a new line is a word, because it ends a statement of a ruleset."""

    def __init__(self, text: str, lines: bool = False) -> None:
        self.words: list[str] = []
        self.numbers: list[int] = []  # line of each word
        self.at = 0
        line = 1
        for found in WORD.finditer(text):
            word = found.group(1)
            if word is not None and (lines or word != NEWLINE):
                self.words.append(word)
                self.numbers.append(line)
            line += found.group(0).count(NEWLINE)

    @property
    def line(self) -> int:
        """The line of the next word, or of the last one."""
        if not self.numbers:
            return 1
        return self.numbers[min(self.at, len(self.numbers) - 1)]

    def peek(self, ahead: int = 0) -> str:
        at = self.at + ahead
        return self.words[at] if at < len(self.words) else END

    def take(self) -> str:
        word = self.peek()
        self.at += 1
        return word

    def skip(self, word: str) -> bool:
        """Take the next word if it is this one."""
        if self.peek() != word:
            return False
        self.at += 1
        return True

    def expect(self, word: str, where: str) -> None:
        if not self.skip(word):
            raise ParseError(f"expected {word} {where}, found {shown(self.peek())}", self.peek())

    def value(self, what: str) -> str:
        """Take the next word, which must not be punctuation; quotes are removed."""
        word = self.peek()
        if word in (END, NEWLINE) or word[0] in "{}();,&|^!<>=":
            raise ParseError(f"expected {what}, found {shown(word)}", word)
        self.at += 1
        return word.strip('"')


def shown(word: str) -> str:
    if word == END:
        return "the end of the text"
    return "the end of the line" if word == NEWLINE else word
