"""One operator through the catalogue and the host shim, beside torch in float64 on the same rounded numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from host_kernels import execute, from_bytes, to_bytes
from numerics_cases import CASES, Case, random_parameter

from iosfarm.ir.graph import DTYPES
from iosfarm.ir.nodes import Operator
from iosfarm.ir.operators import Attribute, Shape, spec
from iosfarm.kernels.cuda import catalogue
from iosfarm.kernels.cuda.catalogue import Launch
from iosfarm.kernels.torch_operators import IN_PLACE, bind

WITHOUT_KERNEL = {"opaque"}
"""Operators that the catalogue refuses."""
WITH_KERNEL = [case for case in CASES if case.kind not in WITHOUT_KERNEL]

TOLERANCES = {"float32": 1e-5, "float16": 1e-2, "bfloat16": 1e-2}


def operator(kind: str, **attributes: Attribute) -> Operator:
    """An operator with its defaults filled in."""
    return Operator(kind, kind, (), spec(kind).normalise(attributes, kind))


def shapes_of(case: Case) -> list[Shape]:
    """A case's inputs, batch included."""
    return [(case.batch, *shape) for shape in case.inputs]


def rounded(values: np.ndarray, dtype: str) -> torch.Tensor:
    """What is left of float32 values in a dtype, as float64."""
    return torch.from_numpy(values).to(getattr(torch, dtype)).to(torch.float64)


def in_memory(tensor: torch.Tensor) -> torch.Tensor:
    """The axes of a tensor in the order of memory."""
    return tensor.permute(0, 2, 3, 1) if tensor.dim() == 4 else tensor


def of_memory(tensor: torch.Tensor, shape: Shape) -> torch.Tensor:
    """The tensor of a shape whose elements lie so in memory."""
    if len(shape) != 4:
        return tensor.reshape(shape)
    return tensor.reshape(shape[0], shape[2], shape[3], shape[1]).permute(0, 3, 1, 2)


def random_tensors(shapes: Sequence[Shape], dtype: str, seed: int) -> list[torch.Tensor]:
    """Normal values."""
    rng = np.random.default_rng(seed)
    return [rounded(rng.standard_normal(shape).astype(np.float32), dtype) for shape in shapes]


def random_weights(op: Operator, shapes: Sequence[Shape], dtype: str, seed: int) -> dict[str, torch.Tensor]:
    """An operator's parameters."""
    rng = np.random.default_rng(seed + 1)
    parameters = spec(op.kind).parameters(op.attributes, shapes)
    return {name: rounded(random_parameter(name, shape, rng), dtype) for name, shape in parameters.items()}


def memory_of(op: Operator, weights: Mapping[str, torch.Tensor], shapes: Sequence[Shape], dtype: str) -> dict:
    """Parameters as the catalogue says they lie."""
    axes = catalogue.parameter_axes(op, shapes)
    return {
        name: to_bytes(tensor.permute(axes[name]) if name in axes else tensor, dtype)
        for name, tensor in weights.items()
    }


def error(
    op: Operator,
    shapes: Sequence[Shape],
    dtype: str,
    *,
    seed: int = 0,
    launches: list[Launch] | None = None,
    residual: bool = False,
    positive: bool = False,
    texts: Mapping[str, str] | None = None,
) -> float:
    """Largest difference to float64, relative to the largest number; infinite where a result is not a number.

    positive: inputs are. launches, texts: instead of the catalogue's own.
    """
    inputs = random_tensors(shapes, dtype, seed)
    if positive:
        inputs = [tensor.abs() + 0.125 for tensor in inputs]
    weights = random_weights(op, shapes, dtype, seed)
    buffers = {f"input{i}": to_bytes(in_memory(tensor), dtype) for i, tensor in enumerate(inputs)}
    buffers |= memory_of(op, weights, shapes, dtype)
    if residual:
        expected, added = with_residual(op, weights, inputs[0], dtype, seed)
        buffers["residual"] = to_bytes(in_memory(added), dtype)
    else:
        expected = bind(op.kind, op.attributes, weights)(*[tensor.clone() for tensor in inputs])
    if launches is None:
        launches = catalogue.launches(op, shapes, dtype, residual=residual)
    content = execute(launches, buffers, expected.numel() * DTYPES[dtype], seed=seed, texts=texts)
    return difference(of_memory(from_bytes(content, dtype, [expected.numel()]), tuple(expected.shape)), expected)


def with_residual(
    op: Operator, weights: Mapping[str, torch.Tensor], x: torch.Tensor, dtype: str, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """A convolution's result with something added before its activation, and what was added."""
    plain = bind(op.kind, {**op.attributes, "activation": "none"}, weights)(x)
    (added,) = random_tensors([tuple(plain.shape)], dtype, seed + 2)
    activation = IN_PLACE[str(op.attributes["activation"])]
    total = plain + added
    return (activation(total) if activation else total), added


def difference(actual: torch.Tensor, expected: torch.Tensor) -> float:
    """max |a - b| / max |b|; infinite where a value is not a number.

    Sums of numbers near 1 that happen to cancel are measured by what was added up, not by what is left.
    """
    if not torch.isfinite(actual).all():
        return math.inf
    return float((actual - expected).abs().max()) / max(float(expected.abs().max()), 0.1)


def separable_error(
    operators: tuple[Operator, Operator],
    shape: Shape,
    dtype: str,
    *,
    before: str = "none",
    residual: bool = False,
    tensor: bool = False,
    seed: int = 0,
) -> float:
    """As `error`, of an activation, a depthwise and a pointwise convolution as one kernel."""
    (x,) = random_tensors([shape], dtype, seed)
    buffers = {"input0": to_bytes(in_memory(x), dtype)}
    activation = IN_PLACE[before]
    value = activation(x.clone()) if activation else x
    launches = catalogue.separable(*operators, shape, dtype, before=before, residual=residual, tensor=tensor)
    assert launches is not None
    for name, op in zip(("depthwise", "pointwise"), operators, strict=True):
        shapes = [tuple(value.shape)]
        weights = random_weights(op, shapes, dtype, seed)
        buffers |= {f"{name}.{key}": content for key, content in memory_of(op, weights, shapes, dtype).items()}
        if residual and name == "pointwise":
            value, added = with_residual(op, weights, value, dtype, seed)
            buffers["residual"] = to_bytes(in_memory(added), dtype)
        else:
            value = bind(op.kind, op.attributes, weights)(value)
    content = execute(launches, buffers, value.numel() * DTYPES[dtype], seed=seed)
    return difference(of_memory(from_bytes(content, dtype, [value.numel()]), tuple(value.shape)), value)
