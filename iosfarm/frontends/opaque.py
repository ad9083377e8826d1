"""Operators without a counterpart, written down as programs of an opaque operator."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from iosfarm.frontends.errors import CannotImport, NoCounterpart
from iosfarm.frontends.imported import Opaque
from iosfarm.frontends.lowering import Constant, Deferred, Lowering, Value
from iosfarm.frontends.program import Node, Ref, TensorType
from iosfarm.ir.device import canonical_json
from iosfarm.ir.errors import GraphError
from iosfarm.kernels.opaque import DTYPES, encoded, operator_of

_DROPPED = frozenset({"device", "layout", "memory_format", "pin_memory", "non_blocking", "copy"})
"""Arguments that say where and how to store a tensor: the runtime's business."""


class OpaqueWriter:
    """Keeps nodes until something reads a tensor of theirs, then makes one opaque operator of all that it rests on.

    Only tensors of floating-point numbers are handed from operator to operator: masks, indices and lists of results
    stay inside of what reads them, computed once for each reader.
    """

    def __init__(self, lowering: Lowering) -> None:
        self._lowering = lowering
        self._nodes: dict[str, Node] = {}
        self.written: list[Opaque] = []

    def defer(self, node: Node) -> None:
        """Keep a node; a single result of floating-point numbers becomes an operator at once."""
        self._check(node)
        self._nodes[node.name] = node
        if isinstance(node.types, TensorType):
            self._lowering.values[Ref(node.name)] = Deferred(Ref(node.name), node.types)
            if node.types.dtype.is_floating_point:
                self.value(Ref(node.name))
            return
        for item, kind in enumerate(node.types):
            if kind is not None:
                self._lowering.values[Ref(node.name, item)] = Deferred(Ref(node.name, item), kind)

    def value(self, ref: Ref) -> Value:
        """A deferred tensor as the result of an opaque operator."""
        found = self._lowering.values[ref]
        assert isinstance(found, Deferred)
        node = self._nodes[ref.name]
        writing = _Writing(self._lowering, self._nodes)
        number = writing.node(node)
        shape = found.type.shape
        axis = self._lowering.axis_of(shape, _likely_axis(shape, writing.inputs, self._lowering.batch))
        if not shape:
            raise self._lowering.fail(node, f"{_words(node)} gives a single number", "keep an axis for the batch")
        document = {
            "inputs": [writing.size(value.shape, value.axis) for value in writing.inputs],
            "parameters": [list(tensor.shape) for tensor in writing.parameters],
            "nodes": writing.nodes,
            "output": {"node": number} if ref.item is None else {"node": number, "item": ref.item},
            "shape": writing.size(shape, axis),
            "flops": writing.flops,
        }
        if not writing.inputs:
            writing.inputs.append(self._lowering.sample())
            document["inputs"] = [writing.size(writing.inputs[0].shape, 0)]
        weights = {f"p{i}": tensor for i, tensor in enumerate(writing.parameters)}
        program = canonical_json(document)
        self._lowering.label(node.label)
        try:
            result = self._lowering.add("opaque", writing.inputs, batch_axis=axis, weights=weights, program=program)
        except NoCounterpart as error:
            raise self._lowering.fail(node, f"{_words(node)} cannot be kept whole: {error}") from None
        # Whatever reads it again reads the result.
        self._lowering.values[ref] = result
        kinds = tuple(dict.fromkeys(name.rsplit(".", 1)[0] for name, _, _ in writing.nodes))
        self.written.append(Opaque(result.name, kinds, self._lowering.where(node)))
        return result

    def _check(self, node: Node) -> None:
        try:
            operator_of(node.kind, node.arguments, node.keywords)
        except GraphError as error:
            raise self._lowering.fail(node, error.what, error.hint) from None
        for kind in [node.types] if isinstance(node.types, TensorType) else node.types:
            if kind is not None and kind.dtype.is_complex:
                raise self._lowering.fail(
                    node, f"{_words(node)} computes with complex numbers", "only real networks can be imported"
                )


def _words(node: Node) -> str:
    return node.kind.rsplit(".", 1)[0]


def _likely_axis(shape: Sequence[int], inputs: Sequence[Value], batch: int) -> int | None:
    """Where the batch of a program of fixed sizes may be in a result: where it is in an input that agrees there."""
    for value in inputs:
        axis = value.axis
        if axis is not None and axis < len(shape) and shape[axis] == value.shape[axis]:
            return axis
    return 0 if shape and shape[0] == batch else None


class _Writing:
    """One program in the making."""

    def __init__(self, lowering: Lowering, nodes: dict[str, Node]) -> None:
        self.inputs: list[Value] = []
        self.parameters: list[Tensor] = []
        self.nodes: list[tuple[str, list[object], dict[str, object]]] = []
        self.flops = 0
        self._lowering = lowering
        self._deferred = nodes
        self._numbers: dict[str, int] = {}

    def node(self, node: Node) -> int:
        """A node and what it rests on; its number."""
        if node.name not in self._numbers:
            arguments = [self._argument(node, value) for value in node.arguments]
            keywords = {k: self._argument(node, v) for k, v in node.keywords.items() if k not in _DROPPED}
            self._numbers[node.name] = len(self.nodes)
            self.nodes.append((node.kind, arguments, keywords))
            self.flops += self._work(node)
        return self._numbers[node.name]

    def _work(self, node: Node) -> int:
        """Floating-point operations of one item: an estimate, one for each element that is read or written, and those
        of matrix products as what they are.
        """
        kinds = [node.types] if isinstance(node.types, TensorType) else [k for k in node.types if k is not None]
        elements = sum(math.prod(kind.shape) for kind in kinds)
        depth = 1
        if any(word in node.kind for word in ("matmul", "bmm", ".mm", "conv", "linear", "einsum", "attention")):
            read = [self._shape(ref) for ref in node.refs()]
            depth = max((2 * shape[-1] for shape in read if shape), default=1)
        return max(1, elements * depth // self._lowering.batch)

    def _shape(self, ref: Ref) -> tuple[int, ...]:
        found = self._lowering.values.get(ref)
        if isinstance(found, Value):
            return found.shape
        if isinstance(found, Constant):
            return tuple(found.tensor.shape)
        return found.type.shape if found is not None else ()

    def size(self, shape: Sequence[int], axis: int | None) -> list[object]:
        """A shape, with the batch marked."""
        batch = self._lowering.batch
        if self._lowering.program.exact:
            return [{"batch": s // batch} if s and s % batch == 0 else s for s in shape]
        return [{"batch": s // batch} if i == axis and s and s % batch == 0 else s for i, s in enumerate(shape)]

    def _argument(self, node: Node, value: Any) -> object:
        if isinstance(value, Ref):
            return self._reference(node, value)
        if isinstance(value, (list, tuple)):
            return [self._argument(node, item) for item in value]
        if isinstance(value, bool) or value is None or isinstance(value, str):
            return value
        if isinstance(value, int):
            exact, batch = self._lowering.program.exact, self._lowering.batch
            return {"batch": value // batch} if exact and value and value % batch == 0 else value
        if isinstance(value, float):
            return value if math.isfinite(value) else {"float": str(value)}
        if isinstance(value, torch.dtype):
            name = str(value).removeprefix("torch.")
            if name == "float32":
                return {"dtype": "graph"}
            if name in DTYPES:
                return {"dtype": name}
        if isinstance(value, (torch.memory_format, torch.device, torch.layout)):
            return None
        raise self._lowering.fail(node, f"{_words(node)} has the argument {value!r}, which cannot be written down")

    def _reference(self, node: Node, ref: Ref) -> object:
        found = self._lowering.values.get(ref)
        if isinstance(found, Value):
            if found not in self.inputs:
                self.inputs.append(found)
            return {"input": self.inputs.index(found)}
        if isinstance(found, Constant):
            return self._constant(node, found)
        if isinstance(found, Deferred):
            number = self.node(self._deferred[ref.name])
            return {"node": number} if ref.item is None else {"node": number, "item": ref.item}
        raise CannotImport(f"{_words(node)} reads what is not there", where=self._lowering.where(node))

    def _constant(self, node: Node, constant: Constant) -> object:
        tensor = constant.tensor
        if constant.batched:
            return {"input": self._input(self._lowering.materialised(constant))}
        if tensor.is_floating_point() and tensor.numel() and tensor.dim():
            for number, known in enumerate(self.parameters):
                if known is tensor:
                    return {"parameter": number}
            self.parameters.append(tensor)
            return {"parameter": len(self.parameters) - 1}
        try:
            return {"tensor": encoded(tensor)}
        except GraphError as error:
            raise self._lowering.fail(node, f"{_words(node)} reads {error.what}") from None

    def _input(self, value: Value) -> int:
        self.inputs.append(value)
        return len(self.inputs) - 1
