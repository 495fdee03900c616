"""A split dict behaves as a dict, and its keys are spread over its parts."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from conntrackd_py.conntrack.split_dict import PARTS, SplitDict
from tests.support.examples import examples

KEY = st.binary(min_size=1, max_size=2)


class DictMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.split: SplitDict[int] = SplitDict()
        self.plain: dict[bytes, int] = {}

    @rule(key=KEY, value=st.integers())
    def put(self, key: bytes, value: int) -> None:
        self.split[key] = value
        self.plain[key] = value

    @rule(key=KEY, value=st.integers())
    def put_if_absent(self, key: bytes, value: int) -> None:
        assert self.split.setdefault(key, value) == self.plain.setdefault(key, value)

    @rule(key=KEY)
    def delete(self, key: bytes) -> None:
        assert (key in self.split) == (key in self.plain)
        if key in self.plain:
            del self.split[key]
            del self.plain[key]

    @rule(key=KEY, value=st.integers(300, 302))
    def discard(self, key: bytes, value: int) -> None:
        self.split[key] = known = value * 1000
        self.split.discard(key, int(str(known)))
        assert self.split[key] is known, "an equal value is another one"
        self.split.discard(key, known)
        assert key not in self.split
        self.plain.pop(key, None)

    @rule(key=KEY)
    def look_up(self, key: bytes) -> None:
        assert self.split.get(key) == self.plain.get(key)
        seen: list[int | None] = []
        for mapping in (self.split, self.plain):
            try:
                seen.append(mapping[key])
            except KeyError:
                seen.append(None)
        assert seen[0] == seen[1]

    @invariant()
    def the_same_content(self) -> None:
        assert len(self.split) == len(self.plain)
        assert sorted(self.split.items()) == sorted(self.plain.items())


TestSplitDict = DictMachine.TestCase
TestSplitDict.settings = settings(max_examples=examples(100), stateful_step_count=40, deadline=None)


def test_neighbouring_tuples_are_spread_over_all_parts() -> None:
    """Whatever a sender chooses: no part gets much more than its share, and only a part is copied at once."""
    split: SplitDict[int] = SplitDict()
    for number in range(PARTS * 100):
        split[bytes((10, 0, 0, 1, 10, 0, 0, 2)) + number.to_bytes(4, "big") + b"\x11"] = number
    sizes = [len(part) for part in split.parts]
    assert sum(sizes) == PARTS * 100
    assert min(sizes) > 30
    assert max(sizes) < 200


def test_a_missing_key_is_a_key_error() -> None:
    split: SplitDict[int] = SplitDict()
    for access in (split.__getitem__, split.__delitem__):
        try:
            access(b"?")
        except KeyError:
            continue
        raise AssertionError("no KeyError")


def test_the_keys_of_a_part_differ_in_the_low_bits_of_their_hashes() -> None:
    """A dict begins its search with these bits: equal ones would make every search long."""
    split: SplitDict[int] = SplitDict()
    for number in range(PARTS * 100):
        split[number.to_bytes(4, "big")] = number
    for part in split.parts:
        assert len({hash(key) & 255 for key in part}) > len(part) // 2
