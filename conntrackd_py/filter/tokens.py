"""nft text as words, one after the other, each knowing its line."""

import re
from typing import Final, final

from conntrackd_py.filter.words import ExprError

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
    """A place in the text. Within an expression a new line is a blank; in a ruleset it ends a statement."""

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
            raise ExprError(f"{shown(self.peek())} where {word} belongs, {where}", self.peek())

    def value(self, what: str) -> str:
        """The next word, which must not be punctuation; quotes are taken off."""
        word = self.peek()
        if word in (END, NEWLINE) or word[0] in "{}();,&|^!<>=":
            raise ExprError(f"{shown(word)} where {what} belongs", word)
        self.at += 1
        return word.strip('"')


def shown(word: str) -> str:
    if word == END:
        return "nothing"
    return "the end of the line" if word == NEWLINE else word
