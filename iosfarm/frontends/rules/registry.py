"""Rules: which of our operators say what a torch operator says. A rule raises `NoCounterpart` where none do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from iosfarm.frontends.errors import NoCounterpart
from iosfarm.frontends.lowering import Constant, Found, Lowering, Result, Value
from iosfarm.frontends.program import Node, Ref, TensorType

Rule = Callable[["Call"], Result]

RULES: dict[str, Rule] = {}


def rule(*kinds: str) -> Callable[[Rule], Rule]:
    """Register a rule for operators of torch, without `aten.`: `rule("relu.default")`; of other libraries in full."""

    def register(function: Rule) -> Rule:
        for kind in kinds:
            RULES[kind if kind.count(".") > 1 else f"aten.{kind}"] = function
        return function

    return register


@lru_cache(maxsize=1024)
def operator(kind: str) -> Any:
    """torch's operator of a name such as `aten.relu.default`."""
    namespace, name, overload = kind.split(".")
    return getattr(getattr(getattr(torch.ops, namespace), name), overload)


class Call:
    """One node with its arguments by torch's names for them, defaults filled in."""

    def __init__(self, lowering: Lowering, node: Node) -> None:
        self.lowering = lowering
        self.node = node
        self._given: dict[str, Any] = {}
        for position, argument in enumerate(operator(node.kind)._schema.arguments):
            if argument.name in node.keywords:
                self._given[argument.name] = node.keywords[argument.name]
            elif position < len(node.arguments):
                self._given[argument.name] = node.arguments[position]
            else:
                self._given[argument.name] = argument.default_value

    def __getitem__(self, name: str) -> Any:
        return self._given[name]

    def get(self, name: str, default: Any = None) -> Any:
        """An argument that not all of the operators of a rule have."""
        return self._given.get(name, default)

    def operand(self, name: str) -> Found | float:
        """A tensor, whatever it is, or a number."""
        given = self._given[name]
        if isinstance(given, Ref):
            return self.lowering.value(given)
        if type(given) is int and given and self.lowering.program.exact and given % self.lowering.batch == 0:
            raise NoCounterpart(f"{name} is the size of the batch")
        if isinstance(given, (int, float)):
            return given
        raise NoCounterpart(f"{name} is {given!r}")

    def value(self, name: str = "") -> Value:
        """A tensor that depends on the inputs; the first argument unless named."""
        given = self._given[name or next(iter(self._given))]
        found = self.lowering.value(given) if isinstance(given, Ref) else None
        if isinstance(found, Value):
            return found
        raise NoCounterpart(f"{name or 'the input'} is no plain tensor of the network")

    def image(self, name: str = "") -> Value:
        """A value of four axes, batch first."""
        found = self.value(name)
        if found.rank != 4 or found.axis != 0:
            raise NoCounterpart(f"{list(found.shape)} is not NCHW")
        return found

    def constant(self, name: str) -> Tensor | None:
        """A tensor that does not depend on the inputs, or None."""
        given = self._given.get(name)
        if given is None:
            return None
        found = self.lowering.value(given) if isinstance(given, Ref) else None
        if isinstance(found, Constant) and not found.batched:
            return found.tensor
        raise NoCounterpart(f"{name} is not constant")

    def weight(self, name: str) -> Tensor:
        """A constant that has to be there."""
        found = self.constant(name)
        if found is None:
            raise NoCounterpart(f"{name} is not given")
        return found

    def values(self, name: str) -> list[Found]:
        """A list of tensors."""
        return [self.lowering.value(ref) for ref in self._given[name]]

    def pair(self, name: str, default: int | None = None) -> tuple[int, int]:
        """One or two integers as two; an empty list is the default."""
        given = self._given.get(name)
        items = [given] if isinstance(given, int) else list(given or ([] if default is None else [default]))
        if len(items) not in (1, 2) or not all(isinstance(item, int) for item in items):
            raise NoCounterpart(f"{name} is {given}")
        return items[0], items[-1]

    @property
    def type(self) -> TensorType:
        """Of the result; of the first of several."""
        types = self.node.types
        found = types if isinstance(types, TensorType) else types[0]
        assert found is not None
        return found

    def only_first(self) -> None:
        """Raises NoCounterpart where anything but the first of several results is read."""
        name = self.node.name
        read = [ref for user in self.lowering.users.get(name, []) for ref in user.refs()]
        if any(ref.name == name and ref.item not in (0, None) for ref in [*read, *self.lowering.outputs]):
            raise NoCounterpart("more than its first result is read")


def number(value: object) -> float:
    """A number as a float.

    Raises:
        NoCounterpart: it is none, or not finite.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 3e38:
        return float(value)
    raise NoCounterpart(f"{value!r} is no plain number")


def integers(values: Sequence[Any]) -> list[int]:
    """Integers as they are.

    Raises:
        NoCounterpart: one is none.
    """
    if all(isinstance(value, int) for value in values):
        return list(values)
    raise NoCounterpart(f"{values} are not plain integers")
