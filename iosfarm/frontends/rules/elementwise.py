"""Activations and arithmetic, element by element."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from iosfarm.frontends.errors import NoCounterpart
from iosfarm.frontends.lowering import Constant, Result, Value
from iosfarm.frontends.rules.registry import RULES, Call, number, rule
from iosfarm.ir.operators.elementwise import UNBOUNDED

_PLAIN = {
    "relu.default": "relu", "relu6.default": "relu6", "sigmoid.default": "sigmoid", "tanh.default": "tanh",
    "silu.default": "silu", "hardsigmoid.default": "hard_sigmoid", "hardswish.default": "hard_swish",
}  # fmt: skip

_UNARY = {
    "exp.default": "exp", "log.default": "log", "sqrt.default": "sqrt", "rsqrt.default": "rsqrt",
    "abs.default": "abs", "reciprocal.default": "reciprocal", "erf.default": "erf", "sin.default": "sin",
    "cos.default": "cos", "floor.default": "floor", "ceil.default": "ceil", "mish.default": "mish",
    "log_sigmoid.default": "log_sigmoid",
}  # fmt: skip

_SAME = (
    "dropout.default", "feature_dropout.default", "alpha_dropout.default", "feature_alpha_dropout.default",
    "contiguous.default", "clone.default", "detach.default", "alias.default", "lift_fresh_copy.default",
    "lift_fresh.default", "to.dtype", "to.device", "to.dtype_layout", "to.other", "_to_copy.default",
    "positive.default", "native_dropout.default", "type_as.default",
)  # fmt: skip


def _kind(kind: str, **attributes: Any) -> Callable[[Call], Result]:
    return lambda call: call.lowering.add(kind, [call.value()], **attributes)


for _name, _activation in _PLAIN.items():
    RULES[f"aten.{_name}"] = _kind(_activation)
for _name, _function in _UNARY.items():
    RULES[f"aten.{_name}"] = _kind("unary", function=_function)


@rule(*_SAME)
def same(call: Call) -> Result:
    if call.get("train") or call.get("training"):
        raise call.lowering.fail(call.node, "dropout in training mode", "export the module after .eval()")
    x = call.value()
    if not call.type.dtype.is_floating_point:
        raise NoCounterpart(f"a cast to {call.type.dtype}")
    call.only_first()
    return [x] if isinstance(call.node.types, list) else x


@rule("gelu.default")
def gelu(call: Call) -> Result:
    if call["approximate"] == "tanh":
        return call.lowering.add("unary", [call.value()], function="gelu_tanh")
    return call.lowering.add("gelu", [call.value()])


@rule("elu.default")
def elu(call: Call) -> Result:
    if (call["scale"], call["input_scale"]) != (1, 1):
        raise NoCounterpart("a scaled elu")
    return call.lowering.add("elu", [call.value()], alpha=number(call["alpha"]))


RULES["aten.selu.default"] = _kind("unary", function="selu")


@rule("celu.default")
def celu(call: Call) -> Result:
    if call["alpha"] != 1:
        raise NoCounterpart("celu with another alpha than 1")
    return call.lowering.add("elu", [call.value()])


@rule("leaky_relu.default")
def leaky_relu(call: Call) -> Result:
    return call.lowering.add("leaky_relu", [call.value()], negative_slope=number(call["negative_slope"]))


@rule("softplus.default")
def softplus(call: Call) -> Result:
    if (call["beta"], call["threshold"]) != (1, 20):
        raise NoCounterpart("softplus with another beta or threshold than usual")
    return call.lowering.add("unary", [call.value()], function="softplus")


@rule("hardtanh.default")
def hardtanh(call: Call) -> Result:
    return clamped(call, call["min_val"], call["max_val"])


@rule("clamp.default", "clip.default")
def clamp(call: Call) -> Result:
    return clamped(call, call["min"], call["max"])


@rule("clamp_min.default")
def clamp_min(call: Call) -> Result:
    return clamped(call, call["min"], None)


@rule("clamp_max.default")
def clamp_max(call: Call) -> Result:
    return clamped(call, None, call["max"])


def clamped(call: Call, least: object, most: object) -> Value:
    """Between two numbers, or one of them."""
    x = call.value()
    if least == 0 and most is None:
        return call.lowering.add("relu", [x])
    if (least, most) == (0, 6):
        return call.lowering.add("relu6", [x])
    low = -UNBOUNDED if least is None or least == float("-inf") else number(least)
    high = UNBOUNDED if most is None or most == float("inf") else number(most)
    return call.lowering.add("clamp", [x], min=low, max=high)


@rule("softmax.int", "_softmax.default", "log_softmax.int", "_log_softmax.default")
def softmax(call: Call) -> Result:
    x = call.value()
    axis = call["dim"] % x.rank
    if axis == x.axis:
        raise NoCounterpart("softmax over the batch")
    kind = "log_softmax" if "log_softmax" in call.node.kind else "softmax"
    return call.lowering.add(kind, [x], axis=axis)


# -- arithmetic ------------------------------------------------------------------------------------------------------


@rule("add.Tensor", "add.Scalar")
def add(call: Call) -> Result:
    return combined(call, "add", call.operand("self"), _times(call, call.operand("other"), call["alpha"]))


@rule("sub.Tensor", "sub.Scalar")
def sub(call: Call) -> Result:
    return combined(call, "sub", call.operand("self"), _times(call, call.operand("other"), call["alpha"]))


@rule("rsub.Scalar", "rsub.Tensor")
def rsub(call: Call) -> Result:
    return combined(call, "sub", call.operand("other"), _times(call, call.operand("self"), call["alpha"]))


@rule("mul.Tensor", "mul.Scalar")
def mul(call: Call) -> Result:
    return combined(call, "mul", call.operand("self"), call.operand("other"))


@rule("div.Tensor", "div.Scalar")
def div(call: Call) -> Result:
    return combined(call, "div", call.operand("self"), call.operand("other"))


@rule("neg.default")
def neg(call: Call) -> Result:
    return call.lowering.add("affine", [call.value()], scale=-1.0)


@rule("pow.Tensor_Scalar", "square.default")
def power(call: Call) -> Result:
    exponent = 2.0 if call.node.kind == "aten.square.default" else number(call["exponent"])
    return call.lowering.add("power", [call.value()], exponent=exponent)


def _times(call: Call, operand: object, alpha: object) -> object:
    """What is multiplied before it is added or subtracted; nearly always by 1."""
    if alpha == 1:
        return operand
    if isinstance(operand, Value):
        return call.lowering.add("affine", [operand], scale=number(alpha))
    if isinstance(operand, Constant):
        return Constant(operand.tensor * number(alpha), operand.batched)
    return number(operand) * number(alpha)


def combined(call: Call, kind: str, left: object, right: object) -> Value:
    """`kind` (add, sub, mul, div) of two operands, of which one depends on the inputs."""
    if isinstance(left, Value) and isinstance(right, Value):
        return _of_values(call, kind, left, right)
    if isinstance(left, Value):
        return with_constant(call, kind, left, _constant(right))
    if not isinstance(right, Value):
        raise NoCounterpart("an operand that is no plain tensor")
    constant = _constant(left)
    if kind == "sub":
        return with_constant(call, "add", call.lowering.add("affine", [right], scale=-1.0), constant)
    if kind == "div":
        return with_constant(call, "mul", call.lowering.add("unary", [right], function="reciprocal"), constant)
    return with_constant(call, kind, right, constant)


def _constant(operand: object) -> Constant | float:
    if isinstance(operand, Constant):
        return float(operand.tensor.detach()) if operand.tensor.dim() == 0 else operand
    return number(operand)


def with_constant(call: Call, kind: str, x: Value, constant: Constant | float) -> Value:
    """A value with a number, or with a tensor of weights."""
    if isinstance(constant, Constant) and constant.tensor.numel() == 1 and constant.tensor.dim() <= x.rank:
        constant = float(constant.tensor.detach())
    if isinstance(constant, float):
        by = number(constant)
        if kind in ("mul", "div"):
            return call.lowering.add("affine", [x], scale=by if kind == "mul" else 1.0 / by)
        return call.lowering.add("affine", [x], offset=by if kind == "add" else -by)
    tensor = constant.tensor
    while tensor.dim() > 1 and tensor.shape[0] == 1 and tensor.dim() >= x.rank:
        tensor = tensor[0]
    shape = tuple(tensor.shape)
    aligned = x.shape[x.rank - len(shape) :]
    if len(shape) <= x.rank and all(s in (1, a) for s, a in zip(shape, aligned, strict=True)):
        if kind in ("sub", "div"):
            kind, tensor = ("add", -tensor) if kind == "sub" else ("mul", 1 / tensor.double())
        operator = "shift" if kind == "add" else "scale"
        return call.lowering.add(operator, [x], weights={"weight": tensor}, shape=shape)
    return _of_values(call, kind, x, call.lowering.materialised(constant, len(call.type.shape)))


def _of_values(call: Call, kind: str, left: Value, right: Value) -> Value:
    rank = max(left.rank, right.rank)
    left, right = (call.lowering.reshape(v, (1,) * (rank - v.rank) + v.shape) for v in (left, right))
    if left.axis != right.axis:
        raise NoCounterpart("the batch is in different places")
    return call.lowering.add(kind, [left, right])
