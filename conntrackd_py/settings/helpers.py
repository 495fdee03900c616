"""The helpers that a raw rule can name: those of the daemon, and of installed packages.

A package adds one with an entry point of the group GROUP: its name is the name of the helper, its object the class. The
code of a package is loaded only if a rule names its helper.
"""

from importlib import metadata
from typing import Final

from conntrackd_py.helpers.builtin import BUILTIN
from conntrackd_py.helpers.helper import Helper

GROUP: Final = "conntrackd_py.helpers"


class HelperError(Exception):
    """The package of a helper cannot be used; the text says why."""


def names() -> list[str]:
    """Those of the daemon first."""
    return list(dict.fromkeys([*BUILTIN, *sorted(metadata.entry_points(group=GROUP).names)]))


def find(name: str) -> type[Helper] | None:
    """The class of a helper, None for an unknown name. Raises HelperError."""
    if name in BUILTIN:
        return BUILTIN[name]
    for point in metadata.entry_points(group=GROUP, name=name):
        try:
            found = point.load()
        except Exception as error:  # whatever a package does wrong, the operator reads it as a mistake of the file
            raise HelperError(f"{point.value}: {type(error).__name__}: {error}") from error
        if not (isinstance(found, type) and issubclass(found, Helper) and found.name == name):
            raise HelperError(f"{point.value} is no Helper with this name")
        return found
    return None
