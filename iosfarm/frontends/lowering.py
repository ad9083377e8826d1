"""From a program of torch operators to a graph: the state that the rules of `iosfarm.frontends.rules` work on."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from iosfarm.frontends.errors import CannotImport, NoCounterpart
from iosfarm.frontends.program import Node, Program, Ref, TensorType, references
from iosfarm.ir.errors import GraphError
from iosfarm.ir.graph import GraphInput, Operator
from iosfarm.ir.operators import Shape, spec


@dataclass(frozen=True)
class Value:
    """A tensor of the graph. shape: for the batch of the recording. axis: where the batch is, None: nowhere. outer:
    where other factors than the batch make up that axis, the product of those outside of it.
    """

    name: str
    shape: tuple[int, ...]
    axis: int | None
    outer: int = 1

    @property
    def rank(self) -> int:
        """Number of axes."""
        return len(self.shape)


@dataclass(frozen=True)
class Constant:
    """A tensor that does not depend on the inputs. batched: made for a batch of 1 where the program has the batch of
    the recording in the first axis.
    """

    tensor: Tensor
    batched: bool = False


@dataclass(frozen=True)
class Deferred:
    """Results of nodes that are kept whole, as part of whatever reads them."""

    ref: Ref
    type: TensorType


Found = Value | Constant | Deferred
Result = Found | Sequence[Found | None]


class Lowering:
    """A graph under construction, values by the program's names."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.batch = program.batch
        self.operators: list[Operator] = []
        self.weights: dict[str, NDArray[np.float32]] = {}
        self.shapes: dict[str, Shape] = {}
        self.values: dict[Ref, Found | None] = {}
        self.users: dict[str, list[Node]] = {}
        self.outputs = set(references(program.outputs))
        self._taken: Counter[str] = Counter()
        self._label = ""
        for node in program.nodes:
            for name in {ref.name for ref in node.refs()}:
                self.users.setdefault(name, []).append(node)
        self.inputs = [self._input(name, kind) for name, kind in program.inputs.items()]

    def _input(self, name: str, kind: TensorType) -> GraphInput:
        self._taken[name] = 1
        self.shapes[name] = (1, *kind.shape[1:])
        self.values[Ref(name)] = Value(name, kind.shape, 0)
        return GraphInput(name, kind.shape[1:])

    # -- adding operators ----------------------------------------------------------------------------------------

    def label(self, text: str) -> None:
        """What the next operators are named after."""
        self._label = text

    def add(
        self,
        kind: str,
        inputs: Sequence[Value],
        *,
        batch_axis: int | None = -1,
        weights: Mapping[str, Tensor] | None = None,
        **attributes: object,
    ) -> Value:
        """An operator. batch_axis: where the batch is in the result; -1: where it is in the first input.

        Raises:
            NoCounterpart: the operator does not take such shapes or attributes.
        """
        axis = inputs[0].axis if batch_axis == -1 else batch_axis
        try:
            found = spec(kind)
            normalised = found.normalise(attributes, kind)
            found.check_arity(len(inputs), kind)
            shape = found.infer(normalised, [value.shape for value in inputs])
            single = found.infer(normalised, [self.shapes[value.name] for value in inputs])
        except GraphError as error:
            raise NoCounterpart(str(error)) from None
        name = self._fresh(self._label or kind)
        for parameter, values in (weights or {}).items():
            self.weights[f"{name}.{parameter}"] = _array(values)
        self.operators.append(Operator(name, kind, tuple(value.name for value in inputs), normalised))
        self.shapes[name] = single
        outer = inputs[0].outer if axis == inputs[0].axis else 1
        return Value(name, shape, self.axis_of(shape, axis), outer)

    def axis_of(self, shape: Sequence[int], tracked: int | None) -> int | None:
        """Where the batch is in a shape."""
        if self.program.exact:
            return next((i for i, size in enumerate(shape) if size % self.batch == 0), None)
        return tracked

    def _fresh(self, wanted: str) -> str:
        self._taken[wanted] += 1
        if self._taken[wanted] == 1:
            return wanted
        return self._fresh(f"{wanted}_{self._taken[wanted]}")

    def save(self) -> Callable[[], None]:
        """A function that takes back everything that is added after now."""
        count, weights = len(self.operators), set(self.weights)
        taken = self._taken.copy()

        def restore() -> None:
            for operator in self.operators[count:]:
                del self.shapes[operator.name]
            del self.operators[count:]
            for name in [name for name in self.weights if name not in weights]:
                del self.weights[name]
            self._taken = taken

        return restore

    # -- values --------------------------------------------------------------------------------------------------

    def value(self, ref: Ref) -> Found:
        """What a reference stands for."""
        found = self.values.get(ref)
        if found is None:
            raise NoCounterpart(f"{ref.name}[{ref.item}] is not computed")
        return found

    def sample(self) -> Value:
        """Any tensor that has the batch first: what constants are repeated for."""
        return Value(self.inputs[0].name, self.program.inputs[self.inputs[0].name].shape, 0)

    def materialised(self, constant: Constant, rank: int | None = None) -> Value:
        """A constant as a tensor of the graph, once for each item of the batch: of `rank`, if it is given."""
        tensor = constant.tensor.to(torch.float32)
        if constant.batched or (tensor.dim() and tensor.dim() == rank and self._repeats(tensor)):
            tensor = tensor[0]
        if rank is not None:
            if tensor.dim() >= rank:
                raise NoCounterpart("a constant with as many axes as what it is used with")
            tensor = tensor.reshape((1,) * (rank - 1 - tensor.dim()) + tuple(tensor.shape))
        if not tensor.dim():
            tensor = tensor.reshape(1)
        return self.add("constant", [self.sample()], batch_axis=0, weights={"value": tensor}, shape=tuple(tensor.shape))

    def _repeats(self, tensor: Tensor) -> bool:
        """Whether a constant is the same for each item of the batch."""
        return tensor.shape[0] == 1 or (tensor.shape[0] == self.batch and bool((tensor == tensor[:1]).all()))

    def reshape(self, value: Value, shape: Sequence[int]) -> Value:
        """The same elements in order; `shape` for the batch of the recording.

        Raises:
            NoCounterpart: the batch is lost.
        """
        shape = tuple(shape)
        if shape == value.shape:
            return value
        axis, outer = self._moved(value, shape)
        if axis is None:
            raise NoCounterpart("the batch is not in the result")
        if axis == 0 and value.axis == 0 and len(shape) == 2 and shape[0] == value.shape[0]:
            return self.add("flatten", [value], batch_axis=0)
        wanted = tuple(-1 if i == axis else size for i, size in enumerate(shape))
        return replace(self.add("reshape", [value], batch_axis=axis, shape=wanted), outer=outer)

    def _moved(self, value: Value, shape: Sequence[int]) -> tuple[int | None, int]:
        """Axis and outer factor of the batch in another shape: as many elements stand before it as did.

        With a batch of 1 there can be several such places: an axis of its own comes first, then one that it begins, but
        for the second of two (rows and features), then one that it is inside of.
        """
        if self.program.exact or value.axis is None:
            return self.axis_of(shape, None), 1
        before = math.prod(value.shape[: value.axis]) * value.outer
        starts = [math.prod(shape[:i]) for i in range(len(shape))]
        begins = [i for i, start in enumerate(starts) if start == before and shape[i] % self.batch == 0]
        own = [i for i in begins if shape[i] == self.batch]
        if own:
            return own[0], 1
        if begins and not (self.batch == 1 and len(shape) == 2 and begins[0] == 1):
            return begins[0], 1
        for i, start in enumerate(starts):
            if before % start == 0 and before > start and shape[i] % (before // start * self.batch) == 0:
                return i, before // start
        return None, 1

    def transpose(self, value: Value, axes: Sequence[int]) -> Value:
        """Axes in another order."""
        axes = tuple(axis % value.rank for axis in axes)
        if axes == tuple(range(value.rank)):
            return value
        axis = None if value.axis is None else axes.index(value.axis)
        return replace(self.add("transpose", [value], batch_axis=axis, axes=axes), outer=value.outer)

    def where(self, node: Node) -> str:
        """For messages."""
        return f"{self.program.name}: {node.where}"

    def fail(self, node: Node, what: str, hint: str = "") -> CannotImport:
        """An error at a node."""
        return CannotImport(what, where=self.where(node), hint=hint)


def _array(tensor: Any) -> NDArray[np.float32]:
    array: NDArray[np.float32] = np.array(tensor.detach().to(torch.float32).cpu().numpy(), order="C")
    return array
