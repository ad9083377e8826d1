"""From stages to programs: what to call, in which order, reading and writing which slots."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from iosfarm.ir.merge import merged_convolution
from iosfarm.ir.operators import Attributes, Shape
from iosfarm.ir.stage import Stage
from iosfarm.ir.stage_units import StageUnit
from iosfarm.kernels.cpu.activations import with_activations
from iosfarm.kernels.cpu.convolution import prepared_convolution
from iosfarm.kernels.torch_operators import bind

Values = list[Tensor | None]
Step = Callable[[Values], None]
Bound = Mapping[str, Tensor]


@dataclass(frozen=True)
class StageProgram:
    """Groups of steps that may run side by side. `dead`: slots that nothing reads after this stage. `units`: of each
    step of each group, the units of the stage that it belongs to, by their place in `Stage.units`.
    """

    groups: tuple[tuple[Step, ...], ...]
    reads: frozenset[int]
    writes: frozenset[int]
    dead: tuple[int, ...] = ()
    units: tuple[tuple[tuple[int, ...], ...], ...] = ()


def lower(stage: Stage, weights: Sequence[Bound], slot_of: Callable[[int], int]) -> StageProgram:
    """The program of a stage; `slot_of` tells where a reference (see `StageOperator`) stands among the values."""
    operators = list(stage.operators)
    written = frozenset(slot_of(number) for number in range(len(operators)))
    read = frozenset(slot_of(-1 - k) for k in range(len(stage.inputs)))
    place = {unit.first: position for position, unit in enumerate(stage.units)}
    groups: list[tuple[Step, ...]] = []
    units: list[tuple[tuple[int, ...], ...]] = []
    for stream in stage.streams:
        if stream.merged:
            groups.append((_merged(stage, stream.units, weights, slot_of),))
            units.append((tuple(place[unit.first] for unit in stream.units),))
            continue
        steps, owners = [], []
        for unit in stream.units:
            for executed in with_activations(unit):
                operator = executed.operator
                shape = stage.shape_of(operator.references[0])
                function = _function(operator.kind, operator.attributes, weights[executed.number], shape)
                steps.append(_step(function, [slot_of(r) for r in operator.references], slot_of(executed.result)))
                owners.append((place[unit.first],))
        groups.append(tuple(steps))
        units.append(tuple(owners))
    return StageProgram(tuple(groups), read, written, units=tuple(units))


def with_liveness(programs: Sequence[StageProgram], kept: Iterable[int]) -> list[StageProgram]:
    """The same stages, each giving up the slots that no later stage reads, except `kept`."""
    needed = set(kept)
    result = []
    for program in reversed(programs):
        present = program.reads | program.writes
        result.append(replace(program, dead=tuple(sorted(present - needed))))
        needed |= program.reads
    return result[::-1]


def dense(tensor: Tensor) -> Tensor:
    """A tensor whose elements lie in order, channels last: what a stage hands on, whatever reads it."""
    if tensor.dim() == 4:
        return tensor.contiguous(memory_format=torch.channels_last)
    return tensor.contiguous()


def _function(kind: str, attributes: Attributes, weights: Bound, shape: Shape) -> Callable[..., Tensor]:
    """What computes an operator whose first input has this shape."""
    prepared = prepared_convolution(attributes, weights, shape) if kind == "conv2d" else None
    return bind(kind, attributes, weights) if prepared is None else prepared


def _step(function: Callable[..., Tensor], sources: Sequence[int], target: int) -> Step:
    if len(sources) == 1:
        source = sources[0]

        def single(values: Values) -> None:
            values[target] = dense(function(values[source]))

        return single

    def several(values: Values) -> None:
        values[target] = dense(function(*[values[source] for source in sources]))

    return several


def _merged(stage: Stage, units: Sequence[StageUnit], weights: Sequence[Bound], slot_of: Callable[[int], int]) -> Step:
    """One convolution for all units; each unit's channels are copied out, so that readers find them dense."""
    operators = [unit.operators[0] for unit in units]
    attributes = [operator.attributes for operator in operators]
    reference = operators[0].references[0]
    bound = [weights[unit.output] for unit in units]
    weight, bias, padding = merged_parameters(attributes, bound, stage.shape_of(reference)[2:4])
    source = slot_of(reference)
    sizes = [operator.shape[1] for operator in operators]
    targets = [slot_of(unit.output) for unit in units]

    # The merged convolution is a conv2d like any other, with weights of its own.
    merged = {**attributes[0], "padding": padding, "bias": bias is not None}
    parameters = {"weight": weight} if bias is None else {"weight": weight, "bias": bias}
    function = _function("conv2d", merged, parameters, stage.shape_of(reference))

    def step(values: Values) -> None:
        for target, piece in zip(targets, torch.split(function(values[source]), sizes, 1), strict=True):
            values[target] = dense(piece)

    return step


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
