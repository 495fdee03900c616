"""The maps from packet marks to translations, by which the kernel rewrites packets."""

from typing import Final

NAME: Final = "conntrackd_py_maps"  # of the nft tables
