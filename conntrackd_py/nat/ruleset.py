"""The NAT rules in force: which rule a new connection gets. Asked once per connection and hook."""

from typing import Final, final

from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.const import LOCAL_IN, LOCAL_OUT, MANIP_DST, POST_ROUTING, PRE_ROUTING
from conntrackd_py.match.match import Match, PacketInfo
from conntrackd_py.nat.interfaces import Interfaces
from conntrackd_py.nat.rules import NAT_ACCEPT, NatRule

NO_NAMES: Final[dict[int, str]] = {}
UNKNOWN: Final = "/"  # no interface has this name; an inverted match accepts it


def packet_info(source: bytes, destination: bytes, protonum: int, sport: int, dport: int) -> PacketInfo:
    """What NAT rules compare; the ruleset adds the interface."""
    info = PacketInfo(NO_NAMES)
    info.fill(source, destination, protonum)
    info.sport = sport
    info.dport = dport
    return info


@final
class Ruleset:
    """source_rules: of POSTROUTING. destination_rules: of PREROUTING and OUTPUT together."""

    def __init__(self, rules: list[NatRule], interfaces: Interfaces) -> None:
        self.interfaces = interfaces
        self.source_rules = [rule for rule in rules if POST_ROUTING in rule.hooks]
        self.input_rules = [rule for rule in rules if LOCAL_IN in rule.hooks]
        self.deterministic = any(rule.deterministic for rule in rules)
        self.hairpins = any(rule.hairpin is not None for rule in rules)
        self.destination_rules = [r for r in rules if PRE_ROUTING in r.hooks or LOCAL_OUT in r.hooks]
        self.incoming = [rule for rule in rules if PRE_ROUTING in rule.hooks]
        self.own = [rule for rule in rules if LOCAL_OUT in rule.hooks]

    def source(self, info: PacketInfo, outdev: int, skb: Skb | None = None, indev: int = 0) -> NatRule | None:
        """The first source rule that matches a packet that leaves by outdev; 0: to the router, by indev.

        skb: for its mark and connection. None: they are not known; only rules that translate are taken to match them.
        """
        info.in_interface = "" if outdev else self._name(indev)
        info.out_interface = self._name(outdev)
        return self._first(self.source_rules if outdev else self.input_rules, info, skb)

    def destination(self, info: PacketInfo, indev: int, skb: Skb | None = None) -> NatRule | None:
        """The first destination rule that matches a packet that came in by indev; 0: sent by the router."""
        info.in_interface, info.out_interface = self._name(indev), ""
        return self._first(self.incoming if indev else self.own, info, skb)

    def balancing(self) -> list[NatRule]:
        """The rules with several targets."""
        return [rule for rule in self.destination_rules if rule.targets is not None]

    def hairpinned(self, info: PacketInfo, link: int) -> bool:
        """Whether a packet that came in by this link and leaves by it was translated by a rule with hairpin."""
        if not self.hairpins:
            return False
        rule = self.destination(info, link)
        return rule is not None and rule.hairpin is not None

    def undecided(self, info: PacketInfo, manip: int) -> bool:
        """Whether the rule that `source` or `destination` would find for this info depends on a mark or connection."""
        if manip == MANIP_DST:
            rules = self.incoming if info.in_interface else self.own
        else:
            rules = self.source_rules if info.out_interface else self.input_rules
        for rule in rules:
            if self._fits(rule, info):
                return rule.match.conditional
        return False

    def translates(self, outdev: int) -> bool:
        """Whether a rule may translate the source of some packet that leaves by this interface."""
        name = self._name(outdev)
        return any(rule.action != NAT_ACCEPT and rule.leaves_by(name) for rule in self.source_rules)

    def _first(self, rules: list[NatRule], info: PacketInfo, skb: Skb | None) -> NatRule | None:
        for rule in rules:
            if self._fits(rule, info) and rule.match.holds(skb, rule.action != NAT_ACCEPT):
                return rule
        return None

    def _fits(self, rule: NatRule, info: PacketInfo) -> bool:
        """An unread field matches rules that translate, not rules that exempt: nothing leaves untranslated."""
        if rule.to.low and len(rule.to.low) != len(info.source):
            return False
        if rule.to_local and self.interfaces.is_router(info.destination) != (rule.to_local > 0):
            return False
        if rule.match.fits(info, rule.action != NAT_ACCEPT):
            return True
        return rule.hairpin is not None and self._from_inside(rule, rule.hairpin, info)

    def _from_inside(self, rule: NatRule, hairpin: Match, info: PacketInfo) -> bool:
        """Whether a host calls the outer address of the rule: its destination, or an address of its in_interface."""
        if not info.in_interface or not hairpin.fits(info, True):
            return False
        outer = rule.match.in_interface
        if rule.match.destination is not None or outer is None:
            return True
        return any(outer.has(name) for name in self.interfaces.names_with(info.destination))

    def _name(self, index: int) -> str:
        return (self.interfaces.name(index) or UNKNOWN) if index else ""


def translating(rule: NatRule | None) -> NatRule | None:
    """The rule, unless it is ACCEPT."""
    return None if rule is None or rule.action == NAT_ACCEPT else rule
