"""What an operator kind is: its attributes, how it infers shapes, what parameters it has, what it costs.

Shapes are NCHW (or N, features after `flatten`), batch included. An operator has exactly one output; `split` is
written as one `slice` per piece.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from iosfarm.ir.errors import GraphError

Shape = tuple[int, ...]
Attribute = int | float | str | bool | tuple[int, ...]
Attributes = Mapping[str, Attribute]

InferShape = Callable[[Attributes, Sequence[Shape]], Shape]
InferParameters = Callable[[Attributes, Sequence[Shape]], dict[str, Shape]]
CountFlops = Callable[[Attributes, Sequence[Shape], Shape], int]

ACTIVATIONS = (
    "relu", "relu6", "sigmoid", "tanh", "silu", "gelu", "hard_sigmoid", "hard_swish", "elu", "leaky_relu",
)  # fmt: skip
"""Activations, as operators of their own and (all but the parametrised `leaky_relu`, `elu`) fused into others."""

FUSED_ACTIVATIONS = ("none", *(name for name in ACTIVATIONS if name not in ("elu", "leaky_relu")))


MAX_INTEGER = 2**31 - 1
"""Of an attribute: what libraries take. A size beyond it is a mistake, and arithmetic with it gets out of hand."""


def no_parameters(_: Attributes, __: Sequence[Shape]) -> dict[str, Shape]:
    """Most operators have none."""
    return {}


def one_per_output(_: Attributes, __: Sequence[Shape], output: Shape) -> int:
    """One floating-point operation for each output element."""
    return math.prod(output)


@dataclass(frozen=True)
class OperatorSpec:
    """One operator kind.

    attributes: name -> default; a default that is a type means "required, of this type". added: attributes that came
    later; they are written down only where they differ from their default, so that keys of stages without them stay as
    they are: read them with `.get`. arity: (fewest, most) inputs, most None for any number. flops: multiply-add counts
    as two.
    """

    kind: str
    attributes: Mapping[str, Attribute | type]
    infer: InferShape
    arity: tuple[int, int | None] = (1, 1)
    parameters: InferParameters = no_parameters
    flops: CountFlops = one_per_output
    added: Mapping[str, Attribute] = field(default_factory=dict)

    def check_arity(self, count: int, where: str) -> None:
        """Check the number of inputs.

        Raises:
            GraphError: the operator does not take so many.
        """
        least, most = self.arity
        if count < least or (most is not None and count > most):
            expected = str(least) if least == most else f"at least {least}"
            raise GraphError(f"{self.kind} takes {expected} input(s), got {count}", where=where)

    def normalise(self, attributes: Mapping[str, object], where: str) -> dict[str, Attribute]:
        """Check names and types, fill in defaults, turn lists into tuples.

        Raises:
            GraphError: an attribute is unknown, missing or of another type.
        """
        known = {**self.attributes, **self.added}
        for name in attributes:
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(known) or 'none'}"
                raise GraphError(f"{self.kind} has no attribute {name!r}", where=where, hint=hint)
        result: dict[str, Attribute] = {}
        for name, default in self.attributes.items():
            kind = default if isinstance(default, type) else type(default)
            if name not in attributes:
                if isinstance(default, type):
                    raise GraphError(f"{self.kind} needs the attribute {name!r}", where=where)
                result[name] = default
                continue
            result[name] = _convert(attributes[name], kind, f"{self.kind}.{name}", where)
        for name, usual in self.added.items():
            value = _convert(attributes.get(name, usual), type(usual), f"{self.kind}.{name}", where)
            if value != usual:
                result[name] = value
        activation = result.get("activation", "none")
        if activation not in FUSED_ACTIVATIONS:
            raise GraphError(
                f"{self.kind} cannot fuse the activation {activation!r}",
                where=where,
                hint=f"use one of {', '.join(FUSED_ACTIVATIONS)}",
            )
        return result


def _convert(value: object, kind: type, what: str, where: str) -> Attribute:
    if kind is tuple and isinstance(value, (list, tuple)):
        items = tuple(value)
        if all(_is_integer(i) for i in items):
            return items
    elif kind is float and (_is_integer(value) or isinstance(value, float)):
        number = float(value)  # type: ignore[arg-type]
        if math.isfinite(number):
            return number
    elif kind is int:
        if _is_integer(value):
            return value  # type: ignore[return-value]
    elif kind in (bool, str) and type(value) is kind:
        return value
    expected = "a list of integers" if kind is tuple else f"a {kind.__name__}"
    raise GraphError(f"{what} is {value!r}", where=where, hint=f"expected {expected}")


def _is_integer(value: object) -> bool:
    return type(value) is int and abs(value) <= MAX_INTEGER


def fail(message: str) -> GraphError:
    """An error of shape inference; `Graph` adds the operator's name and position."""
    return GraphError(message)


def spatial(shape: Shape, kind: str) -> Shape:
    """`shape` if it is NCHW.

    Raises:
        GraphError: it is not.
    """
    if len(shape) != 4:
        raise fail(f"{kind} needs an NCHW input, got {list(shape)}")
    return shape


def window(size: int, kernel: int, stride: int, before: int, after: int, dilation: int, ceil: bool) -> int:
    """Output size of a sliding window along one axis (PyTorch's formula, `ceil_mode` included).

    Raises:
        GraphError: the window is larger than the padded input, in `ceil_mode` by a stride or more.
    """
    room = size + before + after - dilation * (kernel - 1) - 1
    if room < 0 and not (ceil and room > -stride):
        raise fail(
            f"a window of {dilation * (kernel - 1) + 1} is larger than the padded input of {size + before + after}"
        )
    steps = -(-room // stride) if ceil else room // stride
    # PyTorch: the last window must start inside the input or its left padding.
    if ceil and steps * stride >= size + before:
        steps -= 1
    return steps + 1


def pair(attributes: Attributes, name: str, least: int) -> tuple[int, int]:
    """A (vertical, horizontal) attribute with both values at least `least`.

    Raises:
        GraphError: otherwise.
    """
    value = attributes[name]
    if not isinstance(value, tuple) or len(value) != 2 or min(value) < least:
        raise fail(f"{name} must be two integers of at least {least}, got {value}")
    return value[0], value[1]


def axis_of(axis: object, shape: Shape) -> int:
    """`axis` of `shape`, negative ones counted from the end.

    Raises:
        GraphError: it is outside.
    """
    if not isinstance(axis, int) or not -len(shape) <= axis < len(shape):
        raise fail(f"axis {axis} is outside of {list(shape)}")
    return axis % len(shape)


def sizes(attributes: Attributes, name: str) -> Shape:
    """A shape as an attribute.

    Raises:
        GraphError: it is empty or holds a size below 1.
    """
    value = attributes[name]
    if not isinstance(value, tuple) or not value or min(value) < 1:
        raise fail(f"{name} must be of positive integers, got {value}")
    return value


def broadcast(shapes: Sequence[Shape]) -> Shape:
    """The shape that equal ranks broadcast to.

    Raises:
        GraphError: ranks differ, or two sizes that are not 1.
    """
    if len({len(shape) for shape in shapes}) > 1:
        raise fail(f"inputs of different rank: {[list(s) for s in shapes]}")
    result = []
    for lengths in zip(*shapes, strict=True):
        wide = {length for length in lengths if length != 1}
        if len(wide) > 1:
            raise fail(f"shapes do not broadcast: {[list(s) for s in shapes]}")
        result.append(wide.pop() if wide else 1)
    return tuple(result)
