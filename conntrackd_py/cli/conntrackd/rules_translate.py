"""`conntrackd-py rules translate`: prints a ruleset with its ct state matches as matches of the packet mark."""

import sys
from pathlib import Path
from typing import Final

from conntrackd_py.control.escape import escaped
from conntrackd_py.kernel.doctor.findings import Context
from conntrackd_py.kernel.translate.places import KEPT, Translation
from conntrackd_py.kernel.translate.translate import FORMATS, UnknownTextError, in_force, recognised, translate
from conntrackd_py.settings.schema import OFF, Settings

STDIN: Final = "-"
NOT_ALL: Final = 3
NO_MARK: Final = "mode observe and steering.mark_mask = 0 set no packet mark that rules could match"
NOT_NEEDED: Final = (
    "note: steering.kernel_conntrack is {}: while a rule uses ct state, the kernel tracks queued packets too, and the "
    "rule works without a translation"
)


def main(settings: Settings, file: str, form: str) -> int:
    """0 every rule translated, 1 failed, 3 some rules not or only in part. SteeringError: a program failed."""
    context = Context(settings)
    if not context.mask:
        _say(f"conntrackd-py rules: {NO_MARK}")
        return 1
    if settings.steering.kernel_conntrack != OFF:
        _say(NOT_NEEDED.format(settings.steering.kernel_conntrack))
    try:
        parts = _of_file(context, file, form) if file else in_force(context, [form] if form else list(FORMATS))
    except (OSError, UnknownTextError) as error:
        _say(f"conntrackd-py rules: {file}: {getattr(error, 'strerror', None) or error}")
        return 1
    for loader, part in parts:
        heading = f"# {loader}\n" if len(parts) > 1 else ""
        sys.stdout.buffer.write((heading + part.text).encode(errors="surrogateescape"))
        _report(part, file or loader)
    sys.stdout.flush()
    return 0 if all(part.complete for _, part in parts) else NOT_ALL


def _of_file(context: Context, file: str, form: str) -> list[tuple[str, Translation]]:
    """Bytes that are not UTF-8 stay as they are."""
    if file == STDIN:
        data = sys.stdin.buffer.read()
    else:
        data = Path(file).read_bytes()
    text = data.decode(errors="surrogateescape")
    return [("", translate(text, context, form or recognised(text)))]


def _report(done: Translation, name: str) -> None:
    for remark in sorted(done.remarks, key=lambda remark: remark.line):
        _say(f"{name}:{remark.line}: {remark.kind}: {remark.why}")
        _say(f"    {remark.rule}")
    left = sum(1 for remark in done.remarks if remark.kind == KEPT)
    _say(f"{name}: {done.translated} rules translated, {left} not translated")


def _say(text: str) -> None:
    print(escaped(text), file=sys.stderr)
