"""Read the text of a compiled program: how many kernels a training step has, how many bytes they move, and what it should not contain.

The text is that of ``jax.stages.Compiled.as_text()``. The training program of the engine is a loop over epochs around a loop over steps. The
loop over steps is the one in whose body the gradient is computed, by the names of its operations; loops inside it, such as those over time,
count as often as they are repeated.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from math import prod
from typing import NamedTuple

BYTES = {
    "pred": 1,
    "s4": 1,
    "u4": 1,
    "bf16": 2,
}  # of a number, by the name of its type; others end with the number of bits
# Instructions that neither compute nor copy anything.
FREE = {
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "add-dependency", "partition-id", "replica-id",
    "opt-barrier", "copy-done", "async-done", "async-update", "all-reduce-done", "all-gather-done", "collective-permute-done", "recv-done",
    "send-done", "slice-done", "iota", "domain",
}  # fmt: skip
COLLECTIVES = ("all-reduce", "all-gather", "all-to-all", "reduce-scatter", "collective-permute", "collective-broadcast")
HOST = ("infeed", "outfeed", "send", "recv")
SLICES = ("dynamic-slice", "gather", "slice")
KINDS = {
    "dot": "product",
    "convolution": "convolution",
    "copy": "copy",
    "transpose": "copy",
    "copy-start": "copy",
    "concatenate": "copy",
}


class Instruction(NamedTuple):
    """An instruction.

    Parameters
    ----------
    name, opcode : str
        Name, and operation such as ``"fusion"``.
    shapes : tuple of (str, tuple of int)
        Type and dimensions of each result.
    operands : tuple of str
        Names of the operands; the value of a constant.
    text : str
        Attributes: called computations, metadata and the configuration of the backend.
    n_bytes : int
        Size of the results in bytes, without those in the fast memory of a TPU core.
    """

    name: str
    opcode: str
    shapes: tuple[tuple[str, tuple[int, ...]], ...]
    operands: tuple[str, ...]
    text: str
    n_bytes: int

    @property
    def operation(self) -> str:
        """The operation of the Python program, within its functions and loops; empty if the compiler has made the instruction."""
        name = re.search(r'op_name="([^"]*)"', self.text)
        return "" if name is None else name[1]

    def called(self, *attributes: str) -> list[str]:
        """Return the computations that an attribute names.

        Parameters
        ----------
        *attributes : str
            Such as ``"body"``.

        Returns
        -------
        list of str
            Names of computations.
        """
        found = []
        for attribute in attributes:
            for single, several in re.findall(rf"\b{attribute}=(?:%?([\w.\-]+)|\{{([^}}]*)\}})", self.text):
                found += [single] if single else re.findall(r"%?([\w.\-]+)", several)
        return found


class Kernel(NamedTuple):
    """An instruction that a device executes.

    Parameters
    ----------
    instruction : Instruction
        The instruction.
    times : int
        How often it is executed in each iteration of the loop that is counted.
    n_bytes : int
        Bytes that it reads and writes each time: of operands and results, and of slices of them where only these are used.
    kind : {"product", "convolution", "copy", "fusion", "other"}
        What it computes; a fusion with a product in it counts as a product.
    """

    instruction: Instruction
    times: int
    n_bytes: int
    kind: str


class Program:
    """The computations of a compiled program.

    Parameters
    ----------
    text : str
        ``jax.stages.Compiled.as_text()``.

    Attributes
    ----------
    computations : dict of str to list of Instruction
        Instructions by computation.
    entry : str
        Name of the computation with which the program begins.
    """

    def __init__(self, text: str) -> None:
        self.computations: dict[str, list[Instruction]] = {}
        self.entry, current = "", []
        for line in text.splitlines():
            if line.endswith("{") and (start := re.match(r"(ENTRY )?%?([\w.\-]+) .*->.*\{$", line)):
                current = self.computations[start[2]] = []
                self.entry = start[2] if start[1] else self.entry
            elif instruction := _parse(line):
                current.append(instruction)

    def step_loop(self) -> Instruction:
        """Return the loop over training steps; in a program without a gradient, the loop with the most kernels.

        Returns
        -------
        Instruction
            Its ``while`` instruction.

        Raises
        ------
        ValueError
            If the program has no loop.
        """
        loops = list(self._loops(self.entry))
        if not loops:
            raise ValueError("the program has no loop")
        # The operation of the loop is named A/while if those of its gradient are named A/while/body/transpose(...).
        gradients = {loop: self._gradient_names(loop.called("body")[0]) for loop in loops}
        steps = [
            loop
            for loop, names in gradients.items()
            if any(name[: name.rindex("while") + 5] == loop.operation for name in names if "while" in name)
        ]
        return max(
            steps or loops, key=lambda loop: sum(kernel.times for kernel in self.kernels(loop.called("body")[0]))
        )

    def repeats(self, loop: Instruction) -> int | None:
        """Return how often the body of a loop is repeated.

        Parameters
        ----------
        loop : Instruction
            A loop.

        Returns
        -------
        int or None
            The number; None if it is not known before the program runs.
        """
        if count := re.search(r'known_trip_count"?\s*[:=]\s*\{\s*"?n"?\s*[:=]\s*"?(\d+)', loop.text):
            return int(count[1])
        condition = self.computations[loop.called("condition")[0]]  # of a loop for a TPU: counter < constant
        limits = [
            some
            for some in condition
            if some.opcode == "constant" and some.shapes and some.shapes[0][0] in ("s32", "u32")
        ]
        simple = len(limits) == 1 and {some.opcode for some in condition} <= {
            "parameter",
            "constant",
            "get-tuple-element",
            "compare",
        }
        return int(limits[0].operands[0]) if simple and limits[0].operands else None

    def enclosing(self, loop: Instruction) -> str:
        """Return the computation that contains a loop: the body of the loop over epochs.

        Parameters
        ----------
        loop : Instruction
            The loop over steps.

        Returns
        -------
        str
            Name of the computation.
        """
        name = next(name for name, body in self.computations.items() if loop in body)
        callers = (
            name
            for name, body in self.computations.items()
            for i in body
            if i.opcode == "call" and name in i.called("to_apply")
        )
        return next(callers, name)

    def kernels(self, computation: str, times: int = 1, without: Instruction | None = None) -> Iterator[Kernel]:
        """Return what a device executes in a computation, including the loops and branches in it.

        Parameters
        ----------
        computation : str
            Name of the computation.
        times : int
            How often it is executed.
        without : Instruction, optional
            A loop that does not count.

        Yields
        ------
        Kernel
            A kernel. Of a conditional, those of the longest branch; of a loop of unknown length, those of one iteration.
        """
        shapes = {instruction.name: instruction for instruction in self.computations[computation]}
        for instruction in self.computations[computation]:
            if instruction == without or instruction.opcode in FREE:
                continue
            if instruction.opcode == "while":
                yield from self.kernels(
                    instruction.called("body")[0], times * (self.repeats(instruction) or 1), without
                )
            elif instruction.opcode == "call":
                yield from self.kernels(instruction.called("to_apply")[0], times, without)
            elif instruction.opcode == "conditional":
                names = instruction.called("branch_computations", "true_computation", "false_computation")
                branches = [list(self.kernels(name, times, without)) for name in names]
                yield from max(branches, key=lambda kernels: sum(kernel.times for kernel in kernels))
            else:
                operands = [shapes[name] for name in instruction.operands if name in shapes]
                yield Kernel(instruction, times, self._bytes(instruction, operands), self._kind(instruction))

    def _loops(self, computation: str) -> Iterator[Instruction]:
        for instruction in self.computations[computation]:
            if instruction.opcode == "while":
                yield instruction
        for instruction in self.computations[computation]:
            if instruction.opcode in ("while", "call", "conditional"):
                names = ("body", "to_apply", "branch_computations", "true_computation", "false_computation")
                for name in instruction.called(*names):
                    yield from self._loops(name)

    def _gradient_names(self, computation: str) -> set[str]:
        """The names of the operations of a gradient in a computation and in what it calls, up to the gradient."""
        found = set()
        for instruction in self.computations.get(computation, []):
            before, gradient, _ = instruction.operation.partition("transpose(jvp")
            found |= {before} if gradient else set()
            for name in instruction.called("body", "to_apply", "calls", "branch_computations", "true_computation"):
                found |= self._gradient_names(name)
        return found

    def _bytes(self, instruction: Instruction, operands: Sequence[Instruction]) -> int:
        """Bytes that a kernel reads and writes. Slices of larger arrays, and updates of a part of them, count with their own size."""
        if instruction.opcode in SLICES:
            return 2 * instruction.n_bytes
        if instruction.opcode in ("dynamic-update-slice", "scatter"):
            return (
                sum(operand.n_bytes for operand in operands[1:])
                + operands[-1 if instruction.opcode == "scatter" else 1].n_bytes
            )
        names = instruction.called("calls")
        if instruction.opcode != "fusion" or not names:
            workspace = 0  # of a library, which uses little of it
            if instruction.opcode == "custom-call" and len(instruction.shapes) > 1:
                workspace = sum(prod(dims) for dtype, dims in instruction.shapes if dtype in ("s8", "u8"))
            return instruction.n_bytes - workspace + sum(operand.n_bytes for operand in operands)
        body = {inner.name: inner for inner in self.computations[names[0]]}
        total = instruction.n_bytes
        for inner in body.values():
            users = [user for user in body.values() if inner.name in user.operands]
            if inner.opcode == "dynamic-update-slice" and inner.n_bytes <= total:
                updated = body[inner.operands[1]].n_bytes if inner.operands[1] in body else 0
                total += updated - inner.n_bytes  # the array is changed where it is
            if inner.opcode != "parameter":
                continue
            if users and all(user.opcode in SLICES and user.operands[0] == inner.name for user in users):
                total += sum(min(user.n_bytes, inner.n_bytes) for user in users)
            elif not (users and all(u.opcode == "dynamic-update-slice" and u.operands[0] == inner.name for u in users)):
                total += inner.n_bytes
        return total

    def _kind(self, instruction: Instruction) -> str:
        if instruction.opcode == "custom-call":
            target = instruction.text.lower()
            if "conv" in target:
                return "convolution"
            return (
                "product" if any(word in target for word in ("gemm", "matmul", "dot", "fmha", "attention")) else "other"
            )
        if instruction.opcode == "fusion":
            inner = {some.opcode for name in instruction.called("calls") for some in self.computations.get(name, [])}
            for opcode in ("convolution", "dot"):
                if opcode in inner:
                    return KINDS[opcode]
            moves = {
                "parameter",
                "constant",
                "copy",
                "transpose",
                "bitcast",
                "concatenate",
                "slice",
                "tuple",
                "reshape",
                "pad",
                "broadcast",
            }
            return "copy" if inner and inner <= moves else "fusion"
        return KINDS.get(instruction.opcode, "other")


def count_kinds(kernels: Sequence[Kernel]) -> dict[str, int]:
    """Return how often kernels of each kind are executed.

    Parameters
    ----------
    kernels : sequence of Kernel
        Kernels.

    Returns
    -------
    dict of str to int
        Counts by kind.
    """
    counts: Counter[str] = Counter()
    for kernel in kernels:
        counts[kernel.kind] += kernel.times
    return {kind: counts[kind] for kind in ("product", "convolution", "copy", "fusion", "other")}


def count_copies(kernels: Sequence[Kernel], runs: int, parts: Sequence[tuple[int, ...]]) -> int:
    """Return the number of results that have the size of a part of the data, once for each run.

    Parameters
    ----------
    kernels : sequence of Kernel
        Kernels.
    runs : int
        Runs of a device, at least 2: the copy of one run cannot be distinguished from the data.
    parts : sequence of tuple of int
        Shapes of the parts of the data.

    Returns
    -------
    int
        Number of copies.
    """
    sizes = {runs * prod(shape) for shape in parts}
    return sum(prod(dims) in sizes for kernel in kernels for _, dims in kernel.instruction.shapes) if runs > 1 else 0


def type_bytes(dtype: str) -> int:
    """Return the size of a number.

    Parameters
    ----------
    dtype : str
        Name of its type, such as ``"f32"``.

    Returns
    -------
    int
        Bytes; 0 for tokens.
    """
    if dtype in BYTES:
        return BYTES[dtype]
    bits = re.match(r"[a-z]+(\d+)", dtype)
    return 0 if bits is None else int(bits[1]) // 8


def _parse(line: str) -> Instruction | None:
    """The instruction of a line: ``name = type opcode(operands), attributes``."""
    start = re.match(r"\s*(ROOT )?%?([\w.\-]+) = ", line)
    if start is None:
        return None
    rest = line[start.end() :]
    end = _closing(rest, 0) + 1 if rest.startswith("(") else rest.index(" ")
    result, rest = rest[:end], rest[end:].lstrip()
    opening = rest.index("(")
    closing = _closing(rest, opening)
    results = re.findall(r"([a-z]\w*)\[([\d,<=]*)\](\{[^}]*\})?", result)
    shapes = tuple((dtype, tuple(int(size) for size in re.findall(r"\d+", dims))) for dtype, dims, _ in results)
    n_bytes = sum(
        type_bytes(dtype) * prod(dims)
        for (dtype, dims), (_, _, layout) in zip(shapes, results, strict=True)
        if "S(1)" not in layout
    )
    operands = tuple(re.findall(r"%([\w.\-]+)", rest[opening:closing]))
    if rest[:opening] == "constant":
        operands = (rest[opening + 1 : closing],)
    return Instruction(start[2], rest[:opening], shapes, operands, rest[closing + 1 :], n_bytes)


def _closing(text: str, opening: int) -> int:
    """Position of the parenthesis that closes the one at a position."""
    depth = 0
    for position in range(opening, len(text)):
        depth += {"(": 1, ")": -1}.get(text[position], 0)
        if depth == 0:
            return position
    return len(text) - 1
