"""Moving data, and the arithmetic of shapes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from iosfarm.frontends.errors import CannotImport
from iosfarm.frontends.onnx.emitting import check_elements
from iosfarm.frontends.onnx.operators.arithmetic import DTYPES
from iosfarm.frontends.onnx.operators.node import OnnxNode, translation


@translation("Constant")
def constant(node: OnnxNode) -> Any:
    from onnx import numpy_helper

    proto = node.attribute("value")
    if proto is not None:
        return torch.from_numpy(numpy_helper.to_array(proto).copy())
    for name, dtype in (("value_float", torch.float32), ("value_floats", torch.float32), ("value_int", torch.int64),
                        ("value_ints", torch.int64)):  # fmt: skip
        if node.attribute(name) is not None:
            given = node.attribute(name)
            return torch.tensor(list(given) if name.endswith("s") else given, dtype=dtype)
    raise CannotImport("a constant of text")


@translation("ConstantOfShape")
def constant_of_shape(node: OnnxNode) -> Any:
    from onnx import numpy_helper

    proto = node.attribute("value")
    value = torch.zeros(1) if proto is None else torch.from_numpy(numpy_helper.to_array(proto).copy())
    return value.expand([int(s) for s in node.constant(0, "a shape").tolist()])


@translation("Shape")
def shape(node: OnnxNode) -> Any:
    sizes = node.shape()
    return torch.tensor(sizes[slice(node.attribute("start", 0), node.attribute("end"))], dtype=torch.int64)


@translation("Size")
def size(node: OnnxNode) -> Any:
    return torch.tensor(math.prod(node.shape()), dtype=torch.int64)


@translation("Range")
def range_(node: OnnxNode) -> Any:
    start, stop, step = (node.constant(i, "a range").item() for i in (0, 1, 2))
    check_elements((stop - start) / step)
    return torch.arange(start, stop, step, dtype=node.emit.dtype(node.input(0)))


@translation("Reshape")
def reshape(node: OnnxNode) -> Any:
    wanted, old = node.integers(1, "shape") or [], node.shape()
    if not node.attribute("allowzero", 0):
        wanted = [old[i] if w == 0 else w for i, w in enumerate(wanted)]
    return node.call("reshape.default", node.input(0), wanted)


@translation("Flatten")
def flatten(node: OnnxNode) -> Any:
    sizes = node.shape()
    axis = node.attribute("axis", 1)
    axis = axis + len(sizes) if axis < 0 else axis
    return node.call("reshape.default", node.input(0), [math.prod(sizes[:axis]), math.prod(sizes[axis:])])


@translation("Transpose")
def transpose(node: OnnxNode) -> Any:
    axes = node.attribute("perm") or list(reversed(range(len(node.shape()))))
    return node.call("permute.default", node.input(0), list(axes))


@translation("Squeeze")
def squeeze(node: OnnxNode) -> Any:
    sizes, axes = node.shape(), node.integers(1, "axes")
    gone = {a % len(sizes) for a in axes} if axes else {i for i, s in enumerate(sizes) if s == 1}
    if any(sizes[i] != 1 for i in gone):
        raise CannotImport(f"axes {sorted(gone)} of {list(sizes)} are not all of size 1")
    return node.call("reshape.default", node.input(0), [s for i, s in enumerate(sizes) if i not in gone])


@translation("Unsqueeze")
def unsqueeze(node: OnnxNode) -> Any:
    sizes, axes = list(node.shape()), node.integers(1, "axes") or []
    rank = len(sizes) + len(axes)
    for axis in sorted(a % rank for a in axes):
        sizes.insert(axis, 1)
    return node.call("reshape.default", node.input(0), sizes)


@translation("Concat")
def concat(node: OnnxNode) -> Any:
    return node.call("cat.default", list(node.inputs), node.attribute("axis", 1))


@translation("Split")
def split(node: OnnxNode) -> Any:
    axis = node.attribute("axis", 0)
    length = node.shape()[axis]
    pieces = node.integers(1, "split")
    if pieces is None:
        count = node.attribute("num_outputs", len(node.outputs))
        largest = -(-length // count)
        pieces = [min(largest, length - i * largest) for i in range(count)]
    return node.call("split_with_sizes.default", node.input(0), pieces, axis)


@translation("Slice")
def slice_(node: OnnxNode) -> Any:
    starts, stops = node.integers(1, "starts") or [], node.integers(2, "ends") or []
    axes = node.integers(3, "axes") or list(range(len(starts)))
    steps = node.integers(4, "steps") or [1] * len(starts)
    x, sizes = node.input(0), node.shape()
    for axis, start, stop, step in zip(axes, starts, stops, steps, strict=True):
        length = sizes[axis]
        if step > 0:
            begin, end, _ = slice(start, stop, step).indices(length)
            x = node.call("slice.Tensor", x, axis, begin, max(begin, end), step)
        else:
            indices = list(range(*slice(start, None if stop < -length else stop, step).indices(length)))
            x = node.call("index_select.default", x, axis, torch.tensor(indices))
    return x


@translation("Gather")
def gather(node: OnnxNode) -> Any:
    axis, sizes = node.attribute("axis", 0), node.shape()
    indices = node.input(1)
    if not isinstance(indices, Tensor):
        raise CannotImport("the indices of a Gather depend on the network's inputs")
    axis %= len(sizes)
    indices = torch.where(indices < 0, indices + sizes[axis], indices)
    if indices.dim() == 0:
        return node.call("select.int", node.input(0), axis, int(indices))
    flat = indices.reshape(-1).tolist()
    if flat == list(range(flat[0], flat[0] + len(flat))):
        taken = node.call("slice.Tensor", node.input(0), axis, flat[0], flat[-1] + 1, 1)
    else:
        taken = node.call("index_select.default", node.input(0), axis, indices.reshape(-1).long())
    if indices.dim() == 1:
        return taken
    return node.call("reshape.default", taken, [*sizes[:axis], *indices.shape, *sizes[axis + 1 :]])


@translation("GatherElements")
def gather_elements(node: OnnxNode) -> Any:
    axis, places = node.attribute("axis", 0), node.input(1)
    if isinstance(places, Tensor):  # torch counts from the beginning only
        places = torch.where(places < 0, places + node.shape()[axis], places)
    return node.call("gather.default", node.input(0), axis, places)


@translation("ScatterND")
def scatter(node: OnnxNode) -> Any:
    places = node.constant(1, "where something is put")
    reduction = node.attribute("reduction", "none")
    if reduction not in ("none", "add"):
        raise CannotImport(f"a scatter by {reduction}")
    columns = list(places.unbind(-1))  # a negative place counts from the end, with torch as well
    return node.call("index_put.default", node.input(0), columns, node.input(2), reduction == "add")


@translation("GatherND")
def gather_tuples(node: OnnxNode) -> Any:
    # Places begin with the first axis: of a network's own tensors that is the batch.
    data, places = node.constant(0, "what is gathered by tuples"), node.constant(1, "what is gathered")
    if node.attribute("batch_dims", 0):
        raise CannotImport("gathering by tuples within a batch")
    return node.call("index.Tensor", data, list(places.unbind(-1)))


@translation("Expand")
def expand(node: OnnxNode) -> Any:
    wanted = node.integers(1, "shape") or []
    full = list(np.broadcast_shapes(node.shape(), tuple(wanted)))
    if full == list(node.shape()):
        return node.call("clone.default", node.input(0))
    return node.call("expand.default", node.input(0), full)


@translation("Tile")
def tile(node: OnnxNode) -> Any:
    return node.call("repeat.default", node.input(0), node.integers(1, "repeats") or [])


@translation("Pad")
def pad(node: OnnxNode) -> Any:
    rank = len(node.shape())
    amounts = node.integers(1, "pads") or []
    axes = node.integers(3, "axes")
    before, after = [0] * rank, [0] * rank
    for i, axis in enumerate(range(rank) if axes is None else axes):
        before[axis], after[axis] = amounts[i], amounts[i + len(amounts) // 2]
    value = (
        float(node.constant(2, "the value of a pad")) if node.optional(2) is not None else node.attribute("value", 0.0)
    )
    mode = {"edge": "replicate", "wrap": "circular"}.get(
        node.attribute("mode", "constant"), node.attribute("mode", "constant")
    )
    torchs = [a for i in reversed(range(rank)) for a in (before[i], after[i])]
    while len(torchs) > 2 and not any(torchs[-2:]):
        torchs = torchs[:-2]
    if mode == "constant":
        return node.call("constant_pad_nd.default", node.input(0), torchs, value)
    return node.call("pad.default", node.input(0), torchs + [0] * (4 - len(torchs)) if rank == 4 else torchs, mode)


@translation("Dropout")
def dropout(node: OnnxNode) -> Any:
    if node.opset >= 12 and node.optional(2) is not None and bool(node.constant(2, "whether a dropout is on")):
        raise CannotImport("a dropout in training mode", hint="export the network in evaluation mode")
    return node.call("dropout.default", node.input(0), 0.5, False)


@translation("EyeLike")
def eye(node: OnnxNode) -> Any:
    dtype = DTYPES.get(node.attribute("dtype", 1), torch.float32)
    if node.attribute("k", 0):
        raise CannotImport("an EyeLike off the diagonal")
    return torch.eye(*node.shape(), dtype=dtype)
