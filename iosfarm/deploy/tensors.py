"""What users pass in and get back: NumPy arrays or torch tensors, checked against a graph's inputs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from iosfarm.ir.errors import UsageError
from iosfarm.ir.graph import Graph
from iosfarm.kernels.runtime import Array


def numpy_dtype(graph: Graph) -> np.dtype[np.generic]:
    """The dtype of NumPy arrays for a graph: its own, or float32 where NumPy has none such (bfloat16)."""
    return np.dtype("float16" if graph.dtype == "float16" else "float32")


def checked(graph: Graph, values: Sequence[object]) -> tuple[list[Tensor], bool]:
    """The inputs as CPU tensors of the graph's dtype that share the caller's memory where they can, and whether they
    were NumPy arrays.

    Raises:
        UsageError: a wrong number, kind, shape, dtype, layout or device of inputs; the line says of which one.
    """
    if len(values) != len(graph.inputs):
        names = ", ".join(item.name for item in graph.inputs)
        raise UsageError(f"expected {len(graph.inputs)} input(s) ({names}), got {len(values)}", where=graph.name)
    arrays = [isinstance(value, np.ndarray) for value in values]
    if any(arrays) and not all(arrays):
        raise UsageError(
            "NumPy arrays and torch tensors together", where=graph.name, hint="pass all inputs as one kind"
        )
    tensors = [_checked(graph, item.name, value) for item, value in zip(graph.inputs, values, strict=True)]
    return tensors, all(arrays)


def _checked(graph: Graph, name: str, value: object) -> Tensor:
    where = f"{graph.name}: input {name!r}"
    shape = graph.shape(name)
    if not isinstance(value, np.ndarray | Tensor):
        raise UsageError(f"a {type(value).__name__}", where=where, hint="pass a NumPy array or a torch tensor")
    if tuple(value.shape) != shape:
        other_batch = len(value.shape) == len(shape) and tuple(value.shape[1:]) == shape[1:]
        hint = f"compile with batch_size={value.shape[0]} for that" if other_batch and value.shape[0] else ""
        raise UsageError(f"the shape {list(value.shape)}, not {list(shape)}", where=where, hint=hint)
    if isinstance(value, np.ndarray):
        return _from_numpy(graph, value, where)
    if value.device.type != "cpu" or value.layout != torch.strided:
        what = f"on {value.device}" if value.device.type != "cpu" else f"in the layout {value.layout}"
        raise UsageError(f"a tensor {what}", where=where, hint="pass a dense tensor on the CPU")
    if value.dtype != getattr(torch, graph.dtype):
        raise UsageError(f"the dtype {value.dtype}, not torch.{graph.dtype}", where=where, hint="convert it with .to()")
    if value.requires_grad and torch.is_grad_enabled():
        raise UsageError("it requires a gradient", where=where, hint="this is inference: call it under torch.no_grad()")
    return value.detach()


def _from_numpy(graph: Graph, array: Array, where: str) -> Tensor:
    wanted = numpy_dtype(graph)
    if array.dtype != wanted:
        raise UsageError(f"the dtype {array.dtype}, not {wanted}", where=where, hint="convert it with .astype()")
    # torch takes neither negative strides nor memory that may not be written.
    if not array.flags.writeable or min(array.strides, default=0) < 0:
        array = array.copy()
    tensor = torch.from_numpy(array)
    return tensor.to(torch.bfloat16) if graph.dtype == "bfloat16" else tensor


def returned(graph: Graph, tensors: Sequence[Tensor], as_numpy: bool) -> list[Tensor] | list[Array]:
    """Outputs in the kind of the inputs."""
    if not as_numpy:
        return list(tensors)
    return [(tensor.float() if graph.dtype == "bfloat16" else tensor).numpy() for tensor in tensors]


def as_dtype(values: Tensor | Array, dtype: torch.dtype) -> Tensor | Array:
    """An output in the dtype of the module that was compiled; NumPy has no bfloat16, and keeps float32 then."""
    if isinstance(values, Tensor):
        return values.to(dtype)
    return values if dtype == torch.bfloat16 else values.astype(str(dtype).removeprefix("torch."))
