"""The float64 reference against a second source: plain formulas in numpy, loops included."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from iosfarm.ir.operators import SPECS
from iosfarm.kernels.reference import run_graph, run_stage
from iosfarm.kernels.torch_operators import BINDERS, bind

from numerics_cases import (  # isort: skip - beside this file
    CASES,
    POSITIVE,
    Case,
    random_inputs,
    relative_error,
    stage_weights,
)

Values = NDArray[np.float64]
Parameters = Mapping[str, Values]
Formula = Callable[[Mapping[str, Any], Parameters, Sequence[Values]], Values]

erf = np.vectorize(math.erf)

ACTIVATIONS: dict[str, Callable[[Values], Values]] = {
    "none": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": np.tanh,
    "silu": lambda x: x / (1 + np.exp(-x)),
    "gelu": lambda x: x * (1 + erf(x / math.sqrt(2))) / 2,
    "hard_sigmoid": lambda x: np.clip(x / 6 + 0.5, 0, 1),
    "hard_swish": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
}


def windows(x: Values, a: Mapping[str, Any], size: Sequence[int], fill: float) -> Values:
    """(N, C, out height, out width, kernel height, kernel width); what is outside is `fill`."""
    kernel, stride, padding = a["kernel"], a["stride"], a["padding"]
    dilation = a.get("dilation", (1, 1))
    result = np.full((*x.shape[:2], *size, *kernel), fill)
    for r in range(size[0]):
        for c in range(size[1]):
            for i in range(kernel[0]):
                for j in range(kernel[1]):
                    y = r * stride[0] - padding[0] + i * dilation[0]
                    z = c * stride[1] - padding[1] + j * dilation[1]
                    if 0 <= y < x.shape[2] and 0 <= z < x.shape[3]:
                        result[:, :, r, c, i, j] = x[:, :, y, z]
    return result


def output_size(x: Values, a: Mapping[str, Any]) -> list[int]:
    size = []
    for axis in (0, 1):
        room = (
            x.shape[2 + axis] + 2 * a["padding"][axis] - a.get("dilation", (1, 1))[axis] * (a["kernel"][axis] - 1) - 1
        )
        steps = room / a["stride"][axis]
        steps = math.ceil(steps) if a.get("ceil_mode") else math.floor(steps)
        if a.get("ceil_mode") and steps * a["stride"][axis] >= x.shape[2 + axis] + a["padding"][axis]:
            steps -= 1
        size.append(steps + 1)
    return size


def conv2d(a: Mapping[str, Any], w: Parameters, inputs: Sequence[Values]) -> Values:
    x = inputs[0]
    taken = windows(x, a, output_size(x, a), 0.0)
    groups, out = a["groups"], a["out_channels"]
    share_in, share_out = x.shape[1] // groups, out // groups
    pieces = []
    for g in range(groups):
        part = taken[:, g * share_in : (g + 1) * share_in]
        weight = w["weight"][g * share_out : (g + 1) * share_out]
        pieces.append(np.einsum("nchwij,ocij->nohw", part, weight))
    result = np.concatenate(pieces, 1)
    return result + w["bias"][None, :, None, None] if a["bias"] else result


def avg_pool(a: Mapping[str, Any], _: Parameters, inputs: Sequence[Values]) -> Values:
    x = inputs[0]
    size = output_size(x, a)
    total = windows(x, a, size, 0.0).sum((4, 5))
    # What counts: elements of the input, or of the input and its padding, but never what `ceil_mode` adds.
    room = np.ones_like(x)
    b = dict(a)
    if a["count_include_pad"]:
        (top, left), b["padding"] = a["padding"], (0, 0)
        room = np.pad(room, ((0, 0), (0, 0), (top, top), (left, left)), constant_values=1.0)
    return total / windows(room, b, size, 0.0).sum((4, 5))


def adaptive(reduce: Callable[..., Any]) -> Formula:
    def formula(a: Mapping[str, Any], _: Parameters, inputs: Sequence[Values]) -> Values:
        x, (rows, columns) = inputs[0], a["output_size"]
        result = np.empty((*x.shape[:2], rows, columns))
        height, width = x.shape[2:]
        for r in range(rows):
            for c in range(columns):
                top, bottom = r * height // rows, -(-(r + 1) * height // rows)
                left, right = c * width // columns, -(-(c + 1) * width // columns)
                result[:, :, r, c] = reduce(x[:, :, top:bottom, left:right], axis=(2, 3))
        return result

    return formula


def batch_norm(a: Mapping[str, Any], w: Parameters, inputs: Sequence[Values]) -> Values:
    column = {name: values[None, :, None, None] for name, values in w.items()}
    scaled = (inputs[0] - column["running_mean"]) / np.sqrt(column["running_var"] + a["eps"])
    return scaled * column["weight"] + column["bias"]


def linear(a: Mapping[str, Any], w: Parameters, inputs: Sequence[Values]) -> Values:
    return inputs[0] @ w["weight"].T + (w["bias"] if a["bias"] else 0)


def softmax(a: Mapping[str, Any], _: Parameters, inputs: Sequence[Values]) -> Values:
    powers = np.exp(inputs[0])
    return powers / powers.sum(a["axis"], keepdims=True)


def pad(a: Mapping[str, Any], _: Parameters, inputs: Sequence[Values]) -> Values:
    left, right, top, bottom = a["padding"]
    x = inputs[0]
    mode = {"constant": "constant", "reflect": "reflect", "replicate": "edge"}[a["mode"]]
    extra = {"constant_values": a["value"]} if mode == "constant" else {}
    before = [(0, 0), (0, 0), (max(top, 0), max(bottom, 0)), (max(left, 0), max(right, 0))]
    grown = np.pad(x, before, mode=mode, **extra)  # type: ignore[call-overload]
    rows, columns = grown.shape[2:]
    return grown[:, :, max(-top, 0) : rows - max(-bottom, 0), max(-left, 0) : columns - max(-right, 0)]  # type: ignore[no-any-return]


def resize(a: Mapping[str, Any], _: Parameters, inputs: Sequence[Values]) -> Values:
    x = inputs[0]
    for axis, size in ((2, a["size"][0]), (3, a["size"][1])):
        length = x.shape[axis]
        if a["mode"] == "nearest":
            x = np.take(x, [i * length // size for i in range(size)], axis)
            continue
        if a["align_corners"]:
            at = np.arange(size) * ((length - 1) / max(1, size - 1))
        else:
            at = np.maximum((np.arange(size) + 0.5) * (length / size) - 0.5, 0)
        low = np.floor(at).astype(int)
        high = np.minimum(low + 1, length - 1)
        share = (at - low).reshape([-1 if i == axis else 1 for i in range(4)])
        x = np.take(x, low, axis) * (1 - share) + np.take(x, high, axis) * share
    return x


def folded(combine: Callable[[Values, Values], Values]) -> Formula:
    def formula(_: Mapping[str, Any], __: Parameters, inputs: Sequence[Values]) -> Values:
        result = inputs[0]
        for other in inputs[1:]:
            result = combine(result, other)
        return result

    return formula


def conv_transpose2d(a: Mapping[str, Any], w: Parameters, inputs: Sequence[Values]) -> Values:
    """Every input element adds the kernel, times itself, to the output."""
    x, weight = inputs[0], w["weight"]
    groups, out = a["groups"], a["out_channels"]
    size = [
        (x.shape[2 + i] - 1) * a["stride"][i] + a["dilation"][i] * (a["kernel"][i] - 1) + 1 + a["output_padding"][i]
        for i in (0, 1)
    ]
    whole = np.zeros((x.shape[0], out, *size))
    share_in, share_out = x.shape[1] // groups, out // groups
    for g in range(groups):
        taken = x[:, g * share_in : (g + 1) * share_in]
        for i in range(a["kernel"][0]):
            for j in range(a["kernel"][1]):
                piece = np.einsum("nchw,co->nohw", taken, weight[g * share_in : (g + 1) * share_in, :, i, j])
                rows = slice(i * a["dilation"][0], i * a["dilation"][0] + x.shape[2] * a["stride"][0], a["stride"][0])
                columns = slice(
                    j * a["dilation"][1], j * a["dilation"][1] + x.shape[3] * a["stride"][1], a["stride"][1]
                )
                whole[:, g * share_out : (g + 1) * share_out, rows, columns][:, :, : x.shape[2], : x.shape[3]] += piece
    (top, left), (height, width) = a["padding"], size
    result = whole[:, :, top : height - top, left : width - left]
    return result + w["bias"][None, :, None, None] if a["bias"] else result


def attention(a: Mapping[str, Any], _: Parameters, inputs: Sequence[Values]) -> Values:
    query, key, value = inputs[:3]
    logits = query @ key.swapaxes(-1, -2) * (a["scale"] or 1 / math.sqrt(query.shape[-1]))
    if len(inputs) == 4:
        logits = logits + inputs[3]
    if a["causal"]:
        logits = np.where(np.tri(*logits.shape[-2:], dtype=bool), logits, -np.inf)
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True) @ value


def standardised(x: Values, axes: tuple[int, ...], eps: float) -> Values:
    """No mean, unit variance over axes."""
    centred = x - x.mean(axes, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axes, keepdims=True) + eps)


def layer_norm(a: Mapping[str, Any], w: Parameters, inputs: Sequence[Values]) -> Values:
    axes = tuple(range(-len(a["shape"]), 0))
    return standardised(inputs[0], axes, a["eps"]) * w["weight"] + w["bias"]


def group_norm(a: Mapping[str, Any], w: Parameters, inputs: Sequence[Values]) -> Values:
    x = inputs[0]
    apart = x.reshape(x.shape[0], a["groups"], -1)
    column = (slice(None), *(None,) * (x.ndim - 2))
    return standardised(apart, (2,), a["eps"]).reshape(x.shape) * w["weight"][column] + w["bias"][column]


def local_response_norm(a: Mapping[str, Any], _: Parameters, inputs: Sequence[Values]) -> Values:
    """Sums of squares over `size` channels, of which half come before."""
    x, size = inputs[0], a["size"]
    total = np.zeros_like(x)
    for c in range(x.shape[1]):
        first = max(0, c - size // 2)
        total[:, c] = (x[:, first : c - size // 2 + size] ** 2).sum(1)
    return x / (a["k"] + a["alpha"] / size * total) ** a["beta"]


def reduce(a: Mapping[str, Any], _: Parameters, inputs: Sequence[Values]) -> Values:
    reducers = {"mean": np.mean, "sum": np.sum, "max": np.max, "min": np.min}
    x, axes, keep = inputs[0], a["axes"], a["keepdims"]
    if a["function"] == "norm":
        return np.sqrt((x**2).sum(axes, keepdims=keep))  # type: ignore[no-any-return]
    return reducers[a["function"]](x, axis=axes, keepdims=keep)  # type: ignore[no-any-return, operator]


def sliced(a: Mapping[str, Any], _: Parameters, inputs: Sequence[Values]) -> Values:
    axis = a.get("axis", 1) % inputs[0].ndim
    return inputs[0][(*(slice(None),) * axis, slice(a["start"], a["stop"], a.get("step", 1)))]


def opaque(_: Mapping[str, Any], w: Parameters, inputs: Sequence[Values]) -> Values:
    """The program of the case: the three largest of an axis, times a weight."""
    return -np.sort(-inputs[0], 1)[:, :3] * w["p0"]


SOME: dict[str, Callable[[Values], Values]] = {
    "exp": np.exp,
    "log": np.log,
    "sqrt": np.sqrt,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "abs": np.abs,
    "reciprocal": lambda x: 1 / x,
    "erf": erf,
    "sin": np.sin,
    "cos": np.cos,
    "floor": np.floor,
    "ceil": np.ceil,
    "softplus": lambda x: np.log1p(np.exp(x)),
    "mish": lambda x: x * np.tanh(np.log1p(np.exp(x))),
    "selu": lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(x)),
    "softsign": lambda x: x / (1 + np.abs(x)),
    "log_sigmoid": lambda x: -np.log1p(np.exp(-x)),
    "gelu_tanh": lambda x: x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2,
}


def unary(function: Callable[[Values], Values]) -> Formula:
    return lambda _a, _w, inputs: function(inputs[0])


FORMULAS: dict[str, Formula] = {
    "conv2d": conv2d,
    "linear": linear,
    "batch_norm": batch_norm,
    "max_pool": lambda a, _, i: windows(i[0], a, output_size(i[0], a), -np.inf).max((4, 5)),
    "avg_pool": avg_pool,
    "global_max_pool": lambda _a, _w, i: i[0].max((2, 3), keepdims=True),
    "global_avg_pool": lambda _a, _w, i: i[0].sum((2, 3), keepdims=True) / (i[0].shape[2] * i[0].shape[3]),
    "adaptive_max_pool": adaptive(np.max),
    "adaptive_avg_pool": adaptive(np.mean),
    "add": folded(np.add),
    "mul": folded(np.multiply),
    **{name: unary(function) for name, function in ACTIVATIONS.items() if name != "none"},
    "leaky_relu": lambda a, _, i: np.where(i[0] > 0, i[0], a["negative_slope"] * i[0]),
    "elu": lambda a, _, i: np.where(i[0] > 0, i[0], a["alpha"] * np.expm1(i[0])),
    "softmax": softmax,
    "dropout": lambda _a, _w, i: i[0],
    "concat": lambda a, _, i: np.concatenate(i, a.get("axis", 1)),
    "slice": sliced,
    "flatten": lambda _a, _w, i: i[0].reshape(i[0].shape[0], -1),
    "pad": pad,
    "resize": resize,
    "conv_transpose2d": conv_transpose2d,
    "matmul": lambda _a, _w, i: i[0] @ i[1],
    "attention": attention,
    "layer_norm": layer_norm,
    "group_norm": group_norm,
    "local_response_norm": local_response_norm,
    "reduce": reduce,
    "sub": lambda _a, _w, i: i[0] - i[1],
    "div": lambda _a, _w, i: i[0] / i[1],
    "affine": lambda a, _, i: a["scale"] * i[0] + a["offset"],
    "scale": lambda _, w, i: i[0] * w["weight"],
    "shift": lambda _, w, i: i[0] + w["weight"],
    "clamp": lambda a, _, i: np.clip(i[0], a["min"], a["max"]),
    "power": lambda a, _, i: i[0] ** a["exponent"],
    "unary": lambda a, _, i: SOME[a["function"]](i[0]),
    "prelu": lambda _, w, i: np.where(i[0] > 0, i[0], w["weight"][:, None, None] * i[0]),
    "log_softmax": lambda a, _, i: i[0] - np.log(np.exp(i[0]).sum(a["axis"], keepdims=True)),
    "reshape": lambda a, _, i: i[0].reshape(a["shape"]),
    "transpose": lambda a, _, i: i[0].transpose(a["axes"]),
    "constant": lambda _, w, i: np.broadcast_to(w["value"], (i[0].shape[0], *w["value"].shape)),
    "opaque": opaque,
}


@pytest.mark.parametrize("case", [*CASES, *POSITIVE], ids=lambda case: case.name)
def test_reference_is_the_formula(case: Case) -> None:
    rng = np.random.default_rng(11)
    stage = case.stage("nhwc")
    weights, inputs = stage_weights(stage, rng), random_inputs(stage.inputs, rng)
    inputs = [3 * values for values in inputs]  # beyond the corners of the clipped activations
    if case in POSITIVE or case.kind == "div":
        inputs = [np.abs(values) + 0.1 for values in inputs]
    operator = next(stage.operators)
    exact = {name: values.astype(np.float64) for name, values in weights[0].items()}
    arguments = [inputs[-1 - r].astype(np.float64) for r in operator.references]
    expected = FORMULAS[case.kind](operator.attributes, exact, arguments)
    expected = ACTIVATIONS[str(operator.attributes.get("activation", "none"))](expected)
    (actual,) = run_stage(stage, weights, inputs)
    assert actual.dtype == np.float64
    assert relative_error(actual, expected) <= 1e-12


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_operators_leave_their_inputs_alone(case: Case) -> None:
    rng = np.random.default_rng(13)
    stage = case.stage("nhwc")
    operator = next(stage.operators)
    weights = {name: torch.from_numpy(values) for name, values in stage_weights(stage, rng)[0].items()}
    tensors = [torch.from_numpy(values) for values in random_inputs(stage.inputs, rng)]
    kept = [tensor.clone() for tensor in tensors]
    bind(operator.kind, operator.attributes, weights)(*(tensors[-1 - r] for r in operator.references))
    assert all(torch.equal(tensor, copy) for tensor, copy in zip(tensors, kept, strict=True))


@pytest.mark.parametrize("case", CASES[:3], ids=lambda case: case.name)
def test_graph_and_stage_agree(case: Case) -> None:
    rng = np.random.default_rng(5)
    stage, graph = case.stage("nhwc"), case.graph()
    weights, inputs = stage_weights(stage, rng), random_inputs(stage.inputs, rng)
    named = {f"{graph.operators[0].name}.{name}": values for name, values in weights[0].items()}
    (a,), (b,) = run_stage(stage, weights, inputs), run_graph(graph, named, inputs)
    np.testing.assert_array_equal(a, b)


def test_every_operator_is_executed_has_a_case_and_a_formula() -> None:
    assert set(BINDERS) == set(SPECS)
    assert {case.kind for case in CASES} == set(SPECS)
    assert set(FORMULAS) == set(SPECS)


def test_relative_error_tells_what_is_wrong() -> None:
    good = np.array([1.0, -4.0])
    assert relative_error(good + 0.4, good) == pytest.approx(0.1)
    assert relative_error(np.array([1.0, np.nan]), good) == math.inf
    assert relative_error(good[None], good) == math.inf
