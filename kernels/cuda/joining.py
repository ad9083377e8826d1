"""Concatenations without copies: what is concatenated is written straight into its channels of the result.

Only for whole schedules without barriers. A stage that is measured by itself has tensors of its own at its borders, so
between barriers a concatenation stays what was measured: a copy.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from iosfarm.ir.device import canonical_json
from iosfarm.kernels.cuda.calls import Calls
from iosfarm.kernels.cuda.catalogue.part import Part
from iosfarm.kernels.cuda.program.steps import Call, Program, Step, Value


def joined(program: Program, calls: Calls, dtype: str) -> Program:
    """The same program, in which the writers of what a step concatenates write there themselves, as far as each can and
    does not lose more by it than the copy takes; what is left, the step copies.

    A tensor that anything else reads, or that is handed out, stays apart: kernels read dense tensors.
    """
    read = Counter(value for step in program.steps for value in step.reads)
    writer = {value: number for number, step in enumerate(program.steps) for value in step.writes}
    kept = {*program.inputs, *program.outputs}
    steps: list[Step | None] = list(program.steps)
    values = list(program.values)
    for number, step in enumerate(program.steps):
        if not step.joins or not _as_they_are(program, step):
            continue
        pieces = _pieces(program, step)
        copying = _copying(program, step, calls, dtype)
        left = []
        for piece in pieces:
            maker = writer.get(piece.value)
            own = None if maker is None or read[piece.value] > 1 or piece.value in kept else steps[maker]
            moved = None if own is None else _moved(program, own, piece, step.writes[0], calls, copying)
            if maker is None or moved is None:
                left.append(piece)
            else:
                steps[maker] = _with_scratch(moved, values)
        steps[number] = _rest(program, step, left, calls, dtype) if len(left) < len(pieces) else step
    return replace(program, values=tuple(values), steps=tuple(step for step in steps if step is not None))


@dataclass(frozen=True)
class _Piece:
    """A value that is concatenated, and where."""

    value: int
    part: Part


def _as_they_are(program: Program, step: Step) -> bool:
    """Whether all that is concatenated has been computed under the shape that it has here: a view has another."""
    batch, _, *size = program.values[step.writes[0]].shape
    shapes = [program.values[value].shape for value in step.reads]
    return all(len(shape) == 4 and (shape[0], *shape[2:]) == (batch, *size) for shape in shapes)


def _pieces(program: Program, step: Step) -> list[_Piece]:
    pitch = program.values[step.writes[0]].shape[1]
    result, first = [], 0
    for value in step.reads:
        result.append(_Piece(value, Part(pitch, first)))
        first += program.values[value].shape[1]
    return result


def _copying(program: Program, step: Step, calls: Calls, dtype: str) -> float | None:
    """Seconds that the concatenation takes for each byte."""
    shapes = [list(program.values[value].shape) for value in step.reads]
    sizes = [program.values[value].size for value in step.reads]
    whole = program.values[step.writes[0]].size
    seconds = calls.seconds(canonical_json(["concat", shapes, dtype]), step.call, sizes, [whole])
    return None if seconds is None else seconds / whole


def _moved(
    program: Program, step: Step, piece: _Piece, target: int, calls: Calls, copying: float | None
) -> Step | None:
    """The step writing to the part; None where it cannot, or had better not."""
    if step.into is None or step.writes != (piece.value,):
        return None
    call = step.into.make(piece.part)
    if call is None:
        return None
    if calls.timed and not _worth(program, step, call, piece, target, calls, copying):
        return None
    return replace(step, call=call, writes=(target,))


def _with_scratch(step: Step, values: list[Value]) -> Step:
    """Another call may want other scratch memory."""
    size = step.call.workspace
    if not size:
        return replace(step, scratch=None)
    values.append(Value((size,), size))
    return replace(step, scratch=len(values) - 1)


def _worth(
    program: Program, step: Step, call: Call, piece: _Piece, target: int, calls: Calls, copying: float | None
) -> bool:
    assert step.into is not None
    values = program.values
    reads, own, whole = [values[value].size for value in step.reads], values[piece.value].size, values[target].size
    key = step.into.key
    apart = calls.seconds(key, step.call, reads, [own])
    there = calls.seconds(canonical_json([key, piece.part.pitch, piece.part.first]), call, reads, [whole])
    return None not in (apart, there, copying) and there <= apart + copying * own  # type: ignore[operator]


def _rest(program: Program, step: Step, left: Sequence[_Piece], calls: Calls, dtype: str) -> Step | None:
    """The concatenation of what is left; None where nothing is."""
    if not left:
        return None
    shapes = [program.values[piece.value].shape for piece in left]
    call = calls.rest(shapes, [piece.part.first for piece in left], program.values[step.writes[0]].shape, dtype)
    return replace(step, call=call, reads=tuple(piece.value for piece in left))
