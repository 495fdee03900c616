"""Makes text from outside (a process name, an interface, a rule's comment) safe for a terminal or a log."""


def escaped(text: str) -> str:
    r"""text with every character that is not printable as an escape: `\x1b`, `\n`, `\u202e`.

    Those are control characters (C0, DEL, C1), line and paragraph separators, those that turn the direction of writing,
    other invisible ones, and halves of a surrogate pair.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def escaped_lines(text: str) -> str:
    """The same for text whose line breaks are meant."""
    return "\n".join(escaped(line) for line in text.split("\n"))
