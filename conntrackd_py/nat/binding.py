"""From a NAT rule to the range it maps a connection to, and whether a connection still agrees with the rules."""

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.conn import L4Proto, NfConn
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.const import (
    IP_CT_RELATED,
    IP_CT_RELATED_REPLY,
    IPPROTO_ICMP,
    IPPROTO_ICMPV6,
    IPS_DST_NAT,
    IPS_SRC_NAT,
    MANIP_DST,
    MANIP_SRC,
    ORIGINAL,
)
from conntrackd_py.match.match import ABSENT, PacketInfo
from conntrackd_py.nat.carrier.deterministic import slice_of
from conntrackd_py.nat.interfaces import LOOPBACK, Interfaces
from conntrackd_py.nat.range import Range
from conntrackd_py.nat.rules import NAT_ACCEPT, NAT_MASQUERADE, NAT_REDIRECT, NatRule
from conntrackd_py.nat.ruleset import Ruleset, packet_info, translating


def inverted(t: bytes, l4proto: L4Proto) -> bytes:
    """The tuple of the answers to t (nf_ct_invert_tuple)."""
    return tuples.swapped(t, l4proto.invert(tuples.l4(t)))


def null_range(current: bytes, manip: int) -> Range:
    """The range of a null binding: the present address."""
    own = tuples.src(current) if manip == MANIP_SRC else tuples.dst(current)
    return Range(own, own)


def masquerade_range(interfaces: Interfaces, dev: int, current: bytes) -> Range:
    """The address of an interface, of the family of the tuple; `low` is empty if it has none."""
    address = interfaces.select(dev, len(tuples.src(current)))
    return Range(address, address)


def range_of(rule: NatRule, interfaces: Interfaces, dev: int, current: bytes) -> Range:
    """Where the rule maps a connection to. `low` is empty when there is no address to map to.

    dev: the outgoing interface for a source rule, the incoming one for a destination rule, 0 for none. current: the
    tuple so far.
    """
    to = rule.to
    if rule.deterministic:
        own = slice_of(rule, tuples.src(current))
        return Range(own[0], own[0], own[1], own[2], to.random) if own is not None else Range()
    if rule.action == NAT_REDIRECT and not dev:  # nf_nat_redirect at LOCAL_OUT
        address = LOOPBACK[len(tuples.src(current))]
    elif rule.action in (NAT_MASQUERADE, NAT_REDIRECT):
        address = interfaces.select(dev, len(tuples.src(current)))
    elif rule.prefix is None and to.low:
        return to
    else:
        address = tuples.src(current) if rule.translates(MANIP_SRC) else tuples.dst(current)
        if rule.prefix is not None:
            address = rule.prefix.translate(address)
    return Range(address, address, to.port_low, to.port_high, to.random, to.persistent)


def leads_to(rule: NatRule, interfaces: Interfaces, address: bytes) -> bool:
    """Whether this source rule may map to the address. MASQUERADE: one of its outgoing interfaces has the address."""
    if rule.action == NAT_ACCEPT:
        return False
    if rule.action != NAT_MASQUERADE:
        return rule.to.has_address(address)
    return any(address in link.addresses and rule.leaves_by(link.name) for link in interfaces.links.values())


def is_error(skb: Skb) -> bool:
    """Whether skb is an ICMP error about its connection."""
    if skb.ctinfo != IP_CT_RELATED and skb.ctinfo != IP_CT_RELATED_REPLY:
        return False
    return skb.protonum == IPPROTO_ICMP or skb.protonum == IPPROTO_ICMPV6


def status_bit(manip: int, direction: int) -> int:
    """The status bit of this manip in this direction; replies are rewritten the opposite way."""
    source = (manip == MANIP_SRC) == (direction == ORIGINAL)
    return IPS_SRC_NAT if source else IPS_DST_NAT


def info_of(ct: NfConn, current: bytes) -> PacketInfo:
    """What rules compare of a packet with the tuple `current`."""
    sport = dport = ABSENT
    if ct.l4proto.ports:
        sport, dport = tuples.l4src(current), tuples.l4dst(current)
    return packet_info(tuples.src(current), tuples.dst(current), tuples.protonum(current), sport, dport)


def outdated(rules: Ruleset, interfaces: Interfaces, ct: NfConn) -> bool:
    """Whether the rules would translate the first packet of ct differently today.

    A port that a null binding changed counts as untranslated. Both interfaces of ct must be known. A rule that depends
    on a mark or on the connection counts as agreeing: what they were is not known.
    """
    now = inverted(ct.reply, ct.l4proto)
    info = info_of(ct, ct.original)
    rule = translating(rules.destination(info, ct.iif))
    if rules.undecided(info, MANIP_DST):
        return False
    port = tuples.l4dst(now) if ct.l4proto.ports else 0
    same_port = not ct.l4proto.ports or port == tuples.l4dst(ct.original)
    if rule is None:
        if tuples.dst(now) != tuples.dst(ct.original) or not same_port:
            return True
    else:
        ranges = rule.ranges if rule.targets is not None else [range_of(rule, interfaces, ct.iif, ct.original)]
        address = tuples.dst(now)
        if not any(to.low and to.holds(address, port) and (to.has_ports or same_port) for to in ranges):
            return True
    before = tuples.with_src(now, tuples.src(ct.original), tuples.l4src(ct.original))
    info = info_of(ct, before)
    rule = translating(rules.source(info, ct.oif, indev=ct.iif))
    if rules.undecided(info, MANIP_SRC):
        return False
    if rule is not None:
        wanted = range_of(rule, interfaces, ct.oif, before)
    elif ct.iif == ct.oif and ct.oif and rules.hairpinned(info_of(ct, ct.original), ct.iif):
        wanted = masquerade_range(interfaces, ct.oif, before)
    else:
        return tuples.src(now) != tuples.src(ct.original)
    return not wanted.low or not wanted.holds(tuples.src(now), tuples.l4src(now))
