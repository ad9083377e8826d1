"""Element by element, products, reductions."""

from __future__ import annotations

from functools import reduce
from typing import Any

import torch
from torch import Tensor

from iosfarm.frontends.errors import CannotImport
from iosfarm.frontends.onnx.operators.node import TRANSLATIONS, OnnxNode, translation

_PLAIN = {
    "Relu": "relu", "Sigmoid": "sigmoid", "Tanh": "tanh", "Softplus": "softplus", "Erf": "erf", "Exp": "exp",
    "Log": "log", "Sqrt": "sqrt", "Abs": "abs", "Neg": "neg", "Reciprocal": "reciprocal", "Floor": "floor",
    "Ceil": "ceil", "Sin": "sin", "Cos": "cos", "Tan": "tan", "HardSwish": "hardswish", "Mish": "mish",
    "Identity": "clone", "Sign": "sign", "Not": "logical_not", "Round": "round", "Asin": "asin", "Acos": "acos",
    "Atan": "atan", "Sinh": "sinh", "Cosh": "cosh", "Asinh": "asinh", "Acosh": "acosh", "Atanh": "atanh",
    "IsNaN": "isnan", "IsInf": "isinf",
}  # fmt: skip

_TWO = {
    "Mul": "mul", "Div": "div", "Equal": "eq", "Less": "lt", "Greater": "gt", "LessOrEqual": "le",
    "GreaterOrEqual": "ge", "Mod": "remainder",
}  # fmt: skip

_LOGICAL = {"And": "logical_and", "Or": "logical_or", "Xor": "logical_xor"}


def _unary(kind: str) -> Any:
    return lambda node: node.call(f"{kind}.default", node.input(0))


for _name, _kind in _PLAIN.items():
    TRANSLATIONS[_name] = _unary(_kind)


@translation("Add", "Sub")
def add(node: OnnxNode) -> Any:
    return node.call(f"{node.kind.lower()}.Tensor", node.input(0), node.input(1))


@translation(*_TWO)
def two(node: OnnxNode) -> Any:
    left, right = node.input(0), node.input(1)
    whole = not node.emit.dtype(left).is_floating_point and not node.emit.dtype(right).is_floating_point
    if node.kind == "Div" and whole:
        return node.call("div.Tensor_mode", left, right, rounding_mode="trunc")
    return node.call(f"{_TWO[node.kind]}.Tensor", left, right)


@translation(*_LOGICAL)
def logical(node: OnnxNode) -> Any:
    return node.call(f"{_LOGICAL[node.kind]}.default", node.input(0), node.input(1))


@translation("Pow")
def power(node: OnnxNode) -> Any:
    exponent = node.input(1)
    if isinstance(exponent, Tensor) and exponent.numel() == 1:
        return node.call("pow.Tensor_Scalar", node.input(0), exponent.item())
    return node.call("pow.Tensor_Tensor", node.input(0), exponent)


@translation("Sum", "Mean", "Max", "Min")
def several(node: OnnxNode) -> Any:
    kind = {"Max": "maximum.default", "Min": "minimum.default"}.get(node.kind, "add.Tensor")
    values = [node.input(i) for i in range(len(node.inputs))]
    total = reduce(lambda a, b: node.call(kind, a, b), values)
    return node.call("div.Scalar", total, len(values)) if node.kind == "Mean" else total


@translation("Where")
def where(node: OnnxNode) -> Any:
    return node.call("where.self", node.input(0), node.input(1), node.input(2))


# -- activations -----------------------------------------------------------------------------------------------------


@translation("LeakyRelu")
def leaky_relu(node: OnnxNode) -> Any:
    return node.call("leaky_relu.default", node.input(0), node.attribute("alpha", 0.01))


@translation("Elu", "Celu")
def elu(node: OnnxNode) -> Any:
    return node.call(f"{node.kind.lower()}.default", node.input(0), node.attribute("alpha", 1.0))


@translation("Selu")
def selu(node: OnnxNode) -> Any:
    usual = {"alpha": 1.67326319217681884765625, "gamma": 1.05070102214813232421875}
    if any(abs(node.attribute(name, value) - value) > 1e-5 for name, value in usual.items()):
        scaled = node.call("elu.default", node.input(0), node.attribute("alpha", usual["alpha"]))
        return node.call("mul.Scalar", scaled, node.attribute("gamma", usual["gamma"]))
    return node.call("selu.default", node.input(0))


@translation("HardSigmoid")
def hard_sigmoid(node: OnnxNode) -> Any:
    alpha, beta = node.attribute("alpha", 0.2), node.attribute("beta", 0.5)
    if abs(alpha - 1 / 6) < 1e-6 and beta == 0.5:
        return node.call("hardsigmoid.default", node.input(0))
    straight = node.call("add.Scalar", node.call("mul.Scalar", node.input(0), alpha), beta)
    return node.call("clamp.default", straight, 0.0, 1.0)


@translation("Gelu")
def gelu(node: OnnxNode) -> Any:
    return node.call("gelu.default", node.input(0), approximate=node.attribute("approximate", "none"))


@translation("Softsign")
def softsign(node: OnnxNode) -> Any:
    x = node.input(0)
    return node.call("div.Tensor", x, node.call("add.Scalar", node.call("abs.default", x), 1.0))


@translation("ThresholdedRelu")
def thresholded(node: OnnxNode) -> Any:
    return node.call("threshold.default", node.input(0), node.attribute("alpha", 1.0), 0.0)


@translation("PRelu")
def prelu(node: OnnxNode) -> Any:
    slope, rank = node.input(1), len(node.shape())
    if isinstance(slope, Tensor) and slope.numel() in (1, *node.shape()[1:2]) and (
        slope.numel() == 1 or (slope.dim() == rank and slope.shape[1] > 1) or (slope.dim() == rank - 1
        and slope.shape[0] == slope.numel())
    ):  # fmt: skip
        return node.call("prelu.default", node.input(0), slope.reshape(-1))
    below = node.call("mul.Tensor", node.call("clamp.default", node.input(0), None, 0.0), slope)
    return node.call("add.Tensor", node.call("relu.default", node.input(0)), below)


@translation("Clip")
def clip(node: OnnxNode) -> Any:
    bounds: list[float | None] = []
    for position, name in ((1, "min"), (2, "max")):
        if node.optional(position) is not None:
            bounds.append(float(node.constant(position, f"the {name} of a clip")))
        else:
            bounds.append(node.attribute(name))
    low, high = (None if bound is None or abs(bound) >= 3.4e38 else bound for bound in bounds)
    if low is None and high is None:
        return node.call("clone.default", node.input(0))
    return node.call("clamp.default", node.input(0), low, high)


@translation("Softmax", "LogSoftmax")
def softmax(node: OnnxNode) -> Any:
    kind = "softmax.int" if node.kind == "Softmax" else "log_softmax.int"
    shape = node.shape()
    if node.opset >= 13:
        return node.call(kind, node.input(0), node.attribute("axis", -1))
    axis = node.attribute("axis", 1) % len(shape)
    if axis == len(shape) - 1 or all(size == 1 for size in shape[axis + 1 :]):
        return node.call(kind, node.input(0), axis)
    # Before opset 13 all axes from this one on are one.
    flat = node.call("flatten.using_ints", node.input(0), axis, -1)
    return node.call("reshape.default", node.call(kind, flat, axis), list(shape))


# -- products --------------------------------------------------------------------------------------------------------


@translation("MatMul")
def matmul(node: OnnxNode) -> Any:
    return node.call("matmul.default", node.input(0), node.input(1))


@translation("Gemm")
def gemm(node: OnnxNode) -> Any:
    """alpha · A' B' + beta · C."""
    a, b, c = node.input(0), node.input(1), node.optional(2)
    alpha, beta = node.attribute("alpha", 1.0), node.attribute("beta", 1.0)
    if node.attribute("transA", 0):
        a = node.call("t.default", a)
    if isinstance(b, Tensor) and (c is None or isinstance(c, Tensor)):
        weight = (b if node.attribute("transB", 0) else b.t()) * (alpha if alpha != 1 else 1)
        whole = None if c is None else c * beta if beta != 1 else c
        if whole is None or whole.numel() == 1 or whole.numel() == whole.shape[-1]:
            bias = None if whole is None else whole.reshape(-1).expand(weight.shape[0]).contiguous()
            return node.call("linear.default", a, weight.contiguous(), bias)
    if node.attribute("transB", 0):
        b = node.call("t.default", b)
    product = node.call("matmul.default", a, b)
    if alpha != 1:
        product = node.call("mul.Scalar", product, alpha)
    return product if c is None else node.call("add.Tensor", product, c, alpha=beta)


@translation("Einsum")
def einsum(node: OnnxNode) -> Any:
    return node.call("einsum.default", node.attribute("equation").replace(" ", ""), list(node.inputs))


# -- reductions ------------------------------------------------------------------------------------------------------

_REDUCE = {
    "ReduceMean": "mean.dim", "ReduceSum": "sum.dim_IntList", "ReduceMax": "amax.default", "ReduceMin": "amin.default",
    "ReduceLogSumExp": "logsumexp.default",
}  # fmt: skip


@translation(*_REDUCE, "ReduceL2", "ReduceL1", "ReduceSumSquare", "ReduceProd")
def reduction(node: OnnxNode) -> Any:
    x = node.input(0)
    keep = bool(node.attribute("keepdims", 1))
    axes = node.integers(1, "axes")
    if not axes:
        if node.attribute("noop_with_empty_axes", 0):
            return node.call("clone.default", x)
        axes = list(range(len(node.shape())))
    if node.kind == "ReduceSumSquare":
        return node.call("sum.dim_IntList", node.call("mul.Tensor", x, x), axes, keep)
    if node.kind in ("ReduceL1", "ReduceL2"):
        return node.call("linalg_vector_norm.default", x, int(node.kind[-1]), axes, keep)
    if node.kind == "ReduceProd":
        for axis in sorted((axis % len(node.shape()) for axis in axes), reverse=True):
            x = node.call("prod.dim_int", x, axis, keep)
        return x
    return node.call(_REDUCE[node.kind], x, axes, keep)


@translation("ArgMax", "ArgMin")
def argmax(node: OnnxNode) -> Any:
    if node.attribute("select_last_index", 0):
        raise CannotImport("the last of several equal largest elements is asked for")
    keep = bool(node.attribute("keepdims", 1))
    return node.call(f"{node.kind.lower()}.default", node.input(0), node.attribute("axis", 0), keep)


@translation("TopK")
def topk(node: OnnxNode) -> Any:
    count = node.integers(1, "k")
    number = int(node.attribute("k")) if count is None else count[0]
    largest, ordered = bool(node.attribute("largest", 1)), bool(node.attribute("sorted", 1))
    return node.call("topk.default", node.input(0), number, node.attribute("axis", -1), largest, ordered)


@translation("CumSum")
def cumsum(node: OnnxNode) -> Any:
    if node.attribute("exclusive", 0) or node.attribute("reverse", 0):
        raise CannotImport("an exclusive or reversed CumSum")
    return node.call("cumsum.default", node.input(0), int(node.constant(1, "the axis of a CumSum")))


DTYPES = {
    1: torch.float32, 2: torch.uint8, 3: torch.int8, 5: torch.int16, 6: torch.int32, 7: torch.int64, 9: torch.bool,
    10: torch.float16, 11: torch.float64, 16: torch.bfloat16,
}  # fmt: skip
"""ONNX's numbers of dtypes."""


@translation("Cast", "CastLike")
def cast(node: OnnxNode) -> Any:
    if node.kind == "CastLike":
        dtype = node.emit.dtype(node.input(1))
    elif node.attribute("to") in DTYPES:
        dtype = DTYPES[node.attribute("to")]
    else:
        raise CannotImport(f"a cast to dtype {node.attribute('to')} of ONNX")
    return node.call("to.dtype", node.input(0), dtype)
