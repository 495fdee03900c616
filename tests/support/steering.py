"""The steering rules as the engine meets them: what they clear, and what makes no second visit."""

from conntrackd_py.const import LOCAL_IN
from conntrackd_py.engine.engine import Engine
from conntrackd_py.engine.mark_codec import done_early, not_a_field


def entering(engine: Engine, mark: int) -> int:
    """The mark with which a packet is queued at PREROUTING or OUTPUT."""
    codec = engine.mark_codec
    return mark & ~not_a_field(codec.mask) if mark & codec.done else mark


def passes(engine: Engine, mark: int, hook: int, outdev: int) -> bool:
    """Whether a packet with this mark is not queued at its second hook."""
    if hook != LOCAL_IN and engine.mode == "nat" and engine.nat.rules.translates(outdev):
        return False
    return any(mark & mask == value for value, mask in done_early(engine.mark_codec.mask))
