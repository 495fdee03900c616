"""Settings -> Engine. settings/ has built the NAT rules and the filter; raw and mark rules are built here."""

from dataclasses import replace
from typing import Final
from zlib import crc32

from conntrackd_py.conntrack.conn import L4Proto
from conntrackd_py.conntrack.randomness import Randomness
from conntrackd_py.engine.engine import Engine
from conntrackd_py.engine.raw_mangle import RawRule
from conntrackd_py.helpers.helper import Helper
from conntrackd_py.kernel.steering import steering
from conntrackd_py.kernel.steering.programs import SteeringError
from conntrackd_py.match.interface import InterfaceNames
from conntrackd_py.proto.standard import standard_protos
from conntrackd_py.settings import helpers
from conntrackd_py.settings.schema import AUTO, KEEP, NAT, OFF, REJECT, RawSpec, Settings

EVERY: Final = "+"  # with fail_open the kernel accepts packets past the daemon


def engine_of(settings: Settings, randomness: Randomness) -> Engine:
    """A new engine, without interfaces."""
    engine = Engine(settings.tunables, randomness, mode=settings.mode, mark_mask=settings.steering.mark_mask)
    engine.offload.on = settings.offload.mode != OFF
    engine.mark_maps.small = not engine.offload.on  # those that are offloaded need no visit at all
    engine.offload.after = settings.offload.packets
    engine.offload.bytes = settings.offload.bytes
    configure(engine, settings)
    return engine


def configure(engine: Engine, settings: Settings) -> None:
    """Replace the rules and tunables of the engine. Its mode and mark mask stay."""
    engine.nat.rejects_exhausted = settings.nat_exhausted == REJECT
    engine.mss.limit = settings.clamp_mss
    limits, table = settings.limits, engine.core.table
    engine.nat.endpoints.host_limit = limits.ports_per_host
    table.hosts.configure(limits.connections_per_host, limits.ipv6_prefix // 8, limits.networks(), table.slots)
    engine.configure(
        settings.tunables,
        nat_rules=list(settings.nat),
        leak_guard=settings.leak_guard,
        tcp_tracker=settings.tcp_tracker,
        policy=settings.filter.policy(),
        raw_rules=[raw_rule(settings, spec) for spec in settings.raw],
        mark_rules=list(settings.connmark),
        helpers=_helpers(settings),
        unqueued=InterfaceNames([EVERY] if settings.queue.fail_open else list(settings.steering.exclude_interfaces)),
    )


def kernel_tracks(settings: Settings) -> bool:
    """Whether the kernel tracks what the engine translates, by the installed rules, or those to be installed.

    True if the rules cannot be read: this only costs time.
    """
    if settings.mode != NAT or settings.steering.kernel_conntrack != AUTO:
        return settings.steering.kernel_conntrack == KEEP
    try:
        return steering.tracked() if steering.installed() else steering.planned(settings).keep
    except SteeringError:
        return True


def raw_rule(settings: Settings, spec: RawSpec) -> RawRule:
    return RawRule(
        spec.match,
        notrack=spec.notrack,
        zone_original=spec.zone_orig,
        zone_reply=spec.zone_reply,
        protos=_trackers(settings, spec),
        helper=spec.helper,
        hooks=spec.hooks,
    )


def _helpers(settings: Settings) -> list[Helper]:
    """Those that raw rules name."""
    found = {spec.helper: helpers.find(spec.helper) for spec in settings.raw if spec.helper}
    return [helper(settings.tunables) for helper in found.values() if helper is not None]


def _trackers(settings: Settings, spec: RawSpec) -> list[L4Proto] | None:
    """The rule's own trackers; None if it changes neither tracker nor timeouts."""
    if not spec.timeouts and not spec.tcp_tracker:
        return None
    tunables = replace(settings.tunables, **dict(spec.timeouts))  # type: ignore[arg-type]  # all are seconds
    trackers = standard_protos(tunables, spec.tcp_tracker or settings.tcp_tracker)
    for tracker in trackers:
        tracker.profile = crc32(repr(sorted(spec.timeouts)).encode()) | 1
    return trackers
