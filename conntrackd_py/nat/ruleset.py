"""The rules in force: the first that matches binds, per kind. Asked once per new connection and hook."""

from typing import Final, final

from conntrackd_py.nat.interfaces import Interfaces
from conntrackd_py.nat.rules import (
    ANY_PROTO,
    NAT_ACCEPT,
    NAT_DNAT,
    NAT_MASQUERADE,
    NAT_REDIRECT,
    NAT_SNAT,
    NatRule,
    Ports,
)

UNREAD: Final = -2  # a field that cannot be read: rules that translate match it, rules that exempt do not


@final
class Flow:
    """What a rule can ask about a packet. Ports are -1 when its protocol has none.

    UNREAD stands for a protocol or port that is not in the packet or in a part of it that cannot be read.
    """

    def __init__(
        self, source: bytes, destination: bytes, protonum: int, sport: int, dport: int, indev: int, outdev: int
    ) -> None:
        self.source = source
        self.destination = destination
        self.protonum = protonum
        self.sport = sport
        self.dport = dport
        self.indev = indev
        self.outdev = outdev


@final
class Ruleset:
    """An ACCEPT rule belongs to the kind its interface allows: out_interface makes it a source rule."""

    def __init__(self, rules: list[NatRule], interfaces: Interfaces) -> None:
        self.interfaces = interfaces
        self.source_rules = [r for r in rules if r.action in (NAT_SNAT, NAT_MASQUERADE) or _exempts_source(r)]
        self.destination_rules = [r for r in rules if r.action in (NAT_DNAT, NAT_REDIRECT) or _exempts_destination(r)]

    def source(self, flow: Flow) -> NatRule | None:
        """The rule that translates the source; None when there is none, or an ACCEPT rule comes first."""
        return translating(self.first_source(flow))

    def destination(self, flow: Flow) -> NatRule | None:
        return translating(self.first_destination(flow))

    def first_source(self, flow: Flow) -> NatRule | None:
        """The first source rule that matches, ACCEPT or not."""
        return self._first(self.source_rules, flow)

    def first_destination(self, flow: Flow) -> NatRule | None:
        return self._first(self.destination_rules, flow)

    def translates(self, outdev: int) -> bool:
        """Whether a rule may translate the source of some packet that leaves by this interface."""
        flow = Flow(b"", b"", UNREAD, UNREAD, UNREAD, 0, outdev)
        return any(rule.action != NAT_ACCEPT and self._interfaces_match(rule, flow) for rule in self.source_rules)

    def _first(self, rules: list[NatRule], flow: Flow) -> NatRule | None:
        for rule in rules:
            if self._matches(rule, flow):
                return rule
        return None

    def _matches(self, rule: NatRule, flow: Flow) -> bool:
        if rule.protonum not in (ANY_PROTO, flow.protonum) and not _assumed(rule, flow.protonum):
            return False
        if rule.family and rule.family != (4 if len(flow.source) == 4 else 6):
            return False
        if rule.to_low and len(rule.to_low) != len(flow.source):
            return False
        if rule.action == NAT_REDIRECT and not flow.indev:  # it goes to an address of the interface it came in by
            return False
        if rule.source is not None and not rule.source.matches(flow.source):
            return False
        if rule.destination is not None and not rule.destination.matches(flow.destination):
            return False
        if not _port_fits(rule, rule.sport, flow.sport) or not _port_fits(rule, rule.dport, flow.dport):
            return False
        return self._interfaces_match(rule, flow)

    def _interfaces_match(self, rule: NatRule, flow: Flow) -> bool:
        wanted = rule.in_interface
        if wanted is not None and (not flow.indev or not wanted.matches(self.interfaces.name(flow.indev))):
            return False
        wanted = rule.out_interface
        return wanted is None or (flow.outdev != 0 and wanted.matches(self.interfaces.name(flow.outdev)))


def translating(rule: NatRule | None) -> NatRule | None:
    """The rule, unless it is ACCEPT."""
    return None if rule is None or rule.action == NAT_ACCEPT else rule


def _assumed(rule: NatRule, value: int) -> bool:
    """Whether to take an unreadable value for what the rule asks: then nothing leaves untranslated."""
    return value == UNREAD and rule.action != NAT_ACCEPT


def _port_fits(rule: NatRule, wanted: Ports | None, port: int) -> bool:
    return wanted is None or (port >= 0 and wanted.matches(port)) or _assumed(rule, port)


def _exempts_source(rule: NatRule) -> bool:
    return rule.action == NAT_ACCEPT and rule.in_interface is None


def _exempts_destination(rule: NatRule) -> bool:
    return rule.action == NAT_ACCEPT and rule.out_interface is None
