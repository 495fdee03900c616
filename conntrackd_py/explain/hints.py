"""Why a packet was refused, and how its connection expired before, as one English text."""

from typing import Final

from conntrackd_py.explain import sentences as reasons
from conntrackd_py.explain.expired import ExpiredConnection
from conntrackd_py.explain.refusals import Refusal
from conntrackd_py.reasons import OK

OVERWRITTEN: Final = (
    "another rule overwrote its packet mark between its two visits (conntrackd-py rules check names such rules); its "
    "connection was found by its tuple"
)


def sentence(note: Refusal) -> str:
    """The reason of a refusal, then the hint about its connection if that expired while in use."""
    parts = [] if note.reason == OK else [reasons.sentence(note.reason, note.numbers, note.cause, note.rule)]
    if note.overwritten:
        parts.append(OVERWRITTEN)
    if note.lacks:
        parts.append(
            f"a control connection to the port of {note.lacks}, and no raw rule assigns this helper: "
            "the connections that it announces are not expected"
        )
    if note.expired is not None:
        parts.append(expired_in_use(note.expired, note.at))
    return "; ".join(parts)


def expired_in_use(expired: ExpiredConnection, at: int) -> str:
    """The timeout that ended the connection, and a keepalive interval that prevents it. at: ms, of the packet."""
    return (
        f"its {expired.proto} connection timed out after {seconds(expired.lifetime)} without a packet, "
        f"{seconds(at - expired.ended)} before this one; "
        f"a keepalive every {seconds(expired.keepalive())} would have saved it"
    )


def seconds(ms: int) -> str:
    """`30 s`, `0.5 s`: no trailing zeros."""
    digits = f"{ms / 1000:.3f}".rstrip("0").rstrip(".")
    return f"{digits} s"
