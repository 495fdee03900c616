"""The ten-state table: exactly these transitions."""

from conntrackd_py.proto import rfc7857 as rfc

WITH_SYN_BUT_NOT_ONLY_RST = {rfc.SYN, rfc.SYN | rfc.FIN, rfc.SYN | rfc.FIN | rfc.RST}
REOPENING = WITH_SYN_BUT_NOT_ONLY_RST | {rfc.SYN | rfc.RST}
ALL = set(range(8))


def moves(old: str, way: int) -> dict[str, set[int]]:
    """The new state for each set of flags, where it differs from the old."""
    start = rfc.STATE_NAMES.index(old)
    found: dict[str, set[int]] = {}
    for kind in ALL:
        to = rfc.STATE_NAMES[rfc.next_state(way, kind, start)]
        if to != old:
            found.setdefault(to, set()).add(kind)
    return found


def test_every_transition() -> None:
    fins = {k for k in ALL if k & rfc.FIN}
    resets = {k for k in ALL if k & rfc.RST}
    for way, other, to, back in ((rfc.I2O, rfc.O2I, "I2O", "O2I"), (rfc.O2I, rfc.I2O, "O2I", "I2O")):
        assert moves("CLOSED", way) == {f"SYN_{to}": WITH_SYN_BUT_NOT_ONLY_RST}
        assert moves(f"SYN_{to}", way) == {}
        assert moves(f"SYN_{to}", other) == {"ESTABLISHED": WITH_SYN_BUT_NOT_ONLY_RST}
        assert moves("ESTABLISHED", way) == {"RST_TRANS": resets, f"FIN_{to}": fins - resets}
        assert moves(f"FIN_{to}", way) == {}
        assert moves(f"FIN_{to}", other) == {"FIN_TRANS": fins}
        assert moves("RST_TRANS", way) == {"ESTABLISHED": ALL - resets}
        assert moves("FIN_TRANS", way) == {f"REOPEN_SYN_{to}": REOPENING}
        assert moves(f"REOPEN_SYN_{to}", way) == {}
        assert moves(f"REOPEN_SYN_{back}", way) == {"ESTABLISHED": REOPENING}


def test_the_table_is_whole() -> None:
    assert len(rfc.TRANSITIONS) == 10 * 2 * 8
