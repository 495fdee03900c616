"""What installs steering rules of one family: two programs, one interface (nft.py, iptables.py)."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

from conntrackd_py.kernel.steering.plan import Plan


class Status(NamedTuple):
    as_wanted: bool
    text: str  # begins with `installed`, `not installed` or `partly installed`
    bypassed: list[str]  # rules that queued packets never reach


class Backend(ABC):
    """Every operation reads the installed rules first. It can be repeated. SteeringError: nothing else is changed."""

    name: str  # as in steering.program

    @abstractmethod
    def available(self, family: str) -> bool:
        """Whether the program is there, so that rules of this backend may be installed."""

    @abstractmethod
    def missing(self, family: str) -> str:
        """Why rules cannot be installed; empty if they can."""

    @abstractmethod
    def install(self, family: str, plan: Plan) -> None:
        """Replace the installed rules by those of the plan."""

    @abstractmethod
    def snapshot(self, family: str) -> Callable[[], None]:
        """What puts the rules back that are installed now."""

    @abstractmethod
    def status(self, family: str, plan: Plan) -> Status: ...

    @abstractmethod
    def tracked(self, family: str) -> bool:
        """Whether the installed rules leave the kernel's tracking on; False without rules."""

    def installed(self, family: str) -> bool:
        return self.status(family, NOTHING).text != "not installed"


NOTHING = Plan(visits=(), queue=0, bypass=False, families=(), exclude_interfaces=())
