"""Rewriter: the kernel, where it rewrites packets in the daemon's place."""

from abc import abstractmethod

from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.conntrack.core import Extension
from conntrackd_py.conntrack.skb import Skb


class Rewriter(Extension):
    @abstractmethod
    def takes(self, skb: Skb, ct: NfConn, now: int) -> bool:
        """Whether the kernel translates this packet of ct after its verdict. Then the daemon must not change it."""
