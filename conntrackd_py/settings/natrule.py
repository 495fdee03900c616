"""A [[nat]] table -> NatRule, in the vocabulary of iptables and with its checks.

A rule that iptables would refuse is refused here: an interface its chain does not know, ports without
a protocol that has them, addresses of both families.
"""

from typing import Final

from conntrackd_py import const
from conntrackd_py.const import WITH_PORTS
from conntrackd_py.nat.rules import (
    ANY_PROTO,
    NAT_ACCEPT,
    NAT_ACTIONS,
    NAT_DNAT,
    NAT_MASQUERADE,
    NAT_REDIRECT,
    NAT_SNAT,
    Interface,
    NatRule,
    Net,
    Ports,
)
from conntrackd_py.settings import spelling
from conntrackd_py.settings.errors import ABSENT, did_you_mean
from conntrackd_py.settings.schema import FAMILIES, IPV4
from conntrackd_py.settings.spelling import ANYTHING, Target
from conntrackd_py.settings.table import Table

SOURCE_NAT: Final = (NAT_SNAT, NAT_MASQUERADE)
DESTINATION_NAT: Final = (NAT_DNAT, NAT_REDIRECT)
# `to` may also choose the identifier of an echo request, as in iptables.
WITH_TARGET_PORTS: Final = (*WITH_PORTS, const.IPPROTO_ICMP)
# NatRule.family is the version field of the packets it matches; 0 matches both.
VERSION_4: Final = 4
VERSION_6: Final = 6
FAMILY_OF_PROTO: Final = {const.IPPROTO_ICMP: VERSION_4, const.IPPROTO_ICMPV6: VERSION_6}


def nat_rule(table: Table, label: str) -> NatRule:
    """The rule the table describes. After a mistake, which is noted in the table's report, any rule."""
    reader = _Reader(table)
    rule = NatRule(
        reader.action(),
        in_interface=reader.interface("in_interface"),
        out_interface=reader.interface("out_interface"),
        source=reader.net("source"),
        destination=reader.net("destination"),
        protonum=reader.protonum(),
        sport=reader.ports("sport"),
        dport=reader.ports("dport"),
        random=table.boolean("random", False),
        persistent=table.boolean("persistent", False),
        family=reader.family(),
        label=label,
        comment=table.string("comment", ""),
    )
    target = reader.target(rule.action)
    rule.to_low, rule.to_high = target.low, target.high
    rule.port_low, rule.port_high = target.port_low, target.port_high
    rule.family = _one_family(table, rule)
    table.reject_unknown()
    _check_interfaces(table, rule)
    _check_ports(table, rule)
    if rule.persistent and rule.action not in (NAT_SNAT, NAT_DNAT):
        table.wrong("persistent", f"{NAT_ACTIONS[rule.action]} has no persistent")
    return rule


class _Reader:
    """The fields of one rule; each notes its own mistakes and then counts as absent."""

    def __init__(self, table: Table) -> None:
        self.table = table

    def action(self) -> int:
        if self.table.value("action") is ABSENT:
            self.table.wrong("action", f"is required: one of {', '.join(NAT_ACTIONS)}")
        return NAT_ACTIONS.index(self.table.choice("action", "ACCEPT", NAT_ACTIONS))

    def family(self) -> int:
        if self.table.value("family") is ABSENT:
            return 0
        return VERSION_4 if self.table.choice("family", IPV4, FAMILIES) == IPV4 else VERSION_6

    def text(self, key: str) -> str:
        """The value as a string, a number spelled out; empty when absent."""
        value = self.table.value(key)
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        return self.table.string(key, "")

    def interface(self, key: str) -> Interface | None:
        if self.table.value(key) is ABSENT:
            return None
        name, invert = spelling.negation(self.table.string(key, "+"))
        if why := spelling.wrong_interface(name):
            self.table.wrong(key, why)
            return None
        return Interface(name, invert)

    def net(self, key: str) -> Net | None:
        if self.table.value(key) is ABSENT:
            return None
        text, invert = spelling.negation(self.table.string(key, "0.0.0.0/0"))
        try:
            network = spelling.network(text)
        except ValueError as error:
            self.table.wrong(key, str(error))
            return None
        return Net(network.network_address.packed, network.prefixlen, invert)

    def protonum(self) -> int:
        text = self.text("proto").lower()
        if text in ("", "all"):
            return ANY_PROTO
        if text in ("icmp6", "ipv6-icmp"):
            return const.IPPROTO_ICMPV6
        if text in const.PROTO_NUMBERS:
            return const.PROTO_NUMBERS[text]
        if text.isascii() and text.isdigit() and 0 < int(text) < 256:
            return int(text)
        known = (*const.PROTO_NUMBERS, "all")
        self.table.wrong("proto", f"must be one of {', '.join(known)} or a number{did_you_mean(text, known)}")
        return ANY_PROTO

    def ports(self, key: str) -> Ports | None:
        if self.table.value(key) is ABSENT:
            return None
        text, invert = spelling.negation(self.text(key))
        try:
            low, high = spelling.matched_ports(text)
        except ValueError as error:
            self.table.wrong(key, str(error))
            return None
        return Ports(low, high, invert)

    def target(self, action: int) -> Target:
        name = NAT_ACTIONS[action]
        if self.table.value("to") is ABSENT:
            if action in (NAT_SNAT, NAT_DNAT):
                self.table.wrong("to", f"{name} needs it")
            return ANYTHING
        if action == NAT_ACCEPT:
            self.table.wrong("to", "ACCEPT translates nothing")
            return ANYTHING
        try:
            if action in (NAT_MASQUERADE, NAT_REDIRECT):
                return Target(b"", b"", *spelling.target_ports(self.text("to").removeprefix(":")))
            return spelling.target(self.text("to"))
        except ValueError as error:
            self.table.wrong("to", str(error))
            return ANYTHING


def _one_family(table: Table, rule: NatRule) -> int:
    """4, 6, or 0 when nothing in the rule decides; two answers are a mistake."""
    decided = {
        "family": rule.family,
        "source": _family_of(rule.source.length) if rule.source else 0,
        "destination": _family_of(rule.destination.length) if rule.destination else 0,
        "proto": FAMILY_OF_PROTO.get(rule.protonum, 0),
        "to": _family_of(len(rule.to_low)),
    }
    family, decider = 0, ""
    for key, of_key in decided.items():
        if family and of_key and of_key != family:
            table.wrong(key, f"is IPv{of_key}, but {decider} is IPv{family}")
        elif of_key and not family:
            family, decider = of_key, key
    return family


def _family_of(length: int) -> int:
    return {4: VERSION_4, 16: VERSION_6}.get(length, 0)


def _check_interfaces(table: Table, rule: NatRule) -> None:
    name = NAT_ACTIONS[rule.action]
    if rule.in_interface and rule.action in SOURCE_NAT:
        table.wrong("in_interface", f"{name} works at POSTROUTING, which knows only out_interface")
    if rule.out_interface and rule.action in DESTINATION_NAT:
        table.wrong("out_interface", f"{name} works at PREROUTING, which knows only in_interface")
    if rule.in_interface and rule.out_interface and rule.action == NAT_ACCEPT:
        table.wrong("out_interface", "no point of the way knows both interfaces; write two rules")


def _check_ports(table: Table, rule: NatRule) -> None:
    for key, ports in (("sport", rule.sport), ("dport", rule.dport)):
        if ports and rule.protonum not in WITH_PORTS:
            table.wrong(key, "needs proto tcp, udp, udplite, dccp or sctp")
    if rule.port_high and rule.protonum not in WITH_TARGET_PORTS:
        table.wrong("to", "with ports needs proto tcp, udp, udplite, dccp, sctp or icmp")
