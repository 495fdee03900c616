"""Writes DIRECTORY/share/: completion and manual pages of both commands, as an installation has them."""

import sys
from pathlib import Path
from typing import Final

from generators import (
    completion_bash,
    completion_fish,
    completion_zsh,
    manual_conntrack,
    manual_conntrackd,
    manual_toml,
)

USAGE: Final = "usage: python -m generators DIRECTORY"


def files() -> dict[str, str]:
    """The text of each file, by its path below the directory."""
    return {
        "share/bash-completion/completions/conntrack-py": completion_bash.conntrack(),
        "share/bash-completion/completions/conntrackd-py": completion_bash.conntrackd(),
        "share/fish/vendor_completions.d/conntrack-py.fish": completion_fish.conntrack(),
        "share/fish/vendor_completions.d/conntrackd-py.fish": completion_fish.conntrackd(),
        "share/man/man5/conntrackd.toml.5": manual_toml.page(),
        "share/man/man8/conntrack-py.8": manual_conntrack.page(),
        "share/man/man8/conntrackd-py.8": manual_conntrackd.page(),
        "share/zsh/site-functions/_conntrack-py": completion_zsh.conntrack(),
        "share/zsh/site-functions/_conntrackd-py": completion_zsh.conntrackd(),
    }


def main(argv: list[str] | None = None) -> int:
    """0 written, 2 wrong usage."""
    arguments = sys.argv[1:] if argv is None else argv
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print(USAGE, file=sys.stderr)
        return 2
    for name, text in files().items():
        path = Path(arguments[0]) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
