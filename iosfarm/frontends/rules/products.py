"""Matrix products and attention."""

from __future__ import annotations

import math

from iosfarm.frontends.errors import NoCounterpart
from iosfarm.frontends.lowering import Constant, Result, Value
from iosfarm.frontends.rules.convolution import linear_layer
from iosfarm.frontends.rules.registry import Call, number, rule


@rule("matmul.default", "bmm.default", "mm.default")
def matmul(call: Call) -> Result:
    first, second = ("self", "other") if "matmul" in call.node.kind else ("self", "mat2")
    left, right = call.operand(first), call.operand(second)
    if isinstance(left, Value) and isinstance(right, Constant) and not right.batched:
        *outer, inputs, outputs = (1, *right.tensor.shape)
        if right.tensor.dim() > 1 and right.tensor.dim() <= left.rank and math.prod(outer) == 1:
            return linear_layer(call, left, right.tensor.reshape(inputs, outputs).t(), None)
    rank = len(call.type.shape)
    values = []
    for operand in (left, right):
        if isinstance(operand, Constant):
            operand = call.lowering.materialised(operand, rank)
        if not isinstance(operand, Value) or operand.rank != rank:
            raise NoCounterpart("a product of different ranks")
        values.append(operand)
    if values[0].axis is None or values[0].axis != values[1].axis or values[0].axis >= rank - 2:
        raise NoCounterpart("the batch is in different places, or summed over")
    return call.lowering.add("matmul", values)


@rule(
    "scaled_dot_product_attention.default",
    "_scaled_dot_product_flash_attention_for_cpu.default",
    "_scaled_dot_product_efficient_attention.default",
)
def attention(call: Call) -> Result:
    if call["dropout_p"]:
        raise call.lowering.fail(call.node, "attention with dropout", "export the module after .eval()")
    if call.get("enable_gqa"):
        raise NoCounterpart("attention with grouped queries")
    call.only_first()
    inputs = [call.value(name) for name in ("query", "key", "value")]
    mask = next((call[name] for name in ("attn_mask", "attn_bias") if call.get(name) is not None), None)
    if mask is not None:
        found = call.lowering.value(mask)
        if isinstance(found, Constant):
            if not found.tensor.is_floating_point():
                raise NoCounterpart("a mask of truth values")
            found = call.lowering.materialised(found, inputs[0].rank)
        if not isinstance(found, Value):
            raise NoCounterpart("a mask that is no plain tensor")
        inputs.append(found)
    if len({value.axis for value in inputs}) > 1 or inputs[0].axis in (inputs[0].rank - 1, inputs[0].rank - 2, None):
        raise NoCounterpart("the batch is in different places")
    scale = 0.0 if call["scale"] is None else number(call["scale"])
    found = call.lowering.add("attention", inputs, scale=scale, causal=bool(call["is_causal"]))
    return [found] if isinstance(call.node.types, list) else found
