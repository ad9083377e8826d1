"""Operators that torch spells out in several, put together again before the lowering. What nobody reads is left out."""

from __future__ import annotations

import math
from typing import Any

import torch

from iosfarm.frontends.program import Node, Program, Ref, TensorType, references

LOCAL_RESPONSE_NORM = "iosfarm.local_response_norm.default"

_library = torch.library.Library("iosfarm", "FRAGMENT")  # type: ignore[no-untyped-call]
_library.define(  # type: ignore[no-untyped-call]
    "local_response_norm(Tensor self, int size, float alpha, float beta, float k) -> Tensor"
)


def recognised(program: Program) -> None:
    """Change the program's nodes in place."""
    _Responses(program).replace()
    _PaddedPools(program).replace()
    program.nodes = _read(program)


def _read(program: Program) -> list[Node]:
    needed = {ref.name for ref in references(program.outputs)}
    kept = []
    for node in reversed(program.nodes):
        if node.name in needed:
            kept.append(node)
            needed.update(ref.name for ref in node.refs())
    return kept[::-1]


class _PaddedPools:
    """A maximum pool of an image with minus infinity around it ("same" padding): the pool can pad by itself, windows
    that reach over the end included, because where they begin is all that counts.
    """

    def __init__(self, program: Program) -> None:
        self._program = program
        self._nodes = {node.name: node for node in program.nodes}

    def replace(self) -> None:
        """Every such pool reads the image itself."""
        for position, node in enumerate(self._program.nodes):
            if node.kind == "aten.max_pool2d.default":
                self._program.nodes[position] = self._match(node) or node

    def _match(self, pool: Node) -> Node | None:
        given = _named(pool)
        pad = self._nodes.get(given["self"].name)
        if pad is None or pad.kind not in ("aten.pad.default", "aten.constant_pad_nd.default"):
            return None
        padding = _named(pad)
        image, amounts = padding["self"], list(padding["pad"])
        kernel, stride, dilation = (_pair(given[name]) for name in ("kernel_size", "stride", "dilation"))
        minus_infinity = padding["value"] == -math.inf and padding.get("mode", "constant") == "constant"
        if not minus_infinity or len(amounts) != 4 or min(amounts) < 0 or any(_pair(given["padding"])):
            return None
        before = [amounts[2], amounts[0]]
        source = self._program.inputs.get(image.name) or getattr(self._nodes.get(image.name), "types", None)
        if not isinstance(source, TensorType) or image.item is not None or not isinstance(pool.types, TensorType):
            return None
        for ceil in (False, True):
            arguments = (kernel, stride or kernel, before, dilation, ceil)
            if any(2 * amount > size for amount, size in zip(before, kernel, strict=True)):
                return None
            found = torch.nn.functional.max_pool2d(torch.empty(1, *source.shape[1:], device="meta"), *arguments)
            if found.shape[-2:] == pool.types.shape[-2:]:
                return Node(pool.name, pool.kind, (image, *arguments), {}, pool.types, pool.where, pool.label)
        return None


def _named(node: Node) -> dict[str, Any]:
    """Arguments by name, defaults filled in."""
    namespace, name, overload = node.kind.split(".")
    schema = getattr(getattr(getattr(torch.ops, namespace), name), overload)._schema
    values = {argument.name: argument.default_value for argument in schema.arguments}
    return values | dict(zip(values, node.arguments, strict=False)) | dict(node.keywords)


def _pair(value: Any) -> list[int]:
    """Of one number for both axes, or of two; empty where there is none."""
    values = list(value) if isinstance(value, (list, tuple)) else [value]
    return values * 2 if len(values) == 1 else values


class _Responses:
    """x / (k + alpha · mean of x² over neighbouring channels)^beta, as `F.local_response_norm` has it: the squares in
    one more axis, padded, averaged by a 3-D pool.
    """

    _SHAPES = ("view", "reshape", "unsqueeze", "squeeze", "_unsafe_view", "clone")

    def __init__(self, program: Program) -> None:
        self._program = program
        self._nodes = {node.name: node for node in program.nodes}

    def replace(self) -> None:
        """Every division that ends such a chain becomes one operator."""
        for position, node in enumerate(self._program.nodes):
            if node.kind == "aten.div.Tensor":
                found = self._match(node)
                if found is not None:
                    self._program.nodes[position] = found

    def _match(self, node: Node) -> Node | None:
        x, below = node.arguments[0], self._maker(node.arguments[1])
        power = self._is(below, "pow.Tensor_Scalar")
        sum_ = self._is(self._first(power), "add.Tensor", "add.Scalar")
        scaled = self._is(self._first(sum_), "mul.Tensor", "mul.Scalar")
        mean = self._is(self._through(self._first(scaled)), "avg_pool3d.default")
        padded = self._is(self._first(mean), "pad.default", "constant_pad_nd.default")
        squares = self._is(self._through(self._first(padded)), "mul.Tensor")
        if not (power and sum_ and scaled and mean and padded and squares):
            return None
        kernel, amounts = list(mean.arguments[1]), list(padded.arguments[1])
        size = kernel[0]
        numbers = [self._number(n.arguments[1]) for n in (scaled, power, sum_)]
        if (
            not (squares.arguments[0] == squares.arguments[1] == x)
            or kernel[1:] != [1, 1]
            or set(mean.arguments[2]) != {1}
            or amounts != [0, 0, 0, 0, size // 2, (size - 1) // 2]
            or any(number is None for number in numbers)
        ):
            return None
        arguments = (x, size, *numbers)
        return Node(node.name, LOCAL_RESPONSE_NORM, arguments, {}, node.types, node.where, node.label)

    def _maker(self, value: Any) -> Node | None:
        return self._nodes.get(value.name) if isinstance(value, Ref) and value.item is None else None

    def _first(self, node: Node | None) -> Node | None:
        return None if node is None else self._maker(node.arguments[0])

    def _is(self, node: Node | None, *kinds: str) -> Node | None:
        return node if node is not None and node.kind.removeprefix("aten.") in kinds else None

    def _through(self, node: Node | None) -> Node | None:
        """What a chain of mere reshapes begins with."""
        while node is not None and node.kind.split(".")[1] in self._SHAPES:
            node = self._first(node)
        return node

    def _number(self, value: Any) -> float | None:
        if isinstance(value, Ref):
            tensor = self._program.constants.get(value.name)
            return float(tensor) if tensor is not None and tensor.numel() == 1 else None
        return float(value) if isinstance(value, (int, float)) else None
