"""One node of an ONNX graph, with what translations ask of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from iosfarm.frontends.errors import CannotImport
from iosfarm.frontends.onnx.emitting import Emitter, Value

Translation = Callable[["OnnxNode"], Any]

TRANSLATIONS: dict[str, Translation] = {}


def translation(*kinds: str) -> Callable[[Translation], Translation]:
    """Register a translation for ONNX operators."""

    def register(function: Translation) -> Translation:
        for kind in kinds:
            TRANSLATIONS[kind] = function
        return function

    return register


class OnnxNode:
    """inputs: None where an optional one is left out. opset: version of the operators."""

    def __init__(self, emit: Emitter, proto: Any, inputs: Sequence[Value | None], opset: int) -> None:
        from onnx.helper import get_attribute_value

        self.emit = emit
        self.kind: str = proto.op_type
        self.inputs = list(inputs)
        self.opset = opset
        self.outputs = list(proto.output)
        self._attributes = {item.name: get_attribute_value(item) for item in proto.attribute}

    def call(self, kind: str, *arguments: Any, **keywords: Any) -> Any:
        """Emit an operator of torch."""
        return self.emit.call(kind, *arguments, **keywords)

    def attribute(self, name: str, default: Any = None) -> Any:
        """An attribute; text as str, lists as lists."""
        value = self._attributes.get(name, default)
        return value.decode() if isinstance(value, bytes) else value

    def input(self, position: int) -> Value:
        """An input that has to be there."""
        value = self.optional(position)
        if value is None:
            raise CannotImport(f"{self.kind} lacks its input {position}")
        return value

    def optional(self, position: int) -> Value | None:
        """An input, None where it is left out."""
        return self.inputs[position] if position < len(self.inputs) else None

    def shape(self, position: int = 0) -> tuple[int, ...]:
        """Shape of an input."""
        return self.emit.shape(self.input(position))

    def constant(self, position: int, what: str) -> Tensor:
        """An input that must not depend on the network's inputs.

        Raises:
            CannotImport: it does.
        """
        value = self.input(position)
        if not isinstance(value, Tensor):
            raise CannotImport(f"{what} depends on the network's inputs", hint="sizes have to be fixed")
        return value

    def integers(self, position: int, name: str, default: list[int] | None = None) -> list[int] | None:
        """A list of integers: an input since some opset, an attribute before."""
        if self.optional(position) is not None:
            return [int(item) for item in self.constant(position, name).reshape(-1).tolist()]
        given = self.attribute(name)
        return default if given is None else [int(item) for item in given]
