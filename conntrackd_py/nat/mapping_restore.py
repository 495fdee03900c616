"""The endpoint-independent mappings of connections that a journal restored. No record holds a mapping.

A mapping without connections is lost with the process, and so is who was called before, with filtering by address.
"""

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.const import IPPROTO_TCP, IPPROTO_UDP, IPS_DYING, MANIP_DST, MANIP_SRC
from conntrackd_py.nat.binding import info_of, inverted, leads_to
from conntrackd_py.nat.mapping import Endpoints, Mapping, independent
from conntrackd_py.nat.rules import NatRule
from conntrackd_py.nat.ruleset import Ruleset


def restore(endpoints: Endpoints, rules: Ruleset, slots: list[NfConn | None]) -> None:
    """Make the mappings anew, first those of connections from inside."""
    if not any(rule.independent is not None for rule in rules.source_rules):
        return
    living = [ct for ct in slots if ct is not None and not ct.status & IPS_DYING and _mappable(ct)]
    for ct in living:
        now = inverted(ct.reply, ct.l4proto)
        before = tuples.with_src(now, tuples.src(ct.original), tuples.l4src(ct.original))
        rule = rules.source(info_of(ct, before), ct.oif) if ct.oif > 0 else None
        if rule is not None and independent(rule, ct):
            _join(endpoints, ct, tuples.source_key(before), tuples.source_key(now), rule, MANIP_SRC)
    for ct in living:
        _inbound(endpoints, rules, ct)


def _mappable(ct: NfConn) -> bool:
    return tuples.protonum(ct.original) in (IPPROTO_TCP, IPPROTO_UDP)


def _inbound(endpoints: Endpoints, rules: Ruleset, ct: NfConn) -> None:
    """ct, if it came by a mapping; a hairpin has one for its source too."""
    outer, inside = tuples.destination_key(ct.original, False), tuples.source_key(ct.reply)
    if outer == inside or rules.destination(info_of(ct, ct.original), ct.iif) is not None:
        return
    mapping = endpoints.by_outer.get(outer)
    rule = mapping.rule if mapping is not None else _leading(endpoints, rules, tuples.dst(ct.original))
    if rule is None or not _join(endpoints, ct, inside, outer, rule, MANIP_DST):
        return
    now = inverted(ct.reply, ct.l4proto)
    source = tuples.source_key(ct.original)
    if endpoints.hairpin(ct) is not None and endpoints.of(ct, MANIP_SRC) is None:
        _join(endpoints, ct, source, tuples.source_key(now), rule, MANIP_SRC)


def _leading(endpoints: Endpoints, rules: Ruleset, address: bytes) -> NatRule | None:
    for rule in rules.source_rules:
        if rule.independent is not None and leads_to(rule, endpoints.interfaces, address):
            return rule
    return None


def _join(endpoints: Endpoints, ct: NfConn, inside: bytes, outer: bytes, rule: NatRule, manip: int) -> bool:
    """Attach ct to the mapping of these endpoints. Create the mapping if the outer endpoint is unused."""
    mapping: Mapping | None = endpoints.by_outer.get(outer)
    if mapping is None and not endpoints.full(inside[: tuples.address_length(ct.original)]):
        mapping = endpoints.add(inside, outer, rule, tuples.address_length(ct.original))
    if mapping is None or mapping.inside != inside:
        return False
    endpoints.attach(ct, mapping, manip)
    return True
