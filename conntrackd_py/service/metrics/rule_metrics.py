"""Counters of the NAT and filter rules. The labels of a rule are its place (`nat[0]`) and its comment.

The pool of a source rule (SNAT, MASQUERADE) is the ports that it may choose, on each of its outer addresses.
A reload resets these counters, except ports in use.
"""

from collections.abc import Iterator
from typing import Final

from prometheus_client.metrics_core import Metric

from conntrackd_py.const import (
    ICMP_PROTOCOLS,
    IPPROTO_ICMP,
    IPPROTO_ICMPV6,
    IPPROTO_TCP,
    IPPROTO_UDP,
    PROTO_NAMES,
    WITH_PORTS,
)
from conntrackd_py.control.report.block_use import block_use
from conntrackd_py.control.report.filter_counters import chains as filter_chains
from conntrackd_py.control.report.filter_counters import rules as filter_rules
from conntrackd_py.control.report.targets import rows
from conntrackd_py.filter.policy import Policy
from conntrackd_py.nat.core import Nat
from conntrackd_py.nat.mapping import Endpoints
from conntrackd_py.nat.rules import NAT_ACCEPT, NAT_ACTIONS, NatRule
from conntrackd_py.service.metrics.families import counter, counter_of, gauge, gauge_of, summed

ALWAYS: Final = (IPPROTO_TCP, IPPROTO_UDP, IPPROTO_ICMP, IPPROTO_ICMPV6)  # protocols of a rule for all


def nat(nat: Nat) -> Iterator[Metric]:
    rules = distinct(nat)
    connections = counter("nat_rule_connections", "Connections that matched a NAT rule.", "rule", "comment", "action")
    for rule in rules:
        connections.add_metric([rule.label, rule.comment, NAT_ACTIONS[rule.action]], rule.pool.connections)
    allocations = counter("nat_allocations", "Connections translated.", "pool", "comment")
    failures = counter("nat_allocation_failures", "Connections for which no port was free.", "pool", "comment")
    pools = [(rule.label, rule.comment, rule.pool) for rule in rules if rule.action != NAT_ACCEPT]
    others = (("null_binding", nat.null_binding), ("hairpin", nat.hairpin), ("by_hand", nat.by_hand))
    for label, comment, pool in (*pools, *((label, "", pool) for label, pool in others)):
        allocations.add_metric([label, comment], pool.allocations)
        failures.add_metric([label, comment], pool.failures)
    yield from (connections, allocations, failures)
    yield from _ports(nat)
    yield from _targets(nat)
    yield from _mappings(nat.endpoints)
    yield from _blocks(nat)
    text = "Connections missing in nat_ports_in_use: too many outer addresses."
    yield counter_of("nat_ports_uncounted", text, nat.port_usage.uncounted)


def distinct(nat: Nat) -> list[NatRule]:
    """Every rule once; an ACCEPT rule without interfaces is in both lists."""
    rules = {id(rule): rule for rule in (*nat.rules.source_rules, *nat.rules.input_rules, *nat.rules.destination_rules)}
    return list(rules.values())


def _ports(nat: Nat) -> Iterator[Metric]:
    labels = ("pool", "proto", "comment")
    in_use = gauge("nat_ports_in_use", "Ports in use on the pool's outer addresses.", *labels)
    limit = gauge("nat_ports_limit", "Ports of the pool on all its outer addresses.", *labels)
    fullest = gauge("nat_ports_fullest_ratio", "Share of ports in use at the fullest outer address, 0 to 1.", *labels)
    for rule in nat.rules.source_rules:
        for protonum in protocols(rule):
            addresses, ports = nat.port_usage.limit_of(rule, protonum)
            use = rule.pool.usage.get(protonum)
            if not addresses and use is None:
                continue
            by = [rule.label, PROTO_NAMES.get(protonum, str(protonum)), rule.comment]
            in_use.add_metric(by, use.ports if use else 0)
            limit.add_metric(by, addresses * ports)
            fullest.add_metric(by, use.fullest / ports if use else 0)
    yield from (in_use, limit, fullest)


def _targets(nat: Nat) -> Iterator[Metric]:
    labels = ("rule", "comment", "target")
    chosen = counter("nat_target_connections", "New connections of a target of a DNAT rule.", *labels)
    up = gauge("nat_target_up", "Whether a target of a DNAT rule gets new connections.", *labels)
    for row in rows(nat):
        by = [row["rule"], row["comment"], row["target"]]
        chosen.add_metric(by, row["connections"])
        up.add_metric(by, not row["down"])
    yield from (chosen, up)


def _mappings(endpoints: Endpoints) -> Iterator[Metric]:
    yield gauge_of("nat_mappings", "Endpoint-independent mappings.", endpoints.count)
    yield gauge_of("nat_mappings_limit", "Maximum number of endpoint-independent mappings.", endpoints.limit)
    yield gauge_of("nat_mappings_resting", "Mappings without a connection.", len(endpoints.resting))
    yield counter_of("nat_mappings_created", "Endpoint-independent mappings made.", endpoints.allocated)
    yield counter_of("nat_mappings_refused", "Connections refused by a limit of mappings.", endpoints.refused)
    yield counter_of("nat_mapping_inbound", "Connections from outside to a mapping.", endpoints.inbound)
    yield counter_of("nat_mapping_filtered", "Packets to a mapping that its filtering refused.", endpoints.filtered)
    text = "Connections that got another port, because the tuple of their mapping was taken."
    yield counter_of("nat_mapping_conflicts", text, endpoints.conflicts)


def _blocks(nat: Nat) -> Iterator[Metric]:
    labels = ("pool", "comment")
    in_use = gauge("nat_blocks_in_use", "Port blocks of inside hosts, on all outer addresses of the pool.", *labels)
    free = gauge("nat_blocks_free", "Port blocks of the pool that no inside host has.", *labels)
    limit = gauge("nat_blocks_limit", "Port blocks of the pool.", *labels)
    refused = counter("nat_blocks_refused", "Connections without a free port in a block or slice.", *labels, "reason")
    for row in block_use(nat):
        by = [row["rule"], row["comment"]]
        if row["limit"]:
            in_use.add_metric(by, row["in_use"])
            free.add_metric(by, row["limit"] - row["in_use"])
            limit.add_metric(by, row["limit"])
        refused.add_metric([*by, "no_block"], row["no_block"])
        refused.add_metric([*by, "host_limit"], row["host_limit"])
    yield from (in_use, free, limit, refused)
    text = "Port blocks that connections of two inside hosts held, after a change of rules."
    yield counter_of("nat_blocks_contested", text, nat.blocks.conflicts)


def protocols(rule: NatRule) -> list[int]:
    """The protocols whose ports a source rule chooses: of the rule, or ALWAYS and those seen."""
    if rule.action == NAT_ACCEPT:
        return []
    if rule.match.proto is None:
        return sorted({*ALWAYS, *rule.pool.usage})
    return [number for number in (*ICMP_PROTOCOLS, *WITH_PORTS) if rule.match.fits_protocol(number)]


def filtered(policy: Policy | None) -> Iterator[Metric]:
    """Packets and bytes by rule, and by chain for its default."""
    rules, chains = filter_rules(policy), filter_chains(policy)
    for at, what in enumerate(("packets", "bytes")):
        family = counter(
            f"filter_rule_{what}", f"{what.title()} that matched a filter rule.", "rule", "action", "comment"
        )
        for labels, value in summed((by, counts[at]) for by, counts in rules).items():
            family.add_metric(labels, value)
        yield family
        text = f"{what.title()} that the default of the chain decided."
        family = counter(f"filter_default_{what}", text, "hook", "chain", "verdict")
        for labels, value in summed((by, counts[at]) for by, counts in chains).items():
            family.add_metric(labels, value)
        yield family
