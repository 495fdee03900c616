"""A ruleset in its text form -> its translation. Recognises iptables-save text and nft text."""

import re
from typing import Final

from conntrackd_py.kernel.doctor import iptables_save
from conntrackd_py.kernel.doctor.findings import Context
from conntrackd_py.kernel.doctor.machine import savers
from conntrackd_py.kernel.maps import NAME as MAPS
from conntrackd_py.kernel.steering.leak_table import NAME as LEAK_TABLE
from conntrackd_py.kernel.steering.nft_rules import TABLE
from conntrackd_py.kernel.steering.programs import program, run
from conntrackd_py.kernel.translate import iptables_text, nft_text
from conntrackd_py.kernel.translate.places import Translation
from conntrackd_py.settings.schema import FAMILIES

IPTABLES, IP6TABLES, NFT = "iptables", "ip6tables", "nft"
FORMATS: Final = {IPTABLES: "ip", IP6TABLES: "ip6", NFT: ""}
IPTABLES_LINE: Final = re.compile(r"\*\w+\s*$|:\S+ \S+|(\[\d+:\d+\]\s*)?(-[A-Z]|--[a-z-]+) ")
NFT_LINE: Final = re.compile(
    r"(table|chain|rule|set|map|add|create|insert|replace|delete|destroy|flush|reset|define|redefine|undefine|include)\s"
)


class UnknownTextError(Exception):
    """The text is neither of iptables nor of nft."""


def recognised(text: str) -> str:
    """`iptables` or `nft`, by the first line that is no comment. Raises UnknownTextError."""
    lines = (line.strip() for line in text.split("\n"))
    first = next((line for line in lines if line and not line.startswith("#")), "*filter")
    if IPTABLES_LINE.match(first):
        return IPTABLES
    if NFT_LINE.match(first):
        return NFT
    raise UnknownTextError(f"neither the text of iptables-save nor of nft: {first[:60]}")


def translate(text: str, context: Context, form: str) -> Translation:
    """form: of FORMATS."""
    return nft_text.translate(text, context) if form == NFT else iptables_text.translate(text, context, FORMATS[form])


def in_force(context: Context, forms: list[str]) -> list[tuple[str, Translation]]:
    """(program that loads it, translation) of the rules in force. SteeringError: a program failed."""
    found = []
    shown = {("ip", TABLE), ("ip6", TABLE), ("inet", LEAK_TABLE), ("ip", MAPS), ("ip6", MAPS)}
    # and what iptables-save shows
    for family, form in zip(FAMILIES, (IPTABLES, IP6TABLES), strict=True):
        for backend, saver in savers(family):
            text = run([saver])
            if backend == "iptables":
                chains, _ = iptables_save.read(text, backend, FORMATS[form])
                shown |= {(chain.family, chain.table) for chain in chains}
            if form in forms and text:
                found.append((saver.replace("-save", "-restore"), translate(text, context, form)))
    if NFT in forms and program("nft"):
        own = nft_text.without(run(["nft", "list", "ruleset"]), shown)
        if own:
            found.append(("nft -f", translate(own, context, NFT)))
    return found
