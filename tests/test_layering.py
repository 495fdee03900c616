"""Rooms import one way, the core stays free of the outside world, and no text grows too long to read."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "conntrackd_py"
MODULES = sorted(PACKAGE.rglob("*.py"))

# Each room imports from the rooms above it in this list. Rooms on one line do not import each other.
LAYERS = (
    ("_build", "const"),
    ("reasons",),
    ("wire",),
    ("conntrack",),
    ("match",),
    ("proto", "nat", "filter"),
    ("helpers",),
    ("explain",),
    ("engine",),
    ("settings",),
    ("kernel",),
    ("control",),
    ("service",),
    ("lab",),
    ("cli",),
)
CORE = ("const", "reasons", "wire", "conntrack", "match", "proto", "nat", "filter", "helpers", "explain", "engine")
COMPILED = ("kernel/queues/packet_message.py", "kernel/queues/batch.py")  # modules of another room
ALLOWED = {
    room: {above for layer in LAYERS[:at] for above in layer} for at, layer in enumerate(LAYERS) for room in layer
} | {"__init__": {"_build"}, "_build": {"const"}}
OUTSIDE_WORLD = {
    *("asyncio", "logging", "os", "random", "socket", "threading", "time"),
    *("netfilterqueue", "prometheus_client", "pyroute2", "scapy", "structlog"),
}
# Of these modules only what computes and does no I/O.
PURE = {"socket.AF_INET", "socket.AF_INET6", "socket.inet_ntop", "socket.inet_pton"}
MOST_LINES_IN_A_FOLDER = 2500
MOST_LINES_IN_A_MODULE = 400
MOST_LINES_IN_A_FUNCTION = 40


def name_of(module: Path) -> str:
    return str(module.relative_to(PACKAGE))


def room_of(module: Path) -> str:
    return module.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(module: Path) -> list[tuple[int, str]]:
    """(line, dotted name) of everything imported, `from a import b` as `a.b`, at any depth of the module."""
    found = []
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [(node.lineno, f"{node.module}.{alias.name}") for alias in node.names]
    return found


def lines_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from `def` to the end, without the docstring: a contract may be as long as it needs."""
    lines = (function.end_lineno or 0) - function.lineno + 1
    if ast.get_docstring(function) is not None:
        lines -= (function.body[0].end_lineno or 0) - function.body[0].lineno + 1
    return lines


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_a_module_imports_only_from_the_rooms_before_its_own(module: Path) -> None:
    room = room_of(module)
    assert room in ALLOWED, f"{name_of(module)}: a room unknown to {__file__}"
    for line, name in imports(module):
        parts = name.split(".")
        if parts[0] != "conntrackd_py" or len(parts) < 2 or parts[1] == room:
            continue
        about_the_build = parts[1] in ("__version__", "compiled")
        allowed = room not in CORE if about_the_build else parts[1] in ALLOWED[room]
        assert allowed, f"{name_of(module)}:{line}: {room} must not import {parts[1]}"


@pytest.mark.parametrize("module", [m for m in MODULES if room_of(m) in CORE or name_of(m) in COMPILED], ids=name_of)
def test_the_core_knows_no_clock_no_chance_and_no_io(module: Path) -> None:
    for line, name in imports(module):
        assert name in PURE or name.split(".")[0] not in OUTSIDE_WORLD, (
            f"{name_of(module)}:{line}: engine and below must not use {name}"
        )


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_modules_and_functions_stay_short(module: Path) -> None:
    text = module.read_text()
    length = len(text.splitlines())
    assert length <= MOST_LINES_IN_A_MODULE, f"{name_of(module)}: {length} lines, {MOST_LINES_IN_A_MODULE} at most"
    long = [
        f"{name_of(module)}:{node.lineno}: {node.name} has {lines_of(node)} lines, {MOST_LINES_IN_A_FUNCTION} at most"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and lines_of(node) > MOST_LINES_IN_A_FUNCTION
    ]
    assert long == []


def attribute_types(module: Path) -> list[tuple[str, str]]:
    """(attribute, type) of every `self.attribute: type[...]`."""
    return [
        (node.target.attr, node.annotation.value.id)
        for node in ast.walk(ast.parse(module.read_text()))
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Attribute)
        if isinstance(node.annotation, ast.Subscript) and isinstance(node.annotation.value, ast.Name)
    ]


def asked_for_the_first(module: Path) -> list[tuple[int, str]]:
    """(line, attribute) of every `next(iter(x.attribute))` and every loop over x.attribute that may end early."""
    found = []
    for node in ast.walk(ast.parse(module.read_text())):
        source: ast.expr | None = None
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "next" and isinstance(node.args[0], ast.Call):
            source = node.args[0].args[0]
        elif isinstance(node, ast.For) and any(isinstance(inner, ast.Break) for inner in ast.walk(node)):
            source = node.iter.func if isinstance(node.iter, ast.Call) else node.iter
            if isinstance(source, ast.Attribute) and source.attr in ("keys", "values", "items"):
                source = source.value
        if isinstance(source, ast.Attribute):
            found.append((source.lineno, source.attr))
    return found


def test_who_asks_for_the_oldest_asks_an_ordered_dict() -> None:
    """Finding the first entry of a dict takes a step for each one deleted before it: no packet may pay for those."""
    core = [module for module in MODULES if room_of(module) in CORE]
    dicts = {name for module in core for name, kind in attribute_types(module) if kind == "dict"}
    for module in core:
        for line, name in asked_for_the_first(module):
            assert name not in dicts, f"{name_of(module)}:{line}: {name} must be an OrderedDict"


def imports_of(module: Path) -> set[Path]:
    """The modules of the package that this one imports, also under TYPE_CHECKING."""
    found = set()
    for _, name in imports(module):
        parts = name.split(".")[1:] if name.startswith("conntrackd_py.") else []
        for path in (PACKAGE.joinpath(*parts).with_suffix(".py"), PACKAGE.joinpath(*parts[:-1]).with_suffix(".py")):
            if parts and path.is_file():
                found.add(path)
    return found


def test_no_modules_import_each_other_in_a_circle() -> None:
    waiting = {module: imports_of(module) - {module} for module in MODULES}
    while free := {module for module, needed in waiting.items() if not needed & waiting.keys()}:
        waiting = {module: needed for module, needed in waiting.items() if module not in free}
    assert not waiting, f"in a circle, or importing one: {sorted(map(name_of, waiting))}"


@pytest.mark.parametrize("folder", sorted({module.parent for module in MODULES}), ids=name_of)
def test_a_folder_stays_small_enough_to_read(folder: Path) -> None:
    """A larger room gets rooms of its own."""
    lines = sum(len(module.read_text().splitlines()) for module in folder.glob("*.py"))
    assert lines <= MOST_LINES_IN_A_FOLDER, f"{folder.name}: {lines} lines, {MOST_LINES_IN_A_FOLDER} at most"
