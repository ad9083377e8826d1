"""Operators with weights: convolutions, linear layers, normalisations."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from iosfarm.frontends.errors import NoCounterpart
from iosfarm.frontends.lowering import Result, Value
from iosfarm.frontends.patterns import LOCAL_RESPONSE_NORM
from iosfarm.frontends.rules.registry import Call, number, rule


def _weights(weight: Tensor, bias: Tensor | None) -> dict[str, Tensor]:
    return {"weight": weight} if bias is None else {"weight": weight, "bias": bias}


@rule("conv2d.default", "conv2d.padding", "convolution.default", "_convolution.default", "mkldnn_convolution.default")
def convolution(call: Call) -> Result:
    x, weight, bias = call.image(), call.weight("weight"), call.constant("bias")
    if weight.dim() != 4:
        raise NoCounterpart("not a 2-D convolution")
    kernel = (int(weight.shape[2]), int(weight.shape[3]))
    stride, dilation, groups = call.pair("stride", 1), call.pair("dilation", 1), call["groups"]
    if call.get("transposed"):
        return _transposed(call, x, weight, bias)
    if isinstance(call["padding"], str):
        x, padding = _named_padding(call, x, kernel, dilation)
    else:
        padding = call.pair("padding", 0)
    return call.lowering.add(
        "conv2d", [x], weights=_weights(weight, bias), out_channels=int(weight.shape[0]), kernel=kernel, stride=stride,
        padding=padding, dilation=dilation, groups=groups, bias=bias is not None,
    )  # fmt: skip


def _named_padding(
    call: Call, x: Value, kernel: tuple[int, int], dilation: tuple[int, int]
) -> tuple[Value, tuple[int, int]]:
    """`same` puts the odd one after."""
    if call["padding"] == "valid":
        return x, (0, 0)
    total = [dilation[i] * (kernel[i] - 1) for i in (0, 1)]
    if total[0] % 2 == 0 and total[1] % 2 == 0:
        return x, (total[0] // 2, total[1] // 2)
    amounts = (total[1] // 2, total[1] - total[1] // 2, total[0] // 2, total[0] - total[0] // 2)
    return call.lowering.add("pad", [x], padding=amounts), (0, 0)


@rule("conv_transpose2d.input")
def transposed(call: Call) -> Result:
    return _transposed(call, call.image(), call.weight("weight"), call.constant("bias"))


def _transposed(call: Call, x: Value, weight: Tensor, bias: Tensor | None) -> Result:
    groups = call["groups"]
    return call.lowering.add(
        "conv_transpose2d", [x], weights=_weights(weight, bias), out_channels=int(weight.shape[1]) * groups,
        kernel=(int(weight.shape[2]), int(weight.shape[3])), stride=call.pair("stride", 1),
        padding=call.pair("padding", 0), output_padding=call.pair("output_padding", 0),
        dilation=call.pair("dilation", 1), groups=groups, bias=bias is not None,
    )  # fmt: skip


def linear_layer(call: Call, x: Value, weight: Tensor, bias: Tensor | None) -> Value:
    """x Wᵀ + b on the last axis."""
    if weight.dim() != 2 or (bias is not None and tuple(bias.shape) != (weight.shape[0],)):
        raise NoCounterpart("not a plain linear layer")
    if x.axis is None or x.axis == x.rank - 1:
        raise NoCounterpart("the batch is the axis that is summed over")
    shape = {"out_features": int(weight.shape[0]), "bias": bias is not None}
    return call.lowering.add("linear", [x], weights=_weights(weight, bias), **shape)


@rule("linear.default")
def linear(call: Call) -> Result:
    return linear_layer(call, call.value("input"), call.weight("weight"), call.constant("bias"))


@rule("addmm.default")
def addmm(call: Call) -> Result:
    if (call["beta"], call["alpha"]) != (1, 1):
        raise NoCounterpart("scaled")
    return linear_layer(call, call.value("mat1"), call.weight("mat2").t(), call.weight("self"))


@rule(
    "batch_norm.default",
    "_native_batch_norm_legit_no_training.default",
    "native_batch_norm.default",
    "cudnn_batch_norm.default",
)
def batch_norm(call: Call) -> Result:
    if call.get("training"):
        raise call.lowering.fail(call.node, "batch norm in training mode", "export the module after .eval()")
    call.only_first()
    x, eps = call.value(), number(call["eps"] if call.get("epsilon") is None else call["epsilon"])
    mean, variance = call.weight("running_mean"), call.weight("running_var")
    ones = torch.ones_like(mean)
    weight, bias = call.constant("weight"), call.constant("bias")
    parameters = {
        "weight": ones if weight is None else weight,
        "bias": ones * 0 if bias is None else bias,
        "running_mean": mean,
        "running_var": variance,
    }
    if x.axis != 0:
        raise NoCounterpart("the batch is not first")
    found = _normalised(call, x, parameters, eps)
    return found if call.node.kind == "aten.batch_norm.default" else [found]


def _normalised(call: Call, x: Value, parameters: dict[str, Tensor], eps: float) -> Value:
    if x.rank == 4:
        return call.lowering.add("batch_norm", [x], weights=parameters, eps=eps)
    exact = {name: values.double() for name, values in parameters.items()}
    shape = (-1,) + (1,) * (x.rank - 2)
    scale = exact["weight"] / torch.sqrt(exact["running_var"] + eps)
    shift = exact["bias"] - scale * exact["running_mean"]
    for kind, values in (("scale", scale.reshape(shape)), ("shift", shift.reshape(shape))):
        x = call.lowering.add(kind, [x], weights={"weight": values}, shape=tuple(values.shape))
    return x


@rule("layer_norm.default", "native_layer_norm.default")
def layer_norm(call: Call) -> Result:
    call.only_first()
    x, shape = call.value(), tuple(call["normalized_shape"])
    if x.axis is None or x.axis >= x.rank - len(shape):
        raise NoCounterpart("the batch is normalised over")
    weight, bias = call.constant("weight"), call.constant("bias")
    weights = {
        "weight": torch.ones(shape) if weight is None else weight,
        "bias": torch.zeros(shape) if bias is None else bias,
    }
    found = call.lowering.add("layer_norm", [x], weights=weights, shape=shape, eps=number(call["eps"]))
    return found if call.node.kind == "aten.layer_norm.default" else [found]


@rule("group_norm.default", "native_group_norm.default")
def group_norm(call: Call) -> Result:
    call.only_first()
    groups = call["num_groups"] if call.get("group") is None else call["group"]
    found = _grouped(call, groups)
    return found if call.node.kind == "aten.group_norm.default" else [found]


@rule("instance_norm.default")
def instance_norm(call: Call) -> Result:
    if not call["use_input_stats"]:
        raise NoCounterpart("instance norm with stored statistics")
    return _grouped(call, call.value().shape[1])


def _grouped(call: Call, groups: int) -> Value:
    x = call.value()
    if x.axis != 0 or x.rank < 2:
        raise NoCounterpart("the batch is not first")
    weight, bias = call.constant("weight"), call.constant("bias")
    weights = {
        "weight": torch.ones(x.shape[1]) if weight is None else weight,
        "bias": torch.zeros(x.shape[1]) if bias is None else bias,
    }
    return call.lowering.add("group_norm", [x], weights=weights, groups=groups, eps=number(call["eps"]))


@rule(LOCAL_RESPONSE_NORM)
def local_response_norm(call: Call) -> Result:
    numbers: dict[str, Any] = {name: number(call[name]) for name in ("alpha", "beta", "k")}
    return call.lowering.add("local_response_norm", [call.image()], size=call["size"], **numbers)


@rule("prelu.default")
def prelu(call: Call) -> Result:
    x, weight = call.value(), call.weight("weight").reshape(-1)
    if x.axis != 0 or x.rank < 2:
        raise NoCounterpart("the batch is not first")
    return call.lowering.add("prelu", [x], weights={"weight": weight.expand(x.shape[1])})
