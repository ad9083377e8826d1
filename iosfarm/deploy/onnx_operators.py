"""The operators of image networks in terms of ONNX, opset 17; the others are in `onnx_tensors.py`.

The IR has PyTorch's conventions. Where ONNX has none that is the same, the difference is written out: windows of
`ceil_mode` as padding at the end, adaptive pooling as a product with two constant matrices or as a maximum of slices.
"""

from __future__ import annotations

import math
from typing import cast

import numpy as np

from iosfarm.deploy.onnx_writer import Function, NodeWriter, Writer, alone, ints, number, plain, sliced
from iosfarm.ir.graph import Operator
from iosfarm.kernels.runtime import Array

# -- operators with weights ------------------------------------------------------------------------------------------


def _conv2d(w: NodeWriter, o: Operator, output: str) -> None:
    padding = ints(o, "padding")
    w.node(
        "Conv",
        [*o.inputs, *w.parameters(o, "weight", "bias")],
        output,
        kernel_shape=ints(o, "kernel"),
        strides=ints(o, "stride"),
        dilations=ints(o, "dilation"),
        pads=[*padding, *padding],
        group=o.attributes["groups"],
    )


def _linear(w: NodeWriter, o: Operator, output: str) -> None:
    if len(w.graph.shape(o.name)) == 2:
        w.node("Gemm", [*o.inputs, *w.parameters(o, "weight", "bias")], output, transB=1)
        return
    product = f"{o.name}/product" if o.attributes["bias"] else output
    w.node("MatMul", [*o.inputs, w.parameter(o, "weight", np.transpose)], product)
    if o.attributes["bias"]:
        w.node("Add", [product, *w.parameters(o, "bias")], output)


def _batch_norm(w: NodeWriter, o: Operator, output: str) -> None:
    parameters = w.parameters(o, "weight", "bias", "running_mean", "running_var")
    w.node("BatchNormalization", [*o.inputs, *parameters], output, epsilon=number(o, "eps"))


# -- pooling ---------------------------------------------------------------------------------------------------------


def _window(w: NodeWriter, o: Operator) -> tuple[list[int], bool]:
    """Padding (top, left, bottom, right) so that windows fit without `ceil_mode`, and whether that adds to the end."""
    kernel, stride, padding = ints(o, "kernel"), ints(o, "stride"), ints(o, "padding")
    sizes, results = w.graph.shape(o.inputs[0])[2:], w.graph.shape(o.name)[2:]
    over = [
        max(0, (result - 1) * s + k - size - 2 * p)
        for result, s, k, size, p in zip(results, stride, kernel, sizes, padding, strict=True)
    ]
    return [*padding, padding[0] + over[0], padding[1] + over[1]], any(over)


def _max_pool(w: NodeWriter, o: Operator, output: str) -> None:
    pads, _ = _window(w, o)
    w.node("MaxPool", o.inputs, output, kernel_shape=ints(o, "kernel"), strides=ints(o, "stride"), pads=pads)


def _avg_pool(w: NodeWriter, o: Operator, output: str) -> None:
    pads, over = _window(w, o)
    source, include = o.inputs[0], bool(o.attributes["count_include_pad"])
    if include and over:
        # PyTorch counts the padding but not what `ceil_mode` adds: the one is made real, the other left out.
        top, left = ints(o, "padding")
        source = w.node("Pad", [source, w.integers([0, 0, top, left, 0, 0, top, left])], f"{o.name}/padded")
        pads, include = [0, 0, pads[2] - top, pads[3] - left], False
    window = {"kernel_shape": ints(o, "kernel"), "strides": ints(o, "stride"), "pads": pads}
    w.node("AveragePool", [source], output, count_include_pad=int(include), **window)


def _adaptive_windows(size: int, outputs: int) -> list[tuple[int, int]]:
    """PyTorch's: output i covers ⌊i·size/outputs⌋ up to ⌈(i+1)·size/outputs⌉."""
    return [(i * size // outputs, -(-(i + 1) * size // outputs)) for i in range(outputs)]


def _adaptive_avg_pool(w: NodeWriter, o: Operator, output: str) -> None:
    (height, width), (rows, columns) = w.graph.shape(o.inputs[0])[2:], ints(o, "output_size")
    if height % rows == 0 and width % columns == 0:
        cell = (height // rows, width // columns)
        w.node("AveragePool", o.inputs, output, kernel_shape=cell, strides=cell)
        return
    across = w.node("MatMul", [o.inputs[0], w.floats(_averaging(width, columns).T)], f"{o.name}/across")
    w.node("MatMul", [w.floats(_averaging(height, rows)), across], output)


def _averaging(size: int, outputs: int) -> Array:
    """[outputs, size]: each row averages one window."""
    matrix = np.zeros((outputs, size))
    for row, (start, stop) in enumerate(_adaptive_windows(size, outputs)):
        matrix[row, start:stop] = 1 / (stop - start)
    return matrix


def _adaptive_max_pool(w: NodeWriter, o: Operator, output: str) -> None:
    (height, width), (rows, columns) = w.graph.shape(o.inputs[0])[2:], ints(o, "output_size")
    if height % rows == 0 and width % columns == 0:
        cell = (height // rows, width // columns)
        w.node("MaxPool", o.inputs, output, kernel_shape=cell, strides=cell)
        return
    source = o.inputs[0]
    for axis, size, outputs in ((2, height, rows), (3, width, columns)):
        pieces = []
        for place, (start, stop) in enumerate(_adaptive_windows(size, outputs)):
            name = f"{o.name}/{axis}.{place}"
            window = sliced(w, source, f"{name}/window", start, stop, axis)
            pieces.append(w.node("ReduceMax", [window], name, axes=[axis], keepdims=1))
        source = w.node("Concat", pieces, f"{o.name}/{axis}" if axis == 2 else output, axis=axis)


# -- elementwise -----------------------------------------------------------------------------------------------------


def _chain(kind: str) -> Writer:
    def write(w: NodeWriter, o: Operator, output: str) -> None:
        if len(o.inputs) == 1:
            w.node("Identity", o.inputs, output)
            return
        result = o.inputs[0]
        for count, name in enumerate(o.inputs[1:], 2):
            result = w.node(kind, [result, name], output if count == len(o.inputs) else f"{o.name}/{count}")

    return write


def _relu6(w: NodeWriter, _: Operator, source: str, output: str) -> str:
    return w.node("Clip", [source, w.floats(0.0), w.floats(6.0)], output)


def _silu(w: NodeWriter, _: Operator, source: str, output: str) -> str:
    return w.node("Mul", [source, w.node("Sigmoid", [source], f"{output}/sigmoid")], output)


def _gelu(w: NodeWriter, _: Operator, source: str, output: str) -> str:
    """x/2 · (1 + erf(x/√2)): ONNX has it as an operator from opset 20 on only."""
    scaled = w.node("Mul", [source, w.floats(1 / math.sqrt(2))], f"{output}/scaled")
    erf = w.node("Erf", [scaled], f"{output}/erf")
    grown = w.node("Add", [erf, w.floats(1.0)], f"{output}/grown")
    half = w.node("Mul", [source, w.floats(0.5)], f"{output}/half")
    return w.node("Mul", [half, grown], output)


def _leaky_relu(w: NodeWriter, o: Operator, source: str, output: str) -> str:
    return w.node("LeakyRelu", [source], output, alpha=number(o, "negative_slope"))


def _elu(w: NodeWriter, o: Operator, source: str, output: str) -> str:
    return w.node("Elu", [source], output, alpha=number(o, "alpha"))


def _softmax(w: NodeWriter, o: Operator, output: str) -> None:
    w.node("Softmax", o.inputs, output, axis=o.attributes["axis"])


# -- layout ----------------------------------------------------------------------------------------------------------


def _concat(w: NodeWriter, o: Operator, output: str) -> None:
    w.node("Concat", o.inputs, output, axis=o.attributes.get("axis", 1))


def _slice(w: NodeWriter, o: Operator, output: str) -> None:
    start, stop = cast("int", o.attributes["start"]), cast("int", o.attributes["stop"])
    axis, step = cast("int", o.attributes.get("axis", 1)), cast("int", o.attributes.get("step", 1))
    sliced(w, o.inputs[0], output, start, stop, axis, step)


def _flatten(w: NodeWriter, o: Operator, output: str) -> None:
    w.node("Flatten", o.inputs, output, axis=1)


def _pad(w: NodeWriter, o: Operator, output: str) -> None:
    amounts, mode = ints(o, "padding"), str(o.attributes["mode"])
    if mode == "constant":
        left, right, top, bottom = amounts
        value = w.floats(number(o, "value"))
        w.node("Pad", [o.inputs[0], w.integers([0, 0, top, left, 0, 0, bottom, right]), value], output)
        return
    # As the IR has it: first grow, then crop, so that what is cropped may be reflected.
    left, right, top, bottom = (max(0, amount) for amount in amounts)
    kind = {"reflect": "reflect", "replicate": "edge"}[mode]
    pads = w.integers([0, 0, top, left, 0, 0, bottom, right])
    if min(amounts) >= 0:
        w.node("Pad", [o.inputs[0], pads], output, mode=kind)
        return
    grown = w.node("Pad", [o.inputs[0], pads], f"{o.name}/grown", mode=kind)
    _, _, height, width = w.graph.shape(o.inputs[0])
    left, right, top, bottom = (max(0, -amount) for amount in amounts)
    ends = (height + sum(max(0, a) for a in amounts[2:]) - bottom, width + sum(max(0, a) for a in amounts[:2]) - right)
    w.node("Slice", [grown, w.integers([top, left]), w.integers(ends), w.integers([2, 3])], output)


def _resize(w: NodeWriter, o: Operator, output: str) -> None:
    if o.attributes["mode"] == "nearest":
        how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    else:
        corners = bool(o.attributes["align_corners"])
        how = {"mode": "linear", "coordinate_transformation_mode": "align_corners" if corners else "half_pixel"}
    w.node("Resize", [o.inputs[0], "", "", w.integers(w.graph.shape(o.name))], output, **how)


ACTIVATIONS: dict[str, Function] = {
    "relu": plain("Relu"),
    "relu6": _relu6,
    "sigmoid": plain("Sigmoid"),
    "tanh": plain("Tanh"),
    "silu": _silu,
    "gelu": _gelu,
    "hard_sigmoid": plain("HardSigmoid", alpha=1 / 6, beta=0.5),
    "hard_swish": plain("HardSwish"),
    "elu": _elu,
    "leaky_relu": _leaky_relu,
}


WRITERS: dict[str, Writer] = {
    "conv2d": _conv2d,
    "linear": _linear,
    "batch_norm": _batch_norm,
    "max_pool": _max_pool,
    "avg_pool": _avg_pool,
    "global_avg_pool": alone(plain("GlobalAveragePool")),
    "global_max_pool": alone(plain("GlobalMaxPool")),
    "adaptive_avg_pool": _adaptive_avg_pool,
    "adaptive_max_pool": _adaptive_max_pool,
    "add": _chain("Add"),
    "mul": _chain("Mul"),
    **{kind: alone(activation) for kind, activation in ACTIVATIONS.items()},
    "softmax": _softmax,
    "dropout": alone(plain("Identity")),
    "concat": _concat,
    "slice": _slice,
    "flatten": _flatten,
    "pad": _pad,
    "resize": _resize,
}
