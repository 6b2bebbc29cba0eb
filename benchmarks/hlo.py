"""What a compiled program does, read from its text: kernels, loops, bytes, multiply-adds.

XLA's text of an optimised module is one computation after another. What stands in the entry, in
bodies of loops and in branches runs as kernels, one for each fusion, copy or library call; what
stands in a fusion's own computation is that kernel's inside.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod
from typing import NamedTuple

_FREE = {
    "parameter", "tuple", "get-tuple-element", "constant", "bitcast", "after-all", "opt-barrier",
    "while", "conditional", "call", "fusion-done", "copy-done", "async-done", "partition-id",
}  # fmt: skip
"""Operations that are no kernel: names for what is there, control flow, or an end of one begun."""
_BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s16": 2, "u16": 2, "f32": 4,
          "s32": 4, "u32": 4, "f64": 8, "s64": 8, "u64": 8}  # fmt: skip
_HEAD = re.compile(r"(ENTRY )?%?([^\s(]+) \(.*\{$")
_LINE = re.compile(r"\s+(?:ROOT )?%?([^\s=]+) = (\(.*?\)|[^\s(]+) ([a-z][a-z0-9-]*)\((.*)$")
_ARRAY = re.compile(r"\b([a-z]+\d*)\[([\d,]*)\]")
_NAME = re.compile(r"%([^\s,(){}]+)")


class Instruction(NamedTuple):
    """One line."""

    name: str
    shape: str
    opcode: str
    rest: str
    """Operands and attributes."""

    @property
    def operands(self) -> list[str]:
        """Names of what goes in."""
        depth, end = 1, 0
        for end, letter in enumerate(self.rest):  # noqa: B007
            depth += (letter == "(") - (letter == ")")
            if not depth:
                break
        return _NAME.findall(self.rest[:end])

    def attribute(self, name: str) -> str | None:
        """What an attribute names, without its braces."""
        found = re.search(rf"\b{name}=(?:\{{([^}}]*)\}}|%?([^\s,]+))", self.rest)
        return found and (found[1] if found[1] is not None else found[2])


Module = dict[str, list[Instruction]]


class Kernel(NamedTuple):
    """What is launched once."""

    name: str
    read: int
    """Bytes."""
    written: int
    """Bytes."""
    multiply_adds: int
    """Of its matrix products."""
    precision: str
    """Of these, as XLA calls it; empty where there are none."""


@dataclass
class Body:
    """What runs once in a computation that is no kernel's inside."""

    kernels: list[Kernel] = field(default_factory=list)
    loops: list[Loop] = field(default_factory=list)
    branches: list[Body] = field(default_factory=list)
    """Of each condition the branch with more kernels."""

    def total(self) -> Iterator[tuple[int, Kernel]]:
        """(how many times, kernel) of all; loops of unknown length count once, branches always."""
        yield from ((1, kernel) for kernel in self.kernels)
        for inner in (*self.branches, *(loop.body for loop in self.loops)):
            times = next((loop.trips or 1 for loop in self.loops if loop.body is inner), 1)
            yield from ((times * count, kernel) for count, kernel in inner.total())

    def find(self, scope: str) -> Body | None:
        """The body of the loop that is a ``jax.named_scope``; None where XLA has unrolled it."""
        for loop in self.loops:
            if loop.scope.endswith(f"{scope}/while"):
                return loop.body
        inner = (*(loop.body for loop in self.loops), *self.branches)
        return next((found for body in inner if (found := body.find(scope))), None)


class Loop(NamedTuple):
    """A while."""

    scope: str
    trips: int | None
    """None where the program does not know before it runs."""
    body: Body


def read(text: str) -> Body:
    """The entry of a module's text."""
    module: Module = {}
    current, entry = "", ""
    for line in text.splitlines():
        if head := _HEAD.match(line):
            current = head[2]
            module[current] = []
            entry = current if head[1] else entry
        elif current and (found := _LINE.match(line)):
            module[current].append(Instruction(*found.groups()))
    return _body(module, entry)


def _body(module: Module, name: str) -> Body:
    shapes = {line.name: line.shape for line in module[name]}
    found = Body()
    for line in module[name]:
        if line.opcode == "while":
            trips = re.search(r'known_trip_count":\{"n":"(\d+)"', line.rest)
            scope = re.search(r'op_name="([^"]*)"', line.rest)
            body = _body(module, line.attribute("body") or "")
            found.loops.append(
                Loop(scope[1] if scope else "", int(trips[1]) if trips else None, body)
            )
        elif line.opcode == "conditional":
            names = [line.attribute(f"{side}_computation") for side in ("true", "false")]
            if None in names:
                names = _NAME.findall(line.attribute("branch_computations") or "")
            branches = [_body(module, branch) for branch in names if branch]
            found.branches.append(max(branches, key=lambda body: sum(n for n, _ in body.total())))
        elif line.opcode == "call":
            inner = _body(module, line.attribute("to_apply") or "")
            found.kernels += inner.kernels
            found.loops += inner.loops
            found.branches += inner.branches
        elif line.opcode not in _FREE:
            found.kernels.append(_kernel(module, line, shapes))
    return found


def _kernel(module: Module, line: Instruction, shapes: dict[str, str]) -> Kernel:
    inside = module.get(line.attribute("calls") or "", [])
    known = {other.name: other.shape for other in inside}
    products = [(_multiply_adds(dot, known), _precision(dot)) for dot in inside]
    products.append((_multiply_adds(line, shapes), _precision(line)))
    made = [(count, precision) for count, precision in products if count]
    sizes = [size_of(shapes.get(operand, "")) for operand in line.operands]
    written = size_of(line.shape if line.opcode != "fusion-start" else line.shape.split("), ")[-1])
    read, written = _touched(inside, sizes, written) if inside else (sum(sizes), written)
    precision = Counter({p: c for c, p in made}).most_common(1)
    return Kernel(
        line.name, read, written, sum(c for c, _ in made), precision[0][0] if made else ""
    )


def _touched(inside: list[Instruction], sizes: list[int], written: int) -> tuple[int, int]:
    """Bytes read and written by a fusion: of what is sliced or updated in place, only the part."""
    shapes = {line.name: line.shape for line in inside}
    alias = {line.name: line.operands[0] for line in inside if line.opcode == "bitcast"}
    read, updated = 0, 0
    for line in inside:
        if line.opcode != "parameter":
            continue
        names = {line.name} | {name for name, of in alias.items() if of == line.name}
        users = [u for u in inside if names & set(u.operands) and u.opcode != "bitcast"]
        size = size_of(line.shape)
        parts = [_part(user, names, shapes) for user in users]
        whole = None in parts or not parts
        read += size if whole else min(size, sum(part or 0 for part in parts))
        for user in users:
            if user.opcode == "dynamic-update-slice" and user.operands[0] in names:
                updated += size_of(user.shape) - size_of(shapes[user.operands[1]])
    return read, max(written - updated, 0)


def _part(user: Instruction, names: set[str], shapes: dict[str, str]) -> int | None:
    """Bytes that an operation reads of its first operand; None for all."""
    if user.operands[0] not in names:
        return None
    if user.opcode in ("dynamic-slice", "slice", "gather"):
        return size_of(user.shape)
    return 0 if user.opcode == "dynamic-update-slice" else None


def _multiply_adds(line: Instruction, shapes: dict[str, str]) -> int:
    """Of one matrix product; 0 of anything else."""
    contracted = line.attribute("lhs_contracting_dims")
    if line.opcode != "dot" or contracted is None:
        return 0
    left = dims_of(shapes[line.operands[0]])
    return prod(dims_of(line.shape)) * prod(left[int(d)] for d in contracted.split(",") if d)


def _precision(line: Instruction) -> str:
    return line.attribute("algorithm") or (line.attribute("operand_precision") or "").split(",")[0]


def size_of(shape: str) -> int:
    """Bytes of a shape, or of all in a tuple."""
    return sum(
        _BYTES.get(kind, 4) * prod(map(int, filter(None, dims.split(","))))
        for kind, dims in _ARRAY.findall(shape)
    )


def dims_of(shape: str) -> list[int]:
    """Dimensions of the first array."""
    found = _ARRAY.search(shape)
    return [int(d) for d in found[2].split(",") if d] if found else []
