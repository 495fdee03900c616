"""Mutants: the small changes that scripts/mutation can make to a module, each as an edit of its text.

A mutant replaces one token, expression or statement and leaves the rest of the file as it is. Annotations,
docstrings, strings and decorators are not mutated, nor numbers that only identify a state or a flag.
"""

import ast
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

COMPARISONS = {
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"),
    ast.In: ("in", "not in"),
    ast.NotIn: ("not in", "in"),
}
OPERATORS = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "//"),
    ast.FloorDiv: ("//", "*"),
    ast.Mod: ("%", "*"),
    ast.LShift: ("<<", ">>"),
    ast.RShift: (">>", "<<"),
    ast.BitAnd: ("&", "|"),
    ast.BitOr: ("|", "&"),
    ast.BitXor: ("^", "|"),
}
NOT_MUTATED = ("annotation", "returns", "decorator_list", "bases")


@dataclass(frozen=True)
class Mutant:
    """text replaces the bytes start to stop of the file."""

    path: Path
    line: int
    start: int
    stop: int
    text: str

    def apply(self, source: bytes) -> bytes:
        return source[: self.start] + self.text.encode() + source[self.stop :]


def mutants(path: Path) -> list[Mutant]:
    """All mutants of a module that compile, in the order of the file."""
    source = path.read_bytes()
    return [mutant for mutant in Finder(path, source).all() if _compiles(mutant.apply(source))]


def _compiles(source: bytes) -> bool:
    try:
        compile(source, "mutant", "exec")
    except SyntaxError:
        return False
    return True


class Finder:
    def __init__(self, path: Path, source: bytes) -> None:
        self.path = path
        self.source = source
        self.tree = ast.parse(source)
        self.lines = [0]  # offset of each line
        for line in source.splitlines(keepends=True):
            self.lines.append(self.lines[-1] + len(line))
        self.families = families(self.tree)
        self.names = numbers_that_name(self.tree)

    def all(self) -> Iterator[Mutant]:
        for statement in self.tree.body:
            if not isinstance(statement, ast.Import | ast.ImportFrom):
                yield from self.visit(statement, "")

    def visit(self, node: ast.AST, returns: str) -> Iterator[Mutant]:
        """Mutants of a node and of all nodes in it. returns: the declared return type of the function around it."""
        if isinstance(node, ast.FunctionDef):
            returns = ast.unparse(node.returns) if node.returns else ""
        if isinstance(node, ast.stmt):
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                return  # a docstring
            yield from self.statement(node, returns)
        elif isinstance(node, ast.expr) and id(node) not in self.names:
            yield from self.expression(node)
        for field, value in ast.iter_fields(node):
            if field not in NOT_MUTATED and not isinstance(node, ast.JoinedStr):
                for inner in value if isinstance(value, list) else [value]:
                    if isinstance(inner, ast.AST):
                        yield from self.visit(inner, returns)

    def statement(self, node: ast.stmt, returns: str) -> Iterator[Mutant]:
        if returns and isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign | ast.Expr):
            yield self.replace(node, "pass")
        if isinstance(node, ast.AugAssign) and type(node.op) in OPERATORS:
            old, new = OPERATORS[type(node.op)]
            yield from self.between(node.target, node.value, f"{old}=", f"{new}=")
        if isinstance(node, ast.Return) and node.value is not None and not isinstance(node.value, ast.Constant):
            changed = {"bool": "not ({})", "int": "({}) + 1", "bytes": "b''"}.get(returns, "None")
            yield self.replace(node.value, changed.format(self.text_of(node.value)))

    def expression(self, node: ast.expr) -> Iterator[Mutant]:
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            for left, op, right in zip(sides, node.ops, sides[1:], strict=False):
                yield from self.between(left, right, *COMPARISONS[type(op)])
        elif isinstance(node, ast.BoolOp):
            swap = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
            for left, right in zip(node.values, node.values[1:], strict=False):
                yield from self.between(left, right, *swap)
        elif isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
            yield from self.between(node.left, node.right, *OPERATORS[type(node.op)])
        elif isinstance(node, ast.UnaryOp):
            yield self.replace(node, f"({self.text_of(node.operand)})")
        elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
            yield self.replace(node, str(not node.value))
        elif isinstance(node, ast.Constant) and isinstance(node.value, int):
            yield self.replace(node, str(node.value + 1))
            yield self.replace(node, str(node.value - 1))
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load):
            family = self.families.get(ast.unparse(node), [])
            if len(family) > 1:
                yield self.replace(node, family[(family.index(ast.unparse(node)) + 1) % len(family)])

    def between(self, left: ast.expr, right: ast.expr, old: str, new: str) -> Iterator[Mutant]:
        """Replace the operator between two operands."""
        start, stop = self.span(left)[1], self.span(right)[0]
        at = self.source.find(old.encode(), start, stop)
        if at >= 0:
            yield Mutant(self.path, self.source.count(b"\n", 0, at) + 1, at, at + len(old), new)

    def replace(self, node: ast.stmt | ast.expr, text: str) -> Mutant:
        return Mutant(self.path, node.lineno, *self.span(node), text)

    def span(self, node: ast.stmt | ast.expr) -> tuple[int, int]:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self.lines[node.lineno - 1] + node.col_offset, self.lines[node.end_lineno - 1] + node.end_col_offset

    def text_of(self, node: ast.expr) -> str:
        start, stop = self.span(node)
        return self.source[start:stop].decode()


def families(tree: ast.Module) -> dict[str, list[str]]:
    """For each constant that the module uses, similar constants: from the same module, with the same first word."""
    origin: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            origin |= {alias.asname or alias.name: str(node.module) for alias in node.names}
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            origin[ast.unparse(node)] = node.value.id
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            origin[node.target.id] = ""
    constants = sorted(name for name in origin if name.split(".")[-1].isupper())
    kin: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name in constants:
        kin[origin[name], name.split(".")[-1].split("_")[0]].append(name)
    alone: dict[str, list[str]] = defaultdict(list)
    for name in constants:
        if len(kin[origin[name], name.split(".")[-1].split("_")[0]]) == 1:
            alone[origin[name]].append(name)
    return {name: group for group in (*kin.values(), *alone.values()) if len(group) > 1 for name in group}


def numbers_that_name(tree: ast.Module) -> set[int]:
    """The node ids of numbers of states and flags: another constant is one more, one less, the double or the half."""
    values = {
        id(node.value): node.value.value
        for node in tree.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Constant)
        if isinstance(node.value.value, int)
    }
    known = set(values.values())
    return {key for key, n in values.items() if known & ({n - 1, n + 1, n * 2, n // 2 if n % 2 == 0 else -1} - {n})}
