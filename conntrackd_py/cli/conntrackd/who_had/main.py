"""`conntrackd-py who-had`: says which inside host had an outer address and port at a time, by the NAT log."""

import argparse
import json
import sys
from pathlib import Path
from typing import Final

from conntrackd_py.cli.conntrackd.who_had.files import ERRORS, files_of, in_order, lines
from conntrackd_py.cli.conntrackd.who_had.search import DETERMINISTIC, FOREVER, PORT_BLOCK, Holder, Question, Search
from conntrackd_py.cli.conntrackd.who_had.times import text_of
from conntrackd_py.control.escape import escaped
from conntrackd_py.match.address import address_text
from conntrackd_py.settings.errors import ConfigError
from conntrackd_py.settings.load import load

FOUND: Final = 0
NOBODY: Final = 1
UNKNOWN: Final = 2
SEVERAL: Final = "several hosts had it at that time, each for other remote ends: --destination narrows the answer"
NONE: Final = "nobody had it at that time"


def main(args: argparse.Namespace) -> int:
    """FOUND; NOBODY; UNKNOWN: the log cannot tell, or cannot be read."""
    try:
        paths = [path for named in args.log or [_configured(args.config)] for path in files_of(named)]
    except (ConfigError, OSError) as error:
        return _failed(str(error))
    remote = None
    if args.destination is not None:
        remote = (address_text(args.destination[0]), args.destination[1] or 0)
    search = Search(Question(address_text(args.address), args.port, args.time, args.proto or "", remote))
    _read(search, in_order(paths))
    holders = search.finish()
    certain = [holder.certain(args.time) for holder in holders]
    unknown = "" if any(certain) else search.unknown() or ("an end is not logged" if holders else "")
    status = FOUND if any(certain) else UNKNOWN if unknown else NOBODY
    notes = [*search.notes]
    if len({(holder.inside, holder.zone) for holder in holders}) > 1:
        notes.append(SEVERAL)
    if status != FOUND:
        notes.append(f"cannot tell: {unknown}" if unknown else NONE)
    elif doubt := search.unknown():
        notes.append(f"others may have had it: {doubt}")
    for holder, sure in zip(holders, certain, strict=True):
        print(json.dumps(_row(holder, sure)) if args.json else escaped(_line(holder, sure)))
    for note in notes:
        print(json.dumps({"note": note}) if args.json else escaped(note))
    return status


def _failed(why: str) -> int:
    print(f"conntrackd-py who-had: {escaped(why)}", file=sys.stderr)
    return UNKNOWN


def _configured(config: Path) -> Path:
    """Raises ConfigError and OSError."""
    file = load(config).nat_log.file
    if not file:
        raise OSError(f"{config}: nat_log.file is not set; name the file with --log")
    return Path(file)


def _read(search: Search, paths: list[Path]) -> None:
    """What cannot be read is a gap, and named."""
    for path in paths:
        if search.answered():
            break
        damaged = first = 0
        try:
            for line in lines(path):
                if not search.line(line.text):
                    damaged, first = damaged + 1, first or line.number
        except ERRORS as error:
            why = getattr(error, "strerror", None) or str(error) or type(error).__name__
            _failed(f"{path}: {why}")
            search.gap(0, FOREVER, f"{path.name} cannot be read")
        if damaged:
            _failed(f"{path}: {damaged} damaged lines, the first is line {first}")


def _line(holder: Holder, sure: bool) -> str:
    address, low, high = holder.outer
    inside = _endpoint(holder.inside, f"{holder.inside_port}" if holder.proto else "")
    outer = _endpoint(address, f"{low}" if low == high else f"{low}-{high}")
    text = f"{'' if sure else 'possibly '}{inside} had {outer}"
    text += f" {holder.proto}" if holder.proto else ""
    if holder.kind == DETERMINISTIC:
        return f"{text} by the deterministic rule {holder.rule}, in force since {text_of(holder.since)}"
    text += f" from {text_of(holder.since) if holder.since else 'before the log begins'} to {_end(holder)}"
    remote = _endpoint(holder.remote[0], f"{holder.remote[1] or ''}")
    text += ", a block of ports" if holder.kind == PORT_BLOCK else f", remote {remote}"
    text += f", zone {holder.zone}" if holder.zone else ""
    text += f", {holder.rule}" if holder.rule else ""
    if holder.packets is not None and holder.bytes is not None:
        for direction, packets, size in zip(("original", "reply"), holder.packets, holder.bytes, strict=True):
            text += f", {direction} {packets} packets {size} bytes"
    return text


def _end(holder: Holder) -> str:
    if holder.until is not None:
        return text_of(holder.until)
    if holder.gone is not None:
        return f"at the latest {text_of(holder.gone)} (its end is not logged)"
    return "still open at the end of the log"


def _endpoint(address: str, port: str) -> str:
    if not port:
        return address
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _row(holder: Holder, sure: bool) -> dict[str, object]:
    address, low, high = holder.outer
    row: dict[str, object] = {"kind": holder.kind, "certain": sure, "inside": holder.inside}
    if holder.proto:
        row |= {"inside_port": holder.inside_port, "proto": holder.proto}
    row |= {"outer": address, "low": low, "high": high, "from": text_of(holder.since) if holder.since else None}
    row |= {"to": text_of(holder.until) if holder.until is not None else None}
    if holder.gone is not None:
        row["gone"] = text_of(holder.gone)
    if holder.proto:
        row |= {"remote": holder.remote[0], "remote_port": holder.remote[1]}
    row |= {key: value for key, value in (("zone", holder.zone), ("rule", holder.rule)) if value}
    row |= {key: getattr(holder, key) for key in ("packets", "bytes") if getattr(holder, key) is not None}
    return row
