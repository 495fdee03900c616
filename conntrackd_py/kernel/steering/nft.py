"""Steering rules in a table of their own, with the nft program; the queue rules by nfnetlink (nft_queue.py).

Three steps: make new queue chains that drop, insert their queue rules, replace all other chains in one transaction.
"""

from collections.abc import Callable
from functools import partial
from typing import final

from conntrackd_py.kernel.steering import nft_queue
from conntrackd_py.kernel.steering import nft_rules as rules
from conntrackd_py.kernel.steering.backend import Backend, Status
from conntrackd_py.kernel.steering.plan import Plan
from conntrackd_py.kernel.steering.programs import NFT_FAMILY, SteeringError, program, run
from conntrackd_py.settings.schema import NFT


@final
class NftBackend(Backend):
    name = NFT

    def __init__(self) -> None:
        self.able: set[str] = set()  # families for which the kernel has been asked, and has all that is needed

    def available(self, family: str) -> bool:
        return self.missing(family) in ("", nft_queue.NO_QUEUE)

    def missing(self, family: str) -> str:
        if program("nft") is None:
            return "nft: not found; install nftables"
        why = "" if family in self.able else nft_queue.missing(NFT_FAMILY[family])
        if not why:
            self.able.add(family)
        return why

    def install(self, family: str, plan: Plan) -> None:
        _put(NFT_FAMILY[family], rules.wanted(plan, family))

    def snapshot(self, family: str) -> Callable[[], None]:
        return partial(_put, NFT_FAMILY[family], _found(NFT_FAMILY[family]) or {})

    def status(self, family: str, plan: Plan) -> Status:
        now, expected = _found(NFT_FAMILY[family]), rules.wanted(plan, family)
        return Status((now or {}) == expected, rules.status(now, expected), [])

    def tracked(self, family: str) -> bool:
        return rules.tracked(_found(NFT_FAMILY[family]) or {})


def _found(family: str) -> dict[str, tuple[str, ...]] | None:
    """The chains of the table; None without the table."""
    if f"table {family} {rules.TABLE}" not in run(["nft", "list", "tables", family]).splitlines():
        return None
    return rules.found(run(["nft", "-s", "-y", "list", "table", family, rules.TABLE]))


def _put(family: str, after: rules.Chains) -> None:
    before = _found(family)
    if (before or {}) == after:
        return
    if missing := rules.missing_queues(before or {}, after):
        _nft(rules.new_queues(family, missing))
        try:
            for chain in missing:
                number, bypass = rules.queue_number(chain)
                nft_queue.insert(family, rules.TABLE, chain, number, bypass=bypass)
        except OSError as error:
            raise SteeringError(error.strerror) from error
        before = _found(family)
    if text := rules.transaction(family, before, after):
        _nft(text)


def _nft(text: str) -> None:
    run(["nft", "-f", "-"], text)
