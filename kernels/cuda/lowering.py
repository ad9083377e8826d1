"""From stages to a program: which call computes which operators, on which values."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from iosfarm.ir.errors import Infeasible
from iosfarm.ir.graph import DTYPES
from iosfarm.ir.merge import merged_convolution
from iosfarm.ir.operators import FUSED_ACTIVATIONS, Attribute, Attributes, Shape
from iosfarm.ir.stage import Stage
from iosfarm.ir.stage_units import StageOperator, StageUnit
from iosfarm.kernels.cuda import catalogue
from iosfarm.kernels.cuda.calls import Calls, Separable
from iosfarm.kernels.cuda.program.steps import Call, Into, Program, Step, Value
from iosfarm.kernels.cuda.providers.convolution import Convolution, convolution_of

References = Callable[[int], int]
"""Where a reference of a stage (see `StageOperator`) stands among a program's values."""


class Lowering:
    """Collects the steps of one stage, or of all stages of a schedule.

    shapes: of the values that there are before any scratch memory: inputs, then operators. operators: numbers by which
    weights are found, of a stage's operators in order.
    """

    def __init__(self, calls: Calls, dtype: str, shapes: Sequence[Shape]) -> None:
        self._calls = calls
        self._dtype = dtype
        self._values = [Value(shape, math.prod(shape) * DTYPES[dtype]) for shape in shapes]
        self._same = list(range(len(shapes)))  # the value whose memory each has
        self._steps: list[Step] = []
        self._place: tuple[int, int, tuple[int, ...]] = (0, 0, ())
        self._groups = 1

    def program(self, inputs: Sequence[int], outputs: Sequence[int]) -> Program:
        """The program so far. One without any step copies its first output, so that there is something to time."""
        if not self._steps:
            source = self._same[outputs[0]]
            self._values.append(self._values[source])
            call = self._calls.operator("dropout", {"rate": 0.0}, [self._values[source].shape], self._dtype)
            self._steps.append(Step(call, (source,), (len(self._values) - 1,), None, (), 0, 0))
        kept = tuple(self._same[value] for value in outputs)
        shapes = tuple(self._values[value].shape for value in outputs)
        return Program(tuple(self._values), tuple(self._steps), tuple(inputs), kept, shapes)

    def stage(self, stage: Stage, number: int, slot_of: References, operators: Sequence[int]) -> None:
        """Add a stage: its streams side by side, the longest first, as the stage has them."""
        self._groups = len(stage.streams)
        numbers = {unit.first: position for position, unit in enumerate(stage.units)}
        for group, stream in enumerate(stage.streams):
            if stream.merged:
                self._place = (number, group, tuple(numbers[unit.first] for unit in stream.units))
                self._merged(stage, stream.units, slot_of, operators)
                continue
            for unit in stream.units:
                self._place = (number, group, (numbers[unit.first],))
                self._unit(stage, unit, slot_of, operators)

    # -- units ---------------------------------------------------------------------------------------------------

    def _unit(self, stage: Stage, unit: StageUnit, slot_of: References, numbers: Sequence[int]) -> None:
        position = 0
        while position < len(unit.operators):
            position += self._separable(stage, unit, position, slot_of, numbers)
            if position < len(unit.operators):
                position += self._residual(stage, unit, position, slot_of, numbers)
            if position < len(unit.operators):
                position += self._alone(stage, unit, position, slot_of, numbers)

    def _alone(self, stage: Stage, unit: StageUnit, position: int, slot_of: References, numbers: Sequence[int]) -> int:
        operator, number = unit.operators[position], unit.first + position
        sources, target = [slot_of(r) for r in operator.references], slot_of(number)
        shapes = [stage.shape_of(r) for r in operator.references]
        into: Into | None
        if catalogue.is_view(operator, shapes):
            self._same[target] = self._same[sources[0]]
            return 1
        if operator.kind == "conv2d":
            wanted = convolution_of(operator.attributes, shapes[0], operator.shape, self._dtype)
            call, into = self._convolution(wanted)
        else:
            call = self._calls.operator(operator.kind, operator.attributes, shapes, self._dtype)
            into = self._calls.operator_into(operator.kind, operator.attributes, shapes, self._dtype)
        joins = operator.kind == "concat" and len(operator.shape) == 4 and operator.attributes.get("axis", 1) == 1
        self._add(call, sources, [target], (numbers[number],) if call.parameters.size else (), into, joins)
        return 1

    def _convolution(self, wanted: Convolution) -> tuple[Call, Into]:
        groups = self._groups
        call = self._calls.convolution(wanted, groups)
        return call, Into(wanted.text, lambda part: self._calls.convolution_into(wanted, part, groups))

    def _residual(
        self, stage: Stage, unit: StageUnit, position: int, slot_of: References, numbers: Sequence[int]
    ) -> int:
        """A convolution and the sum that it is added to, as one call; 0 operators where it is not that."""
        pair = unit.operators[position : position + 2]
        number = unit.first + position
        if [o.kind for o in pair] != ["conv2d", "add"] or pair[0].attributes["activation"] != "none":
            return 0
        convolution, add = pair
        others = [r for r in add.references if r != number]
        if len(add.references) != 2 or len(others) != 1 or stage.shape_of(others[0]) != convolution.shape:
            return 0
        if not _read_once(unit, position):
            return 0
        source = convolution.references[0]
        plain = convolution_of(convolution.attributes, stage.shape_of(source), convolution.shape, self._dtype)
        wanted = replace(plain, residual=True, activation=str(add.attributes["activation"]))
        call, into = self._convolution(wanted)
        self._add(call, [slot_of(source), slot_of(others[0])], [slot_of(number + 1)], (numbers[number],), into)
        return 2

    def _separable(
        self, stage: Stage, unit: StageUnit, position: int, slot_of: References, numbers: Sequence[int]
    ) -> int:
        """An activation if there is one, a depthwise and a pointwise convolution, as one call where that is faster; 0
        operators where it is not.
        """
        before = unit.operators[position].kind
        length = 3 if before in FUSED_ACTIVATIONS else 2
        chain = unit.operators[position : position + length]
        number = unit.first + position
        if [o.kind for o in chain[-2:]] != ["conv2d", "conv2d"] or len(chain) < length:
            return 0
        if any(o.references != (number + i,) for i, o in enumerate(chain[1:])):
            return 0
        if not all(_read_once(unit, position + i) for i in range(length - 1)):
            return 0
        source, (first, second) = chain[0].references[0], chain[-2:]
        shape = stage.shape_of(source)
        wanted = Separable(
            before if length == 3 else "none",
            convolution_of(first.attributes, shape, first.shape, self._dtype),
            convolution_of(second.attributes, first.shape, second.shape, self._dtype),
        )
        call = self._calls.separable(wanted, self._groups)
        if call is None:
            return 0
        last = number + length - 1
        into = self._calls.separable_into(wanted, call)
        self._add(call, [slot_of(source)], [slot_of(last)], (numbers[last - 1], numbers[last]), into)
        return length

    def _merged(self, stage: Stage, units: Sequence[StageUnit], slot_of: References, numbers: Sequence[int]) -> None:
        """One convolution for all units; each unit's channels are copied out, so that readers find them dense."""
        operators = [unit.operators[0] for unit in units]
        attributes, shape = merged_attributes(stage, operators)
        source = operators[0].references[0]
        wanted = convolution_of(attributes, stage.shape_of(source), shape, self._dtype)
        whole = self._scratch(shape, math.prod(shape) * DTYPES[self._dtype])
        self._add(
            self._calls.convolution(wanted, self._groups),
            [slot_of(source)],
            [whole],
            tuple(numbers[unit.output] for unit in units),
        )
        first = 0
        for unit, operator in zip(units, operators, strict=True):
            last = first + operator.shape[1]
            cut = "slice", {"start": first, "stop": last}, [shape], self._dtype
            self._add(self._calls.operator(*cut), [whole], [slot_of(unit.output)], (), self._calls.operator_into(*cut))
            first = last

    # -- steps ---------------------------------------------------------------------------------------------------

    def _add(
        self,
        call: Call,
        reads: Sequence[int],
        writes: Sequence[int],
        operators: tuple[int, ...],
        into: Into | None = None,
        joins: bool = False,
    ) -> None:
        scratch = self._scratch((call.workspace,), call.workspace) if call.workspace else None
        sources = tuple(self._same[value] for value in reads)
        self._steps.append(Step(call, sources, tuple(writes), scratch, operators, *self._place, into, joins))

    def _scratch(self, shape: Shape, size: int) -> int:
        self._values.append(Value(shape, size))
        self._same.append(len(self._values) - 1)
        return len(self._values) - 1


def merged_attributes(stage: Stage, operators: Sequence[StageOperator]) -> tuple[Attributes, Shape]:
    """Of the convolution that computes all of these, output channels in order, and its output's shape."""
    attributes = [operator.attributes for operator in operators]
    height, width = stage.shape_of(operators[0].references[0])[2:]
    merged = merged_convolution(attributes, (height, width))
    if merged is None:
        raise Infeasible("these convolutions cannot be merged")
    channels = sum(operator.shape[1] for operator in operators)
    own: dict[str, Attribute] = {"out_channels": channels, "kernel": merged.kernel, "padding": merged.padding}
    shape = (operators[0].shape[0], channels, *operators[0].shape[2:])
    return {**attributes[0], **own, "bias": any(bool(a["bias"]) for a in attributes)}, shape


def _read_once(unit: StageUnit, position: int) -> bool:
    """Whether an operator's result is read by one operator of its unit and is not the unit's own."""
    number = unit.first + position
    readers = [o for o in unit.operators for r in o.references if r == number]
    return number != unit.output and len(readers) == 1
