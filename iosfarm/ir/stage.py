"""`Stage`: a self-contained piece of work that a worker can execute with random weights, knowing nothing of the model.

A stage is always in canonical form: isomorphic stages are equal, have the same `key`, and run in the same order.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from iosfarm.ir.device import canonical_json
from iosfarm.ir.graph import DTYPES
from iosfarm.ir.merge import merge_of
from iosfarm.ir.operators import Shape, spec
from iosfarm.ir.stage_document import read_stage
from iosfarm.ir.stage_units import KEY_VERSION, StageOperator, StageUnit
from iosfarm.ir.summary import OperatorSummary, StageSummary


@dataclass(frozen=True)
class Stream:
    """Units that run in order or, where `merged`, as one convolution."""

    units: tuple[StageUnit, ...]
    merged: bool


@dataclass(frozen=True)
class Stage:
    """Groups side by side (`concurrent`), convolutions fused into one (`merge`, one unit a group), or both (`mixed`).

    In a mixed stage a group runs as one merged convolution if it is of two or more units that can be merged, else in
    order; there are two or more groups, and at least one is merged.

    inputs: shapes of the distinct tensors that come from outside, batch included. groups: longest first; the units of a
    group run in order. Made by `iosfarm.ir.key.canonical_stage` or `from_json`.
    """

    strategy: str
    dtype: str
    layout: str
    inputs: tuple[Shape, ...]
    groups: tuple[tuple[StageUnit, ...], ...]

    @cached_property
    def canonical(self) -> str:
        """Canonical JSON text: the stage can be rebuilt from it, and the key is its hash."""
        return canonical_json(
            {
                "version": KEY_VERSION,
                "strategy": self.strategy,
                "dtype": self.dtype,
                "layout": self.layout,
                "inputs": self.inputs,
                "groups": [_group_json(group) for group in self.groups],
            }
        )

    @cached_property
    def key(self) -> str:
        """SHA-256 (hex) of the canonical form, its version included."""
        return hashlib.sha256(self.canonical.encode()).hexdigest()

    @classmethod
    def from_json(cls, text: str) -> Stage:
        """The stage of a canonical JSON text.

        Raises:
            GraphError: the text is not a stage of this version, or its shapes do not fit.
        """
        return cls(*read_stage(text))

    @property
    def units(self) -> Iterator[StageUnit]:
        """All units, group by group."""
        return (unit for group in self.groups for unit in group)

    @property
    def operators(self) -> Iterator[StageOperator]:
        """All operators in the order of their numbers."""
        return (operator for unit in self.units for operator in unit.operators)

    @cached_property
    def streams(self) -> tuple[Stream, ...]:
        """What runs side by side."""
        if self.strategy == "merge":
            return (Stream(tuple(self.units), True),)
        mixed = self.strategy == "mixed"
        return tuple([Stream(group, mixed and merge_of(group, self.shape_of) is not None) for group in self.groups])

    def shape_of(self, reference: int) -> Shape:
        """Shape of what a reference stands for."""
        return self.inputs[-1 - reference] if reference < 0 else self._shapes[reference]

    @cached_property
    def _shapes(self) -> tuple[Shape, ...]:
        return tuple(operator.shape for operator in self.operators)

    def parameters(self, operator: StageOperator) -> dict[str, Shape]:
        """Shapes of an operator's weights."""
        return spec(operator.kind).parameters(operator.attributes, [self.shape_of(r) for r in operator.references])

    def flops(self, operator: StageOperator) -> int:
        """Floating-point operations of one operator."""
        shapes = [self.shape_of(r) for r in operator.references]
        return spec(operator.kind).flops(operator.attributes, shapes, operator.shape)

    def bytes_moved(self, operator: StageOperator) -> int:
        """Bytes that an operator reads (inputs and weights) and writes, each once."""
        shapes = [self.shape_of(r) for r in operator.references]
        elements = sum(map(math.prod, [*shapes, *self.parameters(operator).values(), operator.shape]))
        return elements * DTYPES[self.dtype]

    @cached_property
    def summary(self) -> StageSummary:
        """What the latency database keeps of the stage."""
        return StageSummary(
            key=self.key,
            key_version=KEY_VERSION,
            canonical=self.canonical,
            strategy=self.strategy,
            dtype=self.dtype,
            layout=self.layout,
            batch=self.inputs[0][0],
            groups=len(self.groups),
            units=sum(len(group) for group in self.groups),
            flops=sum(self.flops(o) for o in self.operators),
            bytes_moved=sum(self.bytes_moved(o) for o in self.operators),
            operators=tuple(_summary(o, self.shape_of(o.references[0])) for o in self.operators),
        )

    def describe(self) -> str:
        """One short line for people: `conv2d 3x3 64→96 | avg_pool 3x3, conv2d 1x1`; a plus merges."""
        return " | ".join(
            (" + " if s.merged else ", ").join(
                _words(o, self.shape_of(o.references[0])) for u in s.units for o in u.operators
            )
            for s in self.streams
        )


def _words(operator: StageOperator, shape: Shape) -> str:
    words = operator.kind
    kernel = operator.attributes.get("kernel")
    if isinstance(kernel, tuple):
        words += f" {kernel[0]}x{kernel[1]}"
    if min(len(shape), len(operator.shape)) > 1 and shape[1] != operator.shape[1]:
        words += f" {shape[1]}→{operator.shape[1]}"
    return words


def _group_json(group: Sequence[StageUnit]) -> dict[str, object]:
    """References inside a group count its own operators and inputs, so that equal groups are written alike."""
    first = group[0].first
    inputs: dict[int, int] = {}
    units = []
    for unit in group:
        operators = []
        for o in unit.operators:
            local = [r - first if r >= 0 else -1 - inputs.setdefault(-1 - r, len(inputs)) for r in o.references]
            operators.append([o.kind, dict(o.attributes), local])
        units.append(operators)
    return {"inputs": list(inputs), "units": units}


def _summary(operator: StageOperator, shape: Shape) -> OperatorSummary:
    kernel, stride = operator.attributes.get("kernel"), operator.attributes.get("stride")
    spatial = len(shape) == 4
    return OperatorSummary(
        operator.kind,
        in_channels=shape[1] if len(shape) > 1 else None,
        out_channels=operator.shape[1] if len(operator.shape) > 1 else None,
        height=shape[2] if spatial else None,
        width=shape[3] if spatial else None,
        kernel_height=kernel[0] if isinstance(kernel, tuple) else None,
        kernel_width=kernel[1] if isinstance(kernel, tuple) else None,
        stride=stride[0] if isinstance(stride, tuple) else None,
    )
