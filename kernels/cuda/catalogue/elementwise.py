"""Launches of add, mul, activations, batch norm and softmax."""

from __future__ import annotations

import math
from collections.abc import Sequence

from iosfarm.ir.errors import Infeasible
from iosfarm.ir.operators import Attributes, Shape
from iosfarm.kernels.cuda.catalogue.launch import Arguments, Launch, Pointer, Scalar, flat, integers
from iosfarm.kernels.cuda.catalogue.tensors import (
    activation_code,
    activation_of,
    around,
    memory_shape,
    options,
    vector,
)

MAX_INPUTS = 8
"""Tensors that one launch of `combine` or `concat` takes."""

_AXES = 4


def combination(kind: str, attributes: Attributes, shapes: Sequence[Shape], output: Shape, dtype: str) -> list[Launch]:
    """Sum or product; beyond what one launch takes, the output so far is the first input of the next one."""
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
            result.append(_combine(kind, taken, math.prod(output), activation, dtype))
        else:
            sources = [output if p.name == "output" else shapes[int(p.name.removeprefix("input"))] for p in taken]
            result.append(_broadcast(kind, taken, sources, output, activation, dtype))
    return result


def _combine(kind: str, inputs: Sequence[Pointer], count: int, activation: int, dtype: str) -> Launch:
    width = vector(dtype)
    grid, block = flat(-(-count // width))
    padded = (*inputs, *[inputs[0]] * (MAX_INPUTS - len(inputs)))
    constants = options(dtype, VECTOR=width, INPUTS=len(inputs), PRODUCT=int(kind == "mul"), ACTIVATION=activation)
    return Launch("combine", "combine.cu", constants, grid, block, (*padded, Pointer("output"), *integers(count)))


def _broadcast(
    kind: str, inputs: Sequence[Pointer], shapes: Sequence[Shape], output: Shape, activation: int, dtype: str
) -> Launch:
    sizes = _four(output)
    width = vector(dtype, sizes[-1])
    grid, block = flat(math.prod(sizes) // width)
    strides = [value for shape in shapes for value in _strides(_four(shape))]
    constants = options(dtype, VECTOR=width, PRODUCT=int(kind == "mul"), ACTIVATION=activation)
    arguments: Arguments = (*inputs, Pointer("output"), *integers(*sizes, *strides))
    return Launch("broadcast", "broadcast.cu", constants, grid, block, arguments)


def _four(shape: Shape) -> Shape:
    return (*[1] * (_AXES - len(shape)), *memory_shape(shape))


def _strides(sizes: Shape) -> list[int]:
    """Of a dense tensor, 0 where there is only one: every index reads it."""
    return [0 if size == 1 else math.prod(sizes[axis + 1 :]) for axis, size in enumerate(sizes)]


def activation(kind: str, attributes: Attributes, shape: Shape, dtype: str) -> list[Launch]:
    """An activation by itself; the slope or alpha of the two that have one."""
    width, count = vector(dtype), math.prod(shape)
    grid, block = flat(-(-count // width))
    parameter = float(attributes.get("alpha", attributes.get("negative_slope", 0.0)))  # type: ignore[arg-type]
    constants = options(dtype, VECTOR=width, ACTIVATION=activation_code(kind))
    arguments: Arguments = (Pointer("input0"), Pointer("output"), *integers(count), Scalar(parameter, "float32"))
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


def softmax(attributes: Attributes, shape: Shape, dtype: str) -> list[Launch]:
    """One block for each row; a row's elements are `stride` apart."""
    outer, length, stride = around(shape, int(attributes["axis"]))  # type: ignore[arg-type]
    block = min(256, -(-length // 32) * 32)
    arguments: Arguments = (Pointer("input0"), Pointer("output"), *integers(length, stride))
    return [Launch("softmax", "softmax.cu", options(dtype), (outer * stride, 1, 1), (block, 1, 1), arguments)]
