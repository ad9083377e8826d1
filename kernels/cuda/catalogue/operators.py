"""Which launches make which operator: one row for each."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from iosfarm.ir.operators import ACTIVATIONS, Attributes, Shape
from iosfarm.kernels.cuda.catalogue import convolutions, elementwise, movement, ordering, pooling, products, reducing
from iosfarm.kernels.cuda.catalogue.convolutions import Convolution
from iosfarm.kernels.cuda.catalogue.launch import Launch
from iosfarm.kernels.cuda.catalogue.part import Part

Make = Callable[[str, Attributes, Sequence[Shape], Shape, str], list[Launch]]
"""(kind, attributes, shapes of the inputs, shape of the output, dtype) -> launches."""


def _linear(_: str, attributes: Attributes, shapes: Sequence[Shape], output: Shape, dtype: str) -> list[Launch]:
    # Memory has the features of images apart, those of all other tensors together.
    make = products.linear_rows if len(output) == 4 else convolutions.linear
    return make(attributes, shapes[0], output, dtype)


def _prelu(kind: str, attributes: Attributes, shapes: Sequence[Shape], _: Shape, dtype: str) -> list[Launch]:
    weight = (shapes[0][1], *[1] * (len(shapes[0]) - 2))
    return elementwise.weighted(kind, "prelu", attributes, shapes[0], weight, dtype)


def _weighted(operation: str) -> Make:
    def make(kind: str, attributes: Attributes, shapes: Sequence[Shape], _: Shape, dtype: str) -> list[Launch]:
        weight = attributes["shape"]
        assert isinstance(weight, tuple)
        return elementwise.weighted(kind, operation, attributes, shapes[0], weight, dtype)

    return make


def _conv2d(_: str, attributes: Attributes, shapes: Sequence[Shape], output: Shape, dtype: str) -> list[Launch]:
    return convolutions.convolution(Convolution.of(attributes, shapes[0], output), dtype, residual=False)


LAUNCHES: dict[str, Make] = {
    "conv2d": _conv2d,
    "conv_transpose2d": lambda _, a, s, o, d: products.transposed_convolution(a, s[0], o, d),
    "linear": _linear,
    "matmul": lambda _, __, s, o, d: products.matmul(s, o, d),
    "attention": lambda _, a, s, o, d: products.attention(a, s, o, d),
    "batch_norm": lambda _, a, s, __, d: elementwise.batch_norm(a, s[0], d),
    "layer_norm": lambda _, a, s, __, d: reducing.layer_norm(a, s[0], d),
    "group_norm": lambda _, a, s, __, d: reducing.group_norm(a, s[0], d),
    "local_response_norm": lambda _, a, s, __, d: reducing.local_response_norm(a, s[0], d),
    "reduce": lambda _, a, s, o, d: reducing.reduce(a, s[0], o, d),
    **dict.fromkeys(("max_pool", "avg_pool"), lambda k, a, s, o, d: pooling.pool(k, a, s[0], o, d)),
    **dict.fromkeys(
        ("adaptive_max_pool", "adaptive_avg_pool"), lambda k, _, s, o, d: pooling.adaptive_pool(k, s[0], o, d)
    ),
    **dict.fromkeys(("global_max_pool", "global_avg_pool"), lambda k, _, s, __, d: pooling.global_pool(k, s[0], d)),
    **dict.fromkeys(("add", "mul", "sub", "div"), elementwise.combination),
    **dict.fromkeys(ACTIVATIONS, lambda k, a, s, _, d: elementwise.activation(k, a, s[0], d)),
    **dict.fromkeys(("affine", "clamp", "power", "unary"), lambda k, a, s, _, d: elementwise.function(k, a, s[0], d)),
    "prelu": _prelu,
    "scale": _weighted("mul"),
    "shift": _weighted("add"),
    **dict.fromkeys(("softmax", "log_softmax"), lambda k, a, s, _, d: elementwise.softmax(k, a, s[0], d)),
    "concat": lambda _, a, s, o, d: movement.concat(a, s, o, d),
    "slice": lambda _, a, s, o, d: movement.cut(a, s[0], o, d),
    "flatten": lambda _, __, s, ___, d: movement.flatten(s[0], d),
    "reshape": lambda _, __, s, o, d: ordering.reshape(s[0], o, d),
    "transpose": lambda _, a, s, o, d: ordering.transpose(a, s[0], o, d),
    "constant": lambda _, __, s, o, d: ordering.constant(s[0], o, d),
    "dropout": lambda _, __, s, ___, d: movement.copy(s[0], d),
    "pad": lambda _, a, s, o, d: movement.pad(a, s[0], o, d),
    "resize": lambda _, a, s, o, d: movement.resize(a, s[0], o, d),
}

MakeInto = Callable[[str, Attributes, Sequence[Shape], Shape, str, Part], list[Launch] | None]
"""As `Make`, into a part; None where these attributes or shapes cannot."""


def _conv2d_into(
    _: str, attributes: Attributes, shapes: Sequence[Shape], output: Shape, dtype: str, part: Part
) -> list[Launch]:
    conv = Convolution.of(attributes, shapes[0], output)
    return convolutions.convolution(conv, dtype, residual=False, part=part)


INTO: dict[str, MakeInto] = {
    "conv2d": _conv2d_into,
    **dict.fromkeys(("max_pool", "avg_pool"), lambda k, a, s, o, d, p: pooling.pool(k, a, s[0], o, d, p)),
    **dict.fromkeys(("add", "mul", "sub", "div"), elementwise.combination_into),
    **dict.fromkeys(ACTIVATIONS, lambda k, a, s, _, d, p: elementwise.activation(k, a, s[0], d, p)),
    "slice": lambda _, a, s, o, d, p: movement.cut_into(a, s[0], o, d, p),
    "resize": lambda _, a, s, o, d, p: movement.resize(a, s[0], o, d, p),
}
"""Operators that can write their result into a part of a larger image."""
