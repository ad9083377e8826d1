"""Convolutions, pools, normalisations."""

from __future__ import annotations

import math
from typing import Any

import torch

from iosfarm.frontends.errors import CannotImport
from iosfarm.frontends.onnx.emitting import Value
from iosfarm.frontends.onnx.operators.node import OnnxNode, translation


def _window(node: OnnxNode, kernel: list[int]) -> tuple[list[int], list[int], list[int], list[int]]:
    """Strides, dilations, and padding before and after each spatial axis."""
    rank = len(kernel)
    strides = list(node.attribute("strides") or [1] * rank)
    dilations = list(node.attribute("dilations") or [1] * rank)
    mode = node.attribute("auto_pad", "NOTSET")
    if mode in ("NOTSET", "VALID", ""):
        pads = list(node.attribute("pads") or [0] * 2 * rank) if mode != "VALID" else [0] * 2 * rank
        return strides, dilations, pads[:rank], pads[rank:]
    before, after = [], []
    for i, size in enumerate(node.shape()[2:]):
        reach = dilations[i] * (kernel[i] - 1) + 1
        total = max(0, (math.ceil(size / strides[i]) - 1) * strides[i] + reach - size)
        small, large = total // 2, total - total // 2
        before.append(small if mode == "SAME_UPPER" else large)
        after.append(large if mode == "SAME_UPPER" else small)
    return strides, dilations, before, after


def _padded(node: OnnxNode, x: Value, before: list[int], after: list[int], value: float = 0.0) -> Value:
    """Padding as an operator of its own; the last axis comes first in torch."""
    amounts = [amount for pair in zip(reversed(before), reversed(after), strict=True) for amount in pair]
    return node.call("constant_pad_nd.default", x, amounts, value)  # type: ignore[no-any-return]


@translation("Conv")
def conv(node: OnnxNode) -> Any:
    x, weight, bias = node.input(0), node.input(1), node.optional(2)
    kernel = list(node.emit.shape(weight)[2:])
    stated = list(node.attribute("kernel_shape") or kernel)
    if stated != kernel:
        raise CannotImport(f"the weight is for a kernel of {kernel}, the operator says {stated}")
    strides, dilations, before, after = _window(node, kernel)
    if before != after:
        x, before = _padded(node, x, before, after), [0] * len(kernel)
    kind = {1: "conv1d", 2: "conv2d", 3: "conv3d"}.get(len(kernel))
    if kind is None:
        raise CannotImport(f"a convolution over {len(kernel)} axes")
    return node.call(f"{kind}.default", x, weight, bias, strides, before, dilations, node.attribute("group", 1))


@translation("ConvTranspose")
def conv_transpose(node: OnnxNode) -> Any:
    weight, bias = node.input(1), node.optional(2)
    kernel = list(node.emit.shape(weight)[2:])
    rank = len(kernel)
    strides, dilations, before, after = _window(node, kernel)
    extra = list(node.attribute("output_padding") or [0] * rank)
    if node.attribute("auto_pad", "NOTSET") in ("SAME_UPPER", "SAME_LOWER") or node.attribute("output_shape"):
        before, after = _padding_for_size(node, kernel, strides, dilations, extra)
    # Less after than before is what output padding does; the other way round the result is cut.
    uneven = [b - a for b, a in zip(before, after, strict=True)]
    extra = [e + max(0, u) for e, u in zip(extra, uneven, strict=True)]
    kind = {1: "conv_transpose1d.default", 2: "conv_transpose2d.input", 3: "conv_transpose3d.input"}[rank]
    groups = node.attribute("group", 1)
    found = node.call(kind, node.input(0), weight, bias, strides, before, extra, groups, dilations)
    for axis, more in enumerate(uneven, 2):
        if more < 0:
            found = node.call("slice.Tensor", found, axis, 0, node.emit.shape(found)[axis] + more, 1)
    return found


def _padding_for_size(
    node: OnnxNode, kernel: list[int], strides: list[int], dilations: list[int], extra: list[int]
) -> tuple[list[int], list[int]]:
    """Padding before and after that gives a transposed convolution its stated size, or a multiple of its input's."""
    sizes = node.shape()[2:]
    wanted = list(node.attribute("output_shape") or [n * s for n, s in zip(sizes, strides, strict=True)])[
        -len(kernel) :
    ]
    whole = [
        strides[i] * (size - 1) + extra[i] + dilations[i] * (kernel[i] - 1) + 1 - wanted[i]
        for i, size in enumerate(sizes)
    ]
    half = [max(0, amount) // 2 for amount in whole]
    rest = [amount - less for amount, less in zip(whole, half, strict=True)]
    if min(rest) < 0:  # larger than its input makes it: what lacks is added at the end
        return half, rest
    return (half, rest) if node.attribute("auto_pad", "NOTSET") == "SAME_UPPER" else (rest, half)


@translation("MaxPool", "AveragePool")
def pool(node: OnnxNode) -> Any:
    x, kernel = node.input(0), list(node.attribute("kernel_shape"))
    if len(kernel) not in (1, 2, 3):
        raise CannotImport(f"a pool over {len(kernel)} axes")
    strides, dilations, before, after = _window(node, kernel)
    ceil = bool(node.attribute("ceil_mode", 0))
    if node.kind == "MaxPool":
        if _overhangs(node, kernel, strides, dilations, before, after):
            ceil = True
        elif before != after or any(2 * p > k for p, k in zip(before, kernel, strict=True)):
            cut = _cut_pool(node, kernel, strides, dilations, before, after)
            if cut is not None:
                return cut
            x, before = _padded(node, x, before, after, float("-inf")), [0] * len(kernel)
        return node.call(f"max_pool{len(kernel)}d.default", x, kernel, strides, before, dilations, ceil)
    include = bool(node.attribute("count_include_pad", 0))
    if any(d != 1 for d in dilations):
        raise CannotImport("a dilated average pool")
    if not include and _overhangs(node, kernel, strides, dilations, before, after):
        return node.call(f"avg_pool{len(kernel)}d.default", x, kernel, strides, before, True, False)
    if before == after and all(2 * p <= k for p, k in zip(before, kernel, strict=True)):
        return node.call(f"avg_pool{len(kernel)}d.default", x, kernel, strides, before, ceil, include)
    padded = _padded(node, x, before, after)
    zeros = [0] * len(kernel)
    mean = node.call(f"avg_pool{len(kernel)}d.default", padded, kernel, strides, zeros, ceil, True)
    if include:
        return mean
    # What the padding contributes to the count is taken out again.
    ones = torch.nn.functional.pad(
        torch.ones(1, 1, *node.shape()[2:]), [a for pair in zip(before[::-1], after[::-1], strict=True) for a in pair]
    )
    pooled = {1: torch.nn.functional.avg_pool1d, 2: torch.nn.functional.avg_pool2d, 3: torch.nn.functional.avg_pool3d}
    share = pooled[len(kernel)](ones, kernel, strides, 0, ceil)
    return node.call("mul.Tensor", mean, 1 / share)


def _cut_pool(
    node: OnnxNode, kernel: list[int], strides: list[int], dilations: list[int], before: list[int], after: list[int]
) -> Value | None:
    """A maximum pool that is padded on both sides as it is at the beginning; windows at the end that are too many are
    cut. None where there are too few.
    """
    if node.attribute("ceil_mode", 0) or any(2 * b > k for b, k in zip(before, kernel, strict=True)):
        return None
    wanted = [
        (length + before[i] + after[i] - dilations[i] * (kernel[i] - 1) - 1) // strides[i] + 1
        for i, length in enumerate(node.shape()[2:])
    ]
    ceil = any(a > b for a, b in zip(after, before, strict=True))
    found = node.call(f"max_pool{len(kernel)}d.default", node.input(0), kernel, strides, before, dilations, ceil)
    for axis, length in enumerate(wanted, 2):
        if node.emit.shape(found)[axis] < length:
            return None
        if node.emit.shape(found)[axis] > length:
            found = node.call("slice.Tensor", found, axis, 0, length, 1)
    return found  # type: ignore[no-any-return]


def _overhangs(
    node: OnnxNode, kernel: list[int], strides: list[int], dilations: list[int], before: list[int], after: list[int]
) -> bool:
    """Whether padding only makes windows reach over the end where `ceil_mode` has them do the same: such padding counts
    for nothing.
    """
    if before == after or any(2 * b > k for b, k in zip(before, kernel, strict=True)):
        return False
    for i, length in enumerate(node.shape()[2:]):
        reach = dilations[i] * (kernel[i] - 1) + 1
        wanted = (length + before[i] + after[i] - reach) // strides[i] + 1
        if node.attribute("ceil_mode", 0):
            return False
        steps = -(-(length + 2 * before[i] - reach) // strides[i])
        if steps * strides[i] >= length + before[i]:
            steps -= 1
        if steps + 1 != wanted:
            return False
    return True


@translation("GlobalAveragePool", "GlobalMaxPool")
def global_pool(node: OnnxNode) -> Any:
    axes = list(range(2, len(node.shape())))
    kind = "mean.dim" if node.kind == "GlobalAveragePool" else "amax.default"
    return node.call(kind, node.input(0), axes, True)


@translation("BatchNormalization")
def batch_norm(node: OnnxNode) -> Any:
    if node.attribute("training_mode", 0):
        raise CannotImport("a batch norm in training mode", hint="export the network in evaluation mode")
    if not node.attribute("spatial", 1):
        raise CannotImport("a batch norm with weights for each position (spatial=0)")
    scale, bias, mean, variance = (node.constant(i, "a weight of a batch norm").float() for i in (1, 2, 3, 4))
    eps = node.attribute("epsilon", 1e-5)
    return node.call("batch_norm.default", node.input(0), scale, bias, mean, variance, False, 0.1, eps, False)


@translation("InstanceNormalization")
def instance_norm(node: OnnxNode) -> Any:
    eps = node.attribute("epsilon", 1e-5)
    return node.call(
        "instance_norm.default", node.input(0), node.input(1), node.input(2), None, None, True, 0.1, eps, False
    )


@translation("GroupNormalization")
def group_norm(node: OnnxNode) -> Any:
    groups, channels = node.attribute("num_groups"), node.shape()[1]
    weights = []
    for position in (1, 2):
        weight = node.constant(position, "a weight of a group norm")
        # Up to opset 20 there is one for each group.
        weights.append(weight if weight.numel() == channels else weight.repeat_interleave(channels // groups))
    return node.call("group_norm.default", node.input(0), groups, *weights, node.attribute("epsilon", 1e-5), False)


@translation("LayerNormalization")
def layer_norm(node: OnnxNode) -> Any:
    if len([name for name in node.outputs if name]) > 1:
        raise CannotImport("the mean or the deviation of a layer norm is read")
    shape = list(node.shape()[node.attribute("axis", -1) % len(node.shape()) :])
    scale = node.constant(1, "the weight of a layer norm").expand(shape)
    bias = None if node.optional(2) is None else node.constant(2, "the bias of a layer norm").expand(shape)
    return node.call("layer_norm.default", node.input(0), shape, scale, bias, node.attribute("epsilon", 1e-5), False)


@translation("LRN")
def response_norm(node: OnnxNode) -> Any:
    """x / (bias + alpha / size · sum of squares over channels)^beta. Of an even size ONNX looks at one more channel
    after, torch at one more before."""
    size = node.attribute("size")
    alpha, beta, k = node.attribute("alpha", 1e-4), node.attribute("beta", 0.75), node.attribute("bias", 1.0)
    x = node.input(0)
    squares = node.call("unsqueeze.default", node.call("mul.Tensor", x, x), 1)
    around = [0, 0, 0, 0, (size - 1) // 2, size // 2]
    padded = node.call("constant_pad_nd.default", squares, around, 0.0)
    total = node.call("squeeze.dim", node.call("avg_pool3d.default", padded, [size, 1, 1], [1]), 1)
    scaled = node.call("add.Scalar", node.call("mul.Scalar", total, alpha), k)
    return node.call("div.Tensor", x, node.call("pow.Tensor_Scalar", scaled, beta))
