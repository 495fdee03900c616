"""Generate shell completion and manual pages: `scripts/generate` writes share/."""

from typing import Final

WRITTEN: Final = "Written by scripts/generate from the tables of the program; do not edit."
