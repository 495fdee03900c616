"""Prefix translation: another network, the same host in it. One address inside is one address outside.

NETMAP keeps the host bits. NPTv6 (RFC 6296) also changes one 16-bit word, so that the sum of the address stays the same
and no checksum of a higher layer changes: the subnet with a prefix of at most /48, otherwise the first word of the
interface identifier that is not 0xffff. An address without such a word has no translation.
Sources: netmap_tg, ip6t_npt_map_pfx.
"""

from typing import Final, final

from conntrackd_py.wire import checksum

SUBNET_AT: Final = 64  # lowest bit of the subnet, the fourth word
IDENTIFIER_AT: Final = (48, 32, 16, 0)  # of the words of the interface identifier
LONGEST_WITH_SUBNET: Final = 48  # bits of prefix
ALL_ONES: Final = 0xFFFF  # equals 0 in ones' complement


@final
class Prefix:
    """low, high: first and last address of the network to translate to. before: the network translated from, NPTv6."""

    def __init__(self, low: bytes, high: bytes, before: bytes = b"") -> None:
        self.size = len(low)
        self.network = int.from_bytes(low, "big")
        self.hosts = int.from_bytes(high, "big") - self.network
        self.neutral = bool(before)
        self.adjustment = checksum.total(before) - checksum.total(low)

    def translate(self, address: bytes) -> bytes:
        """The address in the other network; empty if it has none."""
        found = self.network | int.from_bytes(address, "big") & self.hosts
        if self.neutral:
            at = self._word_at(found)
            word = found >> at & ALL_ONES
            if word == ALL_ONES:
                return b""
            found += ((word + self.adjustment) % ALL_ONES - word) << at
        return found.to_bytes(self.size, "big")

    def _word_at(self, address: int) -> int:
        """The lowest bit of the word that is adjusted."""
        if self.hosts.bit_length() >= 128 - LONGEST_WITH_SUBNET:
            return SUBNET_AT
        for at in IDENTIFIER_AT:
            if address >> at & ALL_ONES != ALL_ONES:
                return at
        return IDENTIFIER_AT[0]
