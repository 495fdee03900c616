"""A [[nat]] table -> NatRule. A rule that iptables would refuse is refused.

Without a family and without an address it is a rule for IPv4, as in iptables.
`hooks` are the chains of iptables' table nat. Without it the action decides (nat.rules.usual_hooks).
Refused: an interface that is not known at the rule's hook, ports without a protocol that has them, addresses of both
families.
"""

from typing import Final

from conntrackd_py.const import (
    IPPROTO_ICMP,
    LOCAL_IN,
    LOCAL_OUT,
    MANIP_DST,
    MANIP_SRC,
    POST_ROUTING,
    PRE_ROUTING,
    WITH_PORTS,
)
from conntrackd_py.match.address import AddressError, Addresses, network
from conntrackd_py.match.match import Match
from conntrackd_py.match.words import ParseError, address_range, integer
from conntrackd_py.nat.prefix import Prefix
from conntrackd_py.nat.range import Range
from conntrackd_py.nat.rules import (
    DESTINATION_HOOKS,
    FILTERINGS,
    NAT_ACCEPT,
    NAT_ACTIONS,
    NAT_DNAT,
    NAT_DNPT,
    NAT_MASQUERADE,
    NAT_NETMAP,
    NAT_REDIRECT,
    NAT_SNAT,
    NAT_SNPT,
    SOURCE_HOOKS,
    Independent,
    NatRule,
)
from conntrackd_py.nat.targets import MOST_TARGETS, MOST_WEIGHT, Target, Targets
from conntrackd_py.settings import carrier
from conntrackd_py.settings.errors import ABSENT
from conntrackd_py.settings.match import FAMILY_NAMES, ct_of, hooks_of, mark_of, match_of, read, read_value
from conntrackd_py.settings.profile import Profile
from conntrackd_py.settings.table import Table

PREFIX_NAT: Final = (NAT_NETMAP, NAT_SNPT, NAT_DNPT)
MAPPINGS: Final = ("endpoint-dependent", "endpoint-independent")
BALANCES: Final = ("source", "random")
LONGEST_PREFIX: Final = 64  # of NPTv6 (RFC 6296)
PORTS_ONLY: Final = (NAT_MASQUERADE, NAT_REDIRECT)
HOOKS: Final = {"prerouting": PRE_ROUTING, "input": LOCAL_IN, "output": LOCAL_OUT, "postrouting": POST_ROUTING}
HOOKS_OF: Final = {
    NAT_ACCEPT: tuple(HOOKS.values()),
    NAT_SNAT: SOURCE_HOOKS,
    NAT_MASQUERADE: (POST_ROUTING,),
    NAT_SNPT: (POST_ROUTING,),
    NAT_NETMAP: tuple(HOOKS.values()),
}  # of the others: those before routing
LOCAL_TYPES: Final = {"": 0, "local": 1, "!local": -1}
WITH_TARGET_PORTS: Final = (*WITH_PORTS, IPPROTO_ICMP)  # as in iptables, `to` may give the id of an echo request


def nat_rule(table: Table, profile: Profile) -> NatRule:
    """The rule of the table. Mistakes are reported in the table; the rule is then undefined."""
    action = _action(table)
    targets = _targets(table, action)
    to = targets.targets[0].to if targets is not None and targets.targets else _to(table, action)
    to.random = table.boolean("random", False)
    if table.boolean("random_fully", False):
        to.random = True
        if action not in (NAT_SNAT, NAT_MASQUERADE):
            table.wrong("random_fully", f"{NAT_ACTIONS[action]} has no random_fully")
    to.persistent = table.boolean("persistent", False)
    match = match_of(table, to.low, FAMILY_NAMES["ipv4"])
    match.mark, match.ct = mark_of(table), ct_of(table)
    rule = NatRule(action, match, to, table.path, table.string("comment", ""), hooks_of(table, (), HOOKS))
    rule.to_local = LOCAL_TYPES[table.choice("destination_type", "", tuple(LOCAL_TYPES))]
    rule.targets = _flagged(targets, to)
    rule.independent = _independent(table, action, profile)
    if table.boolean("hairpin", False) and rule.independent is None:
        rule.hairpin = _hairpin(table, rule)
    carrier.read_keys(table, rule)
    table.reject_unknown()
    _check(table, rule)
    carrier.check_keys(table, rule)
    if action in PREFIX_NAT and to.low:
        rule.prefix = _prefix(table, rule)
    return rule


def _action(table: Table) -> int:
    if table.value("action") is ABSENT:
        table.wrong("action", f"is required: one of {', '.join(NAT_ACTIONS)}")
    return NAT_ACTIONS.index(table.choice("action", "ACCEPT", NAT_ACTIONS))


def _to(table: Table, action: int) -> Range:
    if table.value("to") is ABSENT and action in (NAT_SNAT, NAT_DNAT, *PREFIX_NAT):
        table.wrong("to", f"{NAT_ACTIONS[action]} needs it")
    elif table.value("to") is not ABSENT and action == NAT_ACCEPT:
        table.wrong("to", "ACCEPT translates nothing")
    elif not isinstance(table.value("to"), list):  # a list is a matter of `_targets`
        reader = _ports if action in PORTS_ONLY else _network if action in PREFIX_NAT else _target
        return read(table, "to", reader) or Range()
    return Range()


def _targets(table: Table, action: int) -> Targets | None:
    """The targets of `to`, if it is a list."""
    balance = table.choice("balance", BALANCES[0], BALANCES)
    texts = table.value("to")
    if not isinstance(texts, list):
        if table.value("balance") is not ABSENT:
            table.wrong("balance", "needs a list of targets in `to`")
        return None
    if action != NAT_DNAT or not 1 < len(texts) <= MOST_TARGETS:
        why = f"takes 2 to {MOST_TARGETS} targets" if action == NAT_DNAT else f"{NAT_ACTIONS[action]} takes no list"
        table.wrong("to", why)
        return None
    found = [target for text in texts if (target := read_value(table, "to", text, _weighted)) is not None]
    if len({len(target.to.low) for target in found}) > 1:
        table.wrong("to", "mixes IPv4 and IPv6")
    if len({target.name for target in found}) < len(found):
        table.wrong("to", "has a duplicate")
    return Targets(found, balance == BALANCES[0])


def _weighted(text: str) -> Target:
    """`192.168.1.10:80` or `192.168.1.10:80 weight 3`."""
    name, _, weight = text.partition(" weight ")
    number = integer(weight.strip(), MOST_WEIGHT, "weight") if weight else 1
    if not number:
        raise ParseError(f"0 is not a weight (1 to {MOST_WEIGHT})")
    to = _target(name.strip())
    if not to.low:
        raise ParseError("has a target without an address")
    return Target(to, number, name.strip())


def _flagged(targets: Targets | None, flags: Range) -> Targets | None:
    for target in targets.targets if targets is not None else ():
        target.to.random, target.to.persistent = flags.random, flags.persistent
    return targets


def _check(table: Table, rule: NatRule) -> None:
    match, name = rule.match, NAT_ACTIONS[rule.action]
    given = table.value("hooks") is not ABSENT
    if given:
        _check_hooks(table, rule)
    elif rule.action == NAT_NETMAP and match.in_interface is None and match.out_interface is None:
        why = "NETMAP needs in_interface to translate the destination, or out_interface to translate the source"
        table.wrong("in_interface", why)
    if rule.to_local and not set(rule.hooks) <= set(DESTINATION_HOOKS):
        table.wrong("destination_type", 'is known before routing only: give hooks = ["prerouting"], or "output" too')
    if match.in_interface and rule.translates(MANIP_SRC) and rule.hooks != (LOCAL_IN,):
        table.wrong("in_interface", f"{name} applies at POSTROUTING, where only out_interface is known")
    if match.out_interface and rule.translates(MANIP_DST):
        table.wrong("out_interface", f"{name} applies at PREROUTING, where only in_interface is known")
    if match.in_interface and match.out_interface and rule.action == NAT_ACCEPT:
        table.wrong("out_interface", "no hook of NAT knows both interfaces; write two rules")
    if match.proto is not None and match.proto.invert:
        table.wrong("proto", "cannot be inverted in a NAT rule")
    every_port = carrier.has_own_ports(rule) or match.only_protocols(WITH_TARGET_PORTS)
    if any(to.has_ports for to in rule.ranges) and not every_port:
        table.wrong("to", "with ports needs proto tcp, udp, udplite, dccp, sctp or icmp")
    if rule.to.persistent and rule.action not in (NAT_SNAT, NAT_DNAT):
        table.wrong("persistent", f"{name} has no persistent")
    if any(to.base for to in rule.ranges) and (rule.action != NAT_DNAT or rule.to.random):
        why = "random chooses another one" if rule.action == NAT_DNAT else f"{name} has none"
        table.wrong("to", f"has a base port, but {why}")
    if rule.to.random and rule.action in PREFIX_NAT:
        table.wrong("random", f"{name} has no random")


def _check_hooks(table: Table, rule: NatRule) -> None:
    allowed = HOOKS_OF.get(rule.action, DESTINATION_HOOKS)
    names = [name for name, hook in HOOKS.items() if hook in allowed]
    if not set(rule.hooks) <= set(allowed):
        table.wrong("hooks", f"{NAT_ACTIONS[rule.action]} applies at {' and '.join(names)}")
    elif rule.action == NAT_NETMAP and len({hook in SOURCE_HOOKS for hook in rule.hooks}) > 1:
        table.wrong("hooks", "NETMAP translates the destination at prerouting and output, the source at the others")
    if rule.match.in_interface is not None and not {PRE_ROUTING, LOCAL_IN} & set(rule.hooks):
        table.wrong("in_interface", "is known at prerouting and input only")
    if rule.match.out_interface is not None and rule.hooks != (POST_ROUTING,):
        table.wrong("out_interface", "is known at postrouting only")


def _independent(table: Table, action: int, profile: Profile) -> Independent | None:
    usual = profile.independent and action in (NAT_SNAT, NAT_MASQUERADE)
    mapping = table.choice("mapping", MAPPINGS[usual], MAPPINGS)
    filtering = table.choice("filtering", profile.filtering, FILTERINGS)
    parity = table.boolean("parity", False)
    if mapping == MAPPINGS[0]:
        for key in ("filtering", "parity"):
            if table.value(key) not in (ABSENT, FILTERINGS[0], False):
                table.wrong(key, f'needs mapping = "{MAPPINGS[1]}"')
        return None
    if action not in (NAT_SNAT, NAT_MASQUERADE):
        table.wrong("mapping", f"{NAT_ACTIONS[action]} has none: it is for SNAT and MASQUERADE")
    return Independent(FILTERINGS.index(filtering), parity, table.boolean("hairpin", usual))


def reject_unsteered(tables: list[Table], rules: tuple[NatRule, ...], local: bool, loopback: bool) -> None:
    """Report rules for packets that are not queued. local: those from and to the router are. loopback: those of lo are.

    REDIRECT at OUTPUT sends the packet to 127.0.0.1 or ::1, so its connection runs over lo.
    """
    for table, rule in zip(tables, rules, strict=True):
        if not local and rule.action == NAT_REDIRECT:
            table.wrong("action", "REDIRECT sends packets to the router itself and needs steering.local = true")
        elif not local and table.value("hooks") is not ABSENT and {LOCAL_IN, LOCAL_OUT} & set(rule.hooks):
            table.wrong("hooks", "input and output need steering.local = true")
        elif not loopback and rule.action == NAT_REDIRECT and LOCAL_OUT in rule.hooks:
            table.wrong("hooks", 'REDIRECT at output leads to lo: remove "lo" from steering.exclude_interfaces')


def _hairpin(table: Table, rule: NatRule) -> Match:
    match = rule.match
    if rule.action != NAT_DNAT:
        table.wrong("hairpin", f"{NAT_ACTIONS[rule.action]} has no hairpin")
    elif match.destination is None and match.in_interface is None:
        table.wrong("hairpin", "needs the outer address: in `destination`, or as an address of in_interface")
    elif match.destination is not None and match.destination.invert:
        table.wrong("hairpin", "needs a destination without !: the outer address")
    return Match(
        source=match.source,
        destination=match.destination,
        proto=match.proto,
        sport=match.sport,
        dport=match.dport,
        family=match.family,
    )


def _prefix(table: Table, rule: NatRule) -> Prefix | None:
    to = rule.to
    if rule.action == NAT_NETMAP:
        return Prefix(to.low, to.high)
    key, own = ("source", rule.match.source) if rule.action == NAT_SNPT else ("destination", rule.match.destination)
    hosts = int.from_bytes(to.high, "big") - int.from_bytes(to.low, "big")
    if len(to.low) == 4 or hosts.bit_length() < 128 - LONGEST_PREFIX:
        table.wrong("to", f"{NAT_ACTIONS[rule.action]} needs an IPv6 prefix of at most {LONGEST_PREFIX} bits")
    elif own is None or own.invert or len(own.bounds) != 2:
        table.wrong(key, f"{NAT_ACTIONS[rule.action]} needs one prefix here: the one that it translates")
    elif own.length == len(to.low) and hosts != _hosts(own):
        table.wrong("to", f"must have as many bits of prefix as {key}")
    else:
        return Prefix(to.low, to.high, own.bounds[0])
    return None


def _hosts(own: Addresses) -> int:
    return int.from_bytes(own.bounds[1], "big") - int.from_bytes(own.bounds[0], "big")


def _ports(text: str) -> Range:
    """`80` or `1024-65535`, as `--to-ports`, or `5000-5009/80`, as `--to-destination`: 80 becomes 5000."""
    ports, slash, base = text.removeprefix(":").partition("/")
    low_text, dash, high_text = ports.partition("-")
    low = integer(low_text, 65535, "port")
    high = integer(high_text, 65535, "port") if dash else low
    if not low:
        raise ParseError("0 is not a port to translate to")
    if high < low:
        raise ParseError("has a port range that ends before it begins")
    to = Range(b"", b"", low, high)
    if slash:
        to.base = integer(base, 65535, "port")
        if not to.base or low == high:
            raise ParseError("a base port is not 0, and stands after a range of ports")
    return to


def _network(text: str) -> Range:
    """`--to` of NETMAP: `address[/prefix]` or `address/netmask`."""
    try:
        low, high = network(text)
    except AddressError:
        raise ParseError("must be an address, address/prefix or address/netmask") from None
    return Range(low, high)


def _target(text: str) -> Range:
    """`--to-source` and `--to-destination`: `[address[-address]][:port[-port]]`, IPv6 in brackets before a port."""
    addresses, ports = _split(text)
    to = _ports(ports) if ports else Range()
    if not addresses:
        return to
    if "/" in addresses:
        raise ParseError("must not have a prefix")
    to.low, to.high = address_range(addresses)
    return to


def _split(text: str) -> tuple[str, str]:
    """(addresses without brackets, ports)."""
    if text.startswith("["):
        addresses, bracket, rest = text.rpartition("]")
        if not bracket or (rest and not rest.startswith(":")) or rest == ":":
            raise ParseError("must be [address] or [address]:port")
        return addresses[1:].replace("]-[", "-"), rest[1:]
    if text.count(":") > 1:
        return text, ""
    addresses, colon, ports = text.partition(":")
    if colon and not ports:
        raise ParseError("must be address, address-address, either with :port or :port-port, or :port alone")
    return addresses, ports
