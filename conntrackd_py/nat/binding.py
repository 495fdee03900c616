"""What a rule binds a connection to, and whether a connection is still bound as the rules say."""

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.const import MANIP_SRC
from conntrackd_py.nat.interfaces import Interfaces
from conntrackd_py.nat.ports import Range
from conntrackd_py.nat.rules import NAT_ACCEPT, NAT_MASQUERADE, NAT_REDIRECT, NatRule
from conntrackd_py.nat.ruleset import Flow, Ruleset


def as_it_is(current: bytes, manip: int) -> Range:
    """A null binding's range: the address it has."""
    own = tuples.src(current) if manip == MANIP_SRC else tuples.dst(current)
    return Range(own, own, 0, 0, False, False)


def range_of(rule: NatRule, interfaces: Interfaces, indev: int, outdev: int, current: bytes) -> Range:
    """Where the rule maps a connection to. `low` is empty when the interface has no address of the family."""
    low, high = rule.to_low, rule.to_high
    if rule.action == NAT_MASQUERADE:
        low = high = interfaces.select(outdev, len(tuples.src(current)))
    elif rule.action == NAT_REDIRECT:
        low = high = interfaces.select(indev, len(tuples.dst(current)))
    elif not low:  # only ports given
        low = high = tuples.dst(current)
    return Range(low, high, rule.port_low, rule.port_high, rule.random, rule.persistent)


def leads_to(rule: NatRule, interfaces: Interfaces, address: bytes) -> bool:
    """Whether this source rule may map to the address. MASQUERADE: an interface that it allows has the address."""
    if rule.action == NAT_ACCEPT:
        return False
    if rule.action != NAT_MASQUERADE:
        return len(rule.to_low) == len(address) and rule.to_low <= address <= rule.to_high
    for link in interfaces.links.values():
        if address in link.addresses and (rule.out_interface is None or rule.out_interface.matches(link.name)):
            return True
    return False


def flow_of(ct: NfConn, current: bytes, indev: int, outdev: int) -> Flow:
    """What rules can ask about a connection whose packets look like `current`."""
    sport = dport = -1
    if ct.l4proto.ports:
        sport, dport = tuples.l4src(current), tuples.l4dst(current)
    protonum = tuples.protonum(current)
    return Flow(tuples.src(current), tuples.dst(current), protonum, sport, dport, indev, outdev)


def outdated(rules: Ruleset, interfaces: Interfaces, ct: NfConn) -> bool:
    """Whether the rules would translate ct's first packet to something else than ct is translated to.

    A port that a null binding changed counts as untranslated. Both interfaces of ct must be known.
    """
    now = tuples.swapped(ct.reply, ct.l4proto.invert(tuples.l4(ct.reply)))
    rule = rules.destination(flow_of(ct, ct.original, ct.iif, 0))
    port = tuples.l4dst(now) if ct.l4proto.ports else 0
    if rule is None:
        same_port = not ct.l4proto.ports or port == tuples.l4dst(ct.original)
        if tuples.dst(now) != tuples.dst(ct.original) or not same_port:
            return True
    else:
        wanted = range_of(rule, interfaces, ct.iif, 0, ct.original)
        kept = wanted.has_ports or not ct.l4proto.ports or port == tuples.l4dst(ct.original)
        if not wanted.low or not wanted.holds(tuples.dst(now), port) or not kept:
            return True
    before = tuples.with_src(now, tuples.src(ct.original), tuples.l4src(ct.original))
    rule = rules.source(flow_of(ct, before, 0, ct.oif)) if ct.oif else None
    if rule is None:
        return tuples.src(now) != tuples.src(ct.original)
    wanted = range_of(rule, interfaces, 0, ct.oif, before)
    return not wanted.low or not wanted.holds(tuples.src(now), tuples.l4src(now))
