"""The blocks of an outer range: a free one is found at once, whatever is taken."""

from hypothesis import given
from hypothesis import strategies as st

from conntrackd_py.nat.carrier.block_space import Block, Space, next_bit

HOSTS = [b"\0\0" + bytes((10, 0, 0, n)) for n in range(4)]


def space(addresses: int = 2, ports: tuple[int, int] = (1024, 1087), size: int = 16) -> Space:
    return Space(bytes((203, 0, 113, 254)), addresses, *ports, size)


def allocated(made: Space, host: bytes, offset: int = 0) -> Block:
    outer, low = made.choose(host, offset)
    block = Block(outer, low, made.size, host, "nat[0]", 0)
    made.take(block)
    return block


def test_what_it_holds() -> None:
    made = space(ports=(1000, 1039))  # 2 blocks, and 8 ports that are not used
    assert made.total == 4
    held = [port for port in range(990, 1050) if made.holds(bytes((203, 0, 113, 255)), port)]
    assert held == list(range(1000, 1032))
    assert not made.holds(bytes((203, 0, 113, 253)), 1000)
    assert not made.holds(bytes((203, 0, 114, 0)), 1000)
    assert not made.holds(bytes(16), 1000)
    assert made.block_at(1015) == 1000
    assert made.block_at(1016) == 1016


def test_a_host_stays_at_one_address_while_it_has_a_free_block() -> None:
    made = space()
    mine = [allocated(made, HOSTS[0], 3) for _ in range(8)]
    assert len({block.outer for block in mine[:4]}) == len({block.outer for block in mine[4:]}) == 1
    assert mine[0].outer != mine[4].outer
    assert mine[0].low == 1072
    assert {block.low for block in mine} == {1024, 1040, 1056, 1072}
    assert made.choose(HOSTS[1], 0) == (b"", 0)
    made.free(mine[5])
    assert made.choose(HOSTS[1], 0) == (mine[5].outer, mine[5].low)
    assert (made.allocated, made.hosts) == (7, {HOSTS[0]: [block for block in mine if block is not mine[5]]})


@given(st.lists(st.tuples(st.sampled_from(HOSTS), st.integers(0, 3), st.booleans()), max_size=60))
def test_nothing_is_given_twice(steps: list[tuple[bytes, int, bool]]) -> None:
    made = space(3)
    held: list[Block] = []
    for host, offset, take in steps:
        if take and len(held) < made.total:
            held.append(allocated(made, host, offset))
        elif held:
            made.free(held.pop(offset % len(held)))
        assert len({(block.outer, block.low) for block in held}) == len(held) == made.allocated
        assert all(made.holds(block.outer, block.low) and made.holds(block.outer, block.high) for block in held)
        assert bool(made.open) == (len(held) < made.total)
    for block in held:
        made.free(block)
    assert (made.allocated, made.hosts, made.taken, made.open) == (0, {}, {}, 0b111)


def test_holders_of_a_block() -> None:
    block = Block(b"", 1024, 16, HOSTS[0], "", 0)
    block.add(17, 1025)
    block.add(17, 1025)
    block.add(6, 1025)
    assert (block.unused(17), block.unused(1), block.high) == (0xFFFD, 0xFFFF, 1039)
    block.remove(17, 1025)
    assert block.unused(17) == 0xFFFD
    block.remove(17, 1025)
    assert block.unused(17) == 0xFFFF
    assert block.counts == {6 << 16 | 1025: 1}


@given(st.integers(1, 1 << 70), st.integers(0, 80))
def test_the_next_bit(bits: int, offset: int) -> None:
    numbers = [number for number in range(71) if bits >> number & 1]
    assert next_bit(bits, offset) == next((number for number in numbers if number >= offset), numbers[0])
