"""From stages to programs: what to compute, in which order, reading and writing which slots."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from iosfarm.ir.merge import merged_convolution
from iosfarm.ir.operators import Attributes, Shape
from iosfarm.ir.stage import Stage
from iosfarm.ir.stage_units import StageOperator, StageUnit
from iosfarm.kernels.cpu.operators.activations import with_activations
from iosfarm.kernels.cpu.operators.convolution import prepared_convolution
from iosfarm.kernels.cpu.operators.out_functions import prepared_elementwise
from iosfarm.kernels.cpu.operators.pooling import prepared_pool
from iosfarm.kernels.cpu.operators.prepared import Prepared
from iosfarm.kernels.cpu.parts import Part, parts_of
from iosfarm.kernels.torch_operators import Function, bind

Bound = Mapping[str, Tensor]


@dataclass(frozen=True)
class Operation:
    """compute: of the values in the slots `sources` a tensor of `shape`, which is put into the slots `targets`: all of
    it, or where they are several, so many channels (`sizes`) to each. inside: the part of another value that the result
    is written to. units: of the stage, whose work it is, by their place in `Stage.units`.
    """

    compute: Prepared | Function
    sources: tuple[int, ...]
    targets: tuple[int, ...]
    shape: Shape
    units: tuple[int, ...]
    sizes: tuple[int, ...] = ()
    inside: Part | None = None


@dataclass(frozen=True)
class StageProgram:
    """Groups of operations that may run side by side. `dead`: slots that nothing reads after this stage."""

    groups: tuple[tuple[Operation, ...], ...]
    reads: frozenset[int]
    writes: frozenset[int]
    dead: tuple[int, ...] = ()


def lower(
    stage: Stage, weights: Sequence[Bound], slot_of: Callable[[int], int], parts: Mapping[int, Part] | None = None
) -> StageProgram:
    """The program of a stage; `slot_of` tells where a reference (see `StageOperator`) stands among the values. parts:
    slots whose values would best be written straight into others; unless given, those that only their own unit reads.
    """
    operators = list(stage.operators)
    dtype = _dtype(stage)
    written = frozenset(slot_of(number) for number in range(len(operators)))
    read = frozenset(slot_of(-1 - k) for k in range(len(stage.inputs)))
    if parts is None:
        parts = _inside_units(stage, slot_of)
    place = {unit.first: position for position, unit in enumerate(stage.units)}
    groups: list[tuple[Operation, ...]] = []
    for stream in stage.streams:
        if stream.merged:
            owners = tuple(place[unit.first] for unit in stream.units)
            groups.append((_merged(stage, stream.units, weights, slot_of, owners, dtype),))
            continue
        operations = []
        for unit in stream.units:
            for executed in with_activations(unit):
                operator, target = executed.operator, slot_of(executed.result)
                shapes = [stage.shape_of(reference) for reference in operator.references]
                compute = _compute(operator, weights[executed.number], shapes, dtype)
                sources = tuple(slot_of(reference) for reference in operator.references)
                operation = Operation(compute, sources, (target,), operator.shape, (place[unit.first],))
                operations.append(_into_part(operation, parts.get(target)))
        groups.append(tuple(operations))
    return StageProgram(tuple(groups), read, written)


def with_liveness(programs: Sequence[StageProgram], kept: Iterable[int]) -> list[StageProgram]:
    """The same stages, each giving up the slots that no later stage reads, except `kept`."""
    needed = set(kept)
    result = []
    for program in reversed(programs):
        present = program.reads | program.writes
        result.append(replace(program, dead=tuple(sorted(present - needed))))
        needed |= program.reads
    return result[::-1]


def _dtype(stage: Stage) -> torch.dtype:
    found: torch.dtype = getattr(torch, stage.dtype)
    return found


def _inside_units(stage: Stage, slot_of: Callable[[int], int]) -> dict[int, Part]:
    """In a network others may read what a unit hands on; what lies between its operators is its own."""
    outputs = {unit.output for unit in stage.units}

    def operators() -> Iterator[tuple[str, Attributes, tuple[int, ...], int, Shape]]:
        for number, operator in enumerate(stage.operators):
            yield operator.kind, operator.attributes, operator.references, number, operator.shape

    found = parts_of(operators(), stage.shape_of, outputs)
    return {slot_of(value): replace(part, whole=slot_of(part.whole)) for value, part in found.items()}


def _into_part(operation: Operation, part: Part | None) -> Operation:
    """The same, writing to a part of another value if it can."""
    if part is None or not isinstance(operation.compute, Prepared):
        return operation
    compute = operation.compute.into_part(part.pitch)
    return operation if compute is None else replace(operation, compute=compute, inside=part)


def _compute(
    operator: StageOperator, weights: Bound, shapes: Sequence[Shape], dtype: torch.dtype
) -> Prepared | Function:
    """What computes an operator of inputs of these shapes."""
    kind, attributes = operator.kind, operator.attributes
    function = bind(kind, attributes, weights)
    prepared: Prepared | Function | None
    if kind == "conv2d":
        prepared = prepared_convolution(attributes, weights, shapes[0])
    elif kind in ("max_pool", "avg_pool"):
        prepared = prepared_pool(kind, attributes, shapes[0], operator.shape, dtype)
    else:
        prepared = prepared_elementwise(kind, attributes, shapes, operator.shape, function, dtype)
    return function if prepared is None else prepared


def _merged(
    stage: Stage,
    units: Sequence[StageUnit],
    weights: Sequence[Bound],
    slot_of: Callable[[int], int],
    owners: tuple[int, ...],
    dtype: torch.dtype,
) -> Operation:
    """One convolution for all units; each unit's channels are copied out, so that readers find them dense."""
    operators = [unit.operators[0] for unit in units]
    attributes = [operator.attributes for operator in operators]
    reference = operators[0].references[0]
    bound = [weights[unit.output] for unit in units]
    weight, bias, padding = merged_parameters(attributes, bound, stage.shape_of(reference)[2:4])
    sizes = tuple(operator.shape[1] for operator in operators)
    targets = tuple(slot_of(unit.output) for unit in units)

    # The merged convolution is a conv2d like any other, with weights of its own.
    merged = {**attributes[0], "padding": padding, "bias": bias is not None}
    parameters = {"weight": weight} if bias is None else {"weight": weight, "bias": bias}
    batch, _, *size = operators[0].shape
    operator = replace(operators[0], attributes=merged, shape=(batch, sum(sizes), *size))
    compute = _compute(operator, parameters, [stage.shape_of(reference)], dtype)
    return Operation(compute, (slot_of(reference),), targets, operator.shape, owners, sizes)


def merged_parameters(
    attributes: Sequence[Attributes], weights: Sequence[Bound], size: Sequence[int]
) -> tuple[Tensor, Tensor | None, tuple[int, int]]:
    """Weight, bias and padding of one convolution that computes all of `attributes`, output channels in order.

    Kernels stand at their offsets in a larger one of zeros; a missing bias is zero.
    """
    merged = merged_convolution(attributes, (size[0], size[1]))
    if merged is None:
        raise ValueError("these convolutions cannot be merged")
    pieces = [bound["weight"] for bound in weights]
    channels = [piece.shape[0] for piece in pieces]
    weight = pieces[0].new_zeros(sum(channels), pieces[0].shape[1], *merged.kernel)
    weight = weight.contiguous(memory_format=torch.channels_last)
    for target, piece, (top, left) in zip(torch.split(weight, channels), pieces, merged.offsets, strict=True):
        target[:, :, top : top + piece.shape[2], left : left + piece.shape[3]] = piece
    if not any(a["bias"] for a in attributes):
        return weight, None, merged.padding
    biases = [
        b["bias"] if a["bias"] else p.new_zeros(p.shape[0]) for a, b, p in zip(attributes, weights, pieces, strict=True)
    ]
    return weight, torch.cat(biases), merged.padding
