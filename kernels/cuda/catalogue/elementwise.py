"""Launches of what works element by element: sums, products, activations, functions, batch norm; and of softmax."""

from __future__ import annotations

import math
from collections.abc import Sequence

from iosfarm.ir.errors import Infeasible
from iosfarm.ir.operators import Attributes, Shape
from iosfarm.ir.operators.elementwise import UNBOUNDED
from iosfarm.kernels.cuda.catalogue.launch import Arguments, Launch, Pointer, Scalar, flat, integers
from iosfarm.kernels.cuda.catalogue.part import Part, flat_target
from iosfarm.kernels.cuda.catalogue.tensors import (
    activation_code,
    activation_of,
    around,
    memory_order,
    memory_shape,
    options,
    vector,
)

MAX_INPUTS = 8
"""Tensors that one launch of `combine` or `concat` takes."""

OPERATIONS = ("add", "mul", "sub", "div", "prelu")
"""In the order of `element.cuh`."""

FUNCTIONS = (
    *(
        "affine",
        "clamp",
        "power",
        "exp",
        "log",
        "sqrt",
        "rsqrt",
        "abs",
        "reciprocal",
        "erf",
        "sin",
        "cos",
        "floor",
        "ceil",
    ),
    *("softplus", "mish", "selu", "softsign", "log_sigmoid", "gelu_tanh"),
)
"""In the order of `unary.cu`."""

_AXES = 4


def combination(kind: str, attributes: Attributes, shapes: Sequence[Shape], output: Shape, dtype: str) -> list[Launch]:
    """Sum, product, …; beyond what one launch takes, the output so far is the first input of the next one."""
    inputs = [Pointer(f"input{i}") for i in range(len(shapes))]
    same = all(shape == output for shape in shapes)
    if not same and len(output) > _AXES:
        raise Infeasible(f"shapes of {len(output)} axes broadcast, the CUDA kernels do {_AXES}", where=kind)
    most = MAX_INPUTS if same else 2
    result: list[Launch] = []
    while inputs:
        taken = inputs[: most - 1] if result else inputs[:most]
        inputs = inputs[len(taken) :]
        if result:
            taken = [Pointer("output"), *taken]
        activation = 0 if inputs else activation_of(attributes)
        if same:
            result.append(_combine(kind, taken, output, activation, dtype))
        else:
            sources = [output if p.name == "output" else shapes[int(p.name.removeprefix("input"))] for p in taken]
            result.append(_broadcast(kind, taken, sources, output, activation, dtype))
    return result


def combination_into(
    kind: str, attributes: Attributes, shapes: Sequence[Shape], output: Shape, dtype: str, part: Part
) -> list[Launch] | None:
    """The same into a part; None where it takes several launches, or shapes broadcast."""
    if len(shapes) > MAX_INPUTS or any(shape != output for shape in shapes):
        return None
    inputs = [Pointer(f"input{i}") for i in range(len(shapes))]
    return [_combine(kind, inputs, output, activation_of(attributes), dtype, part)]


def _combine(
    kind: str, inputs: Sequence[Pointer], shape: Shape, activation: int, dtype: str, part: Part | None = None
) -> Launch:
    to = flat_target(part, shape, dtype)
    width, count = vector(dtype, *to.counts), math.prod(shape)
    grid, block = flat(-(-count // width))
    padded = (*inputs, *[inputs[0]] * (MAX_INPUTS - len(inputs)))
    constants = options(
        dtype, VECTOR=width, INPUTS=len(inputs), OPERATION=OPERATIONS.index(kind), ACTIVATION=activation
    )
    arguments: Arguments = (*padded, to.pointer, *integers(count, to.channels, to.pitch))
    return Launch("combine", "combine.cu", constants, grid, block, arguments)


def _broadcast(
    kind: str, inputs: Sequence[Pointer], shapes: Sequence[Shape], output: Shape, activation: int, dtype: str
) -> Launch:
    sizes = _four(output)
    width = vector(dtype, sizes[-1])
    strides = [value for shape in shapes for value in _strides(_four(shape))]
    return _broadcast_launch(kind, inputs, sizes, strides, width, activation, dtype)


def _broadcast_launch(
    kind: str,
    inputs: Sequence[Pointer],
    sizes: Shape,
    strides: Sequence[int],
    width: int,
    activation: int,
    dtype: str,
) -> Launch:
    grid, block = flat(math.prod(sizes) // width)
    constants = options(dtype, VECTOR=width, OPERATION=OPERATIONS.index(kind), ACTIVATION=activation)
    arguments: Arguments = (*inputs, Pointer("output"), *integers(*sizes, *strides))
    return Launch("broadcast", "broadcast.cu", constants, grid, block, arguments)


def _four(shape: Shape) -> Shape:
    return (*[1] * (_AXES - len(shape)), *memory_shape(shape))


def _strides(sizes: Shape) -> list[int]:
    """Of a dense tensor, 0 where there is only one: every index reads it."""
    return [0 if size == 1 else math.prod(sizes[axis + 1 :]) for axis, size in enumerate(sizes)]


def weighted(
    kind: str, operation: str, attributes: Attributes, shape: Shape, weight: Shape, dtype: str
) -> list[Launch]:
    """A tensor and a parameter that broadcasts to it, which lies in the order of its own axes."""
    if len(shape) > _AXES:
        raise Infeasible(f"no CUDA kernel for tensors of {len(shape)} axes", where=kind)
    steps = [0] * (_AXES - len(weight)) + _strides(weight)
    missing = _AXES - len(shape)
    order = memory_order(len(shape))
    of_weight = [0] * missing + [steps[missing + axis] for axis in order]
    sizes = _four(shape)
    width = vector(dtype, sizes[-1], *(stride for stride in of_weight[:-1])) if of_weight[-1] in (0, 1) else 1
    strides = [*_strides(sizes), *of_weight]
    inputs = [Pointer("input0"), Pointer("weight")]
    return [_broadcast_launch(operation, inputs, sizes, strides, width, activation_of(attributes), dtype)]


def function(kind: str, attributes: Attributes, shape: Shape, dtype: str) -> list[Launch]:
    """A function of each element by itself, with up to two numbers."""
    first, second = 0.0, 0.0
    if kind == "affine":
        first, second = attributes["scale"], attributes["offset"]  # type: ignore[assignment]
    elif kind == "clamp":
        first, second = attributes["min"], attributes["max"]  # type: ignore[assignment]
        first, second = (-math.inf if first <= -UNBOUNDED else first), (math.inf if second >= UNBOUNDED else second)
    elif kind == "power":
        first = attributes["exponent"]  # type: ignore[assignment]
    width, count = vector(dtype), math.prod(shape)
    grid, block = flat(-(-count // width))
    code = FUNCTIONS.index(str(attributes["function"]) if kind == "unary" else kind)
    constants = options(dtype, VECTOR=width, FUNCTION=code, ACTIVATION=activation_of(attributes))
    numbers = Scalar(first, "float32"), Scalar(second, "float32")
    arguments: Arguments = (Pointer("input0"), Pointer("output"), *integers(count), *numbers)
    return [Launch("unary", "unary.cu", constants, grid, block, arguments)]


def activation(kind: str, attributes: Attributes, shape: Shape, dtype: str, part: Part | None = None) -> list[Launch]:
    """An activation by itself; the slope or alpha of the two that have one."""
    to = flat_target(part, shape, dtype)
    width, count = vector(dtype, *to.counts), math.prod(shape)
    grid, block = flat(-(-count // width))
    parameter = float(attributes.get("alpha", attributes.get("negative_slope", 0.0)))  # type: ignore[arg-type]
    constants = options(dtype, VECTOR=width, ACTIVATION=activation_code(kind))
    arguments: Arguments = (
        *(Pointer("input0"), to.pointer),
        *(*integers(count), Scalar(parameter, "float32"), *integers(to.channels, to.pitch)),
    )
    return [Launch("activation", "activation.cu", constants, grid, block, arguments)]


def batch_norm(attributes: Attributes, shape: Shape, dtype: str) -> list[Launch]:
    """Scale and shift of each channel."""
    width, count = vector(dtype, shape[1]), math.prod(shape)
    grid, block = flat(count // width)
    parameters = [Pointer(name) for name in ("weight", "bias", "running_mean", "running_var")]
    eps = Scalar(float(attributes["eps"]), "float32")  # type: ignore[arg-type]
    arguments: Arguments = (Pointer("input0"), *parameters, Pointer("output"), *integers(count, shape[1]), eps)
    constants = options(dtype, VECTOR=width, ACTIVATION=activation_of(attributes))
    return [Launch("batch_norm", "batch_norm.cu", constants, grid, block, arguments)]


def softmax(kind: str, attributes: Attributes, shape: Shape, dtype: str) -> list[Launch]:
    """One block for each row; a row's elements are `stride` apart."""
    outer, length, stride = around(shape, int(attributes["axis"]))  # type: ignore[arg-type]
    block = min(256, -(-length // 32) * 32)
    arguments: Arguments = (Pointer("input0"), Pointer("output"), *integers(length, stride))
    return [
        Launch(
            "softmax",
            "softmax.cu",
            options(dtype, LOGARITHM=int(kind == "log_softmax")),
            (outer * stride, 1, 1),
            (block, 1, 1),
            arguments,
        )
    ]
