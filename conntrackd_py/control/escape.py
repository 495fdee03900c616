"""Escapes text of other programs (process name, interface, comment) for a terminal or a log."""


def escaped(text: str) -> str:
    r"""text with every character that is not printable as an escape: `\x1b`, `\n`, `\u202e`.

    Not printable are control characters (C0, DEL, C1), separators of lines and paragraphs, changes of the writing
    direction, other invisible characters, and surrogates.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def escaped_lines(text: str) -> str:
    """The same, but line breaks stay."""
    return "\n".join(escaped(line) for line in text.split("\n"))
