"""A set of interface names, possibly inverted (`!`); `+` at the end of a name matches any continuation (iptables)."""

from typing import Final, final

LONGEST: Final = 15  # IFNAMSIZ without its closing zero


@final
class InterfaceNames:
    def __init__(self, names: list[str], invert: bool = False) -> None:
        self.names = names
        self.invert = invert

    def has(self, name: str) -> bool:
        """False for an empty name (no interface at this hook), inverted or not."""
        if not name:
            return False
        for wanted in self.names:
            if name == wanted or (wanted.endswith("+") and name.startswith(wanted[:-1])):
                return not self.invert
        return self.invert


def wrong_name(name: str) -> str:
    """Why no interface can have this name, `+` at the end allowed; empty when one can."""
    if not name:
        return "must not be empty"
    if len(name) > LONGEST:
        return f"is longer than the {LONGEST} characters of an interface name"
    if "/" in name or any(c.isspace() or not c.isprintable() for c in name) or name in (".", ".."):
        return "is not an interface name"
    return ""
