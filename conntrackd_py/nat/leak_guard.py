"""The leak guard: a packet without a connection that a source rule matches does not leave untranslated.

The kernel has no such guard. The author of a source rule wants no untranslated packet outside.
"""

from conntrackd_py.conntrack.conn import L4Proto
from conntrackd_py.conntrack.skb import Skb, forwarded
from conntrackd_py.const import IP_CT_UNTRACKED, IPPROTO_ICMPV6
from conntrackd_py.match.match import ABSENT, UNREAD, PacketInfo
from conntrackd_py.nat.interfaces import Interfaces
from conntrackd_py.nat.ruleset import Ruleset, packet_info, translating
from conntrackd_py.wire import icmp, ip


def leaks(skb: Skb, rules: Ruleset, interfaces: Interfaces, protos: list[L4Proto]) -> bool:
    """Whether a source rule matches this packet, or could match one of its fields that cannot be read."""
    if not _may_leak(skb):
        return False
    reason = ip.parse(skb)
    if not skb.version:
        return rules.translates(skb.outdev)
    pair = ip.addresses(skb)
    half = len(pair) // 2
    source = pair[:half]
    if interfaces.owns(skb.outdev, source):
        return False
    info = _info(skb, source, pair[half:], reason, protos[skb.protonum])
    rule = translating(rules.source(info, skb.outdev))
    return rule is not None and not rule.to.has_address(source)


def _info(skb: Skb, source: bytes, destination: bytes, reason: int, l4proto: L4Proto) -> PacketInfo:
    """reason: why the packet cannot be parsed; OK if it can."""
    l4 = l4proto.l4(skb) if not reason else b""
    protonum = UNREAD if reason and skb.version == 6 else skb.protonum  # 6: an extension header is broken
    sport = dport = UNREAD if protonum == UNREAD or l4proto.ports else ABSENT
    if l4proto.ports and l4:
        sport, dport = l4[0] << 8 | l4[1], l4[2] << 8 | l4[3]
    return packet_info(source, destination, protonum, sport, dport)


def _may_leak(skb: Skb) -> bool:
    """False for an UNTRACKED packet, which a raw rule exempted.

    Neighbour discovery and MLD are UNTRACKED by their type; the router must not forward them.
    """
    if skb.ctinfo != IP_CT_UNTRACKED:
        return True
    if skb.protonum != IPPROTO_ICMPV6 or skb.dataoff >= skb.end:
        return False
    return icmp.is_v6_untracked(skb.data[skb.dataoff]) and forwarded(skb)
