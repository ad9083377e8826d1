"""Operators and the corners of their attributes: one table for the oracle's own tests and for every runtime's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from iosfarm.ir.builder import GraphBuilder
from iosfarm.ir.graph import Graph
from iosfarm.ir.key import canonical_stage
from iosfarm.ir.operators import ACTIVATIONS, FUSED_ACTIVATIONS, Attribute, Shape
from iosfarm.ir.operators.elementwise import UNARY
from iosfarm.ir.stage import Stage
from iosfarm.kernels.runtime import Array


@dataclass(frozen=True)
class Case:
    """One operator on inputs of these shapes, without the batch."""

    name: str
    kind: str
    inputs: tuple[Shape, ...]
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    batch: int = 1

    def graph(self) -> Graph:
        """The operator as a network of its own."""
        b = GraphBuilder(self.name)
        values = [b.input(shape) for shape in self.inputs]
        return b.build(b.operator(self.kind, values, **self.attributes)).bind(batch=self.batch)

    def stage(self, layout: str) -> Stage:
        """The operator as a stage of its own."""
        return canonical_stage(self.graph(), [[0]], layout=layout).stage


def _conv(name: str, channels: int, size: tuple[int, int], batch: int = 1, **attributes: Attribute) -> Case:
    return Case(f"conv2d-{name}", "conv2d", ((channels, *size),), attributes, batch)


_CONVOLUTIONS = (
    _conv("1x1", 16, (7, 9), out_channels=8, kernel=(1, 1)),
    _conv("3x3-padded", 8, (9, 7), out_channels=12, kernel=(3, 3), padding=(1, 1)),
    _conv("no-bias", 8, (9, 7), out_channels=12, kernel=(3, 3), bias=False),
    _conv("stride", 6, (11, 10), out_channels=5, kernel=(3, 3), stride=(2, 3), padding=(1, 0)),
    _conv("dilation", 6, (13, 12), out_channels=4, kernel=(3, 2), dilation=(2, 3), padding=(2, 1)),
    _conv("groups", 12, (8, 8), out_channels=18, kernel=(3, 3), groups=3),
    _conv("depthwise", 16, (10, 9), out_channels=16, kernel=(5, 5), groups=16, padding=(2, 2)),
    _conv("depthwise-stride", 16, (9, 9), out_channels=32, kernel=(3, 3), groups=16, stride=(2, 2)),
    _conv("1x7", 8, (9, 9), out_channels=8, kernel=(1, 7), padding=(0, 3)),
    _conv("7x1-batch", 8, (9, 9), 3, out_channels=8, kernel=(7, 1), padding=(3, 0)),
    _conv("1-pixel", 32, (1, 1), out_channels=10, kernel=(1, 1)),
    *(
        _conv(f"fused-{a}", 8, (6, 6), 2, out_channels=8, kernel=(3, 3), activation=a)
        for a in FUSED_ACTIVATIONS
        if a != "none"
    ),
)

_EACH_POOL = tuple(
    Case(f"{kind}-{name}", kind, ((6, 11, 10),), attributes, batch)
    for kind in ("max_pool", "avg_pool")
    for name, batch, attributes in (
        ("plain", 1, {"kernel": (3, 3)}),
        ("padded", 2, {"kernel": (3, 3), "stride": (1, 1), "padding": (1, 1)}),
        ("stride", 1, {"kernel": (3, 2), "stride": (2, 1), "padding": (1, 0)}),
        ("ceil", 1, {"kernel": (3, 3), "stride": (2, 2), "ceil_mode": True}),
        ("ceil-padded", 2, {"kernel": (2, 3), "stride": (3, 2), "padding": (1, 1), "ceil_mode": True}),
    )
)

_POOLS = (
    *_EACH_POOL,
    Case(
        "avg_pool-without-padding",
        "avg_pool",
        ((6, 11, 10),),
        {"kernel": (3, 3), "stride": (1, 1), "padding": (1, 1), "count_include_pad": False},
    ),
    Case(
        "avg_pool-ceil-without-padding",
        "avg_pool",
        ((6, 11, 10),),
        {"kernel": (3, 3), "stride": (2, 2), "padding": (1, 1), "ceil_mode": True, "count_include_pad": False},
        2,
    ),
    Case("global_avg_pool", "global_avg_pool", ((12, 7, 5),), {}, 2),
    Case("global_max_pool", "global_max_pool", ((12, 7, 5),), {}, 2),
    Case("adaptive_avg_pool", "adaptive_avg_pool", ((12, 10, 7),), {"output_size": (6, 3)}),
    Case("adaptive_avg_pool-larger", "adaptive_avg_pool", ((4, 3, 3),), {"output_size": (5, 7)}, 2),
    Case("adaptive_max_pool", "adaptive_max_pool", ((12, 10, 7),), {"output_size": (6, 3)}),
)

_EACH_COMBINATION = tuple(
    Case(f"{kind}-{name}", kind, inputs, attributes, batch)
    for kind in ("add", "mul")
    for name, batch, inputs, attributes in (
        ("two", 1, ((8, 5, 6), (8, 5, 6)), {}),
        ("three", 2, ((8, 5, 6), (8, 5, 6), (8, 5, 6)), {"activation": "relu"}),
        ("one", 1, ((8, 5, 6),), {"activation": "relu"}),
        ("channel-scale", 2, ((8, 5, 6), (8, 1, 1)), {}),
        ("scale-first", 2, ((8, 1, 1), (8, 5, 6)), {"activation": "relu"}),
        ("features", 3, ((10,), (10,)), {}),
    )
)

_COMBINATIONS = (
    *_EACH_COMBINATION,
    Case("concat", "concat", ((3, 5, 6), (8, 5, 6), (5, 5, 6)), {}, 2),
    Case("concat-features", "concat", ((3,), (4,)), {}, 2),
    Case("concat-one", "concat", ((3, 5, 6),)),
)

_LAYOUT = (
    Case("slice", "slice", ((8, 5, 6),), {"start": 3, "stop": 7}, 2),
    Case("slice-features", "slice", ((9,),), {"start": 0, "stop": 4}, 2),
    Case("flatten", "flatten", ((6, 4, 5),), {}, 2),
    Case("pad", "pad", ((4, 6, 7),), {"padding": (1, 2, 3, 0)}, 2),
    Case("pad-value", "pad", ((4, 6, 7),), {"padding": (1, 2, 3, 0), "value": -1.5}),
    Case("pad-crop", "pad", ((4, 6, 7),), {"padding": (-1, -2, 0, -3)}),
    Case("pad-crop-and-grow", "pad", ((4, 6, 7),), {"padding": (-1, 2, 3, -3)}),
    Case("pad-reflect", "pad", ((4, 6, 7),), {"padding": (2, 1, 3, 0), "mode": "reflect"}, 2),
    Case("pad-replicate", "pad", ((4, 6, 7),), {"padding": (2, 1, 3, 0), "mode": "replicate"}),
    Case("resize-nearest-up", "resize", ((4, 5, 6),), {"size": (10, 15)}),
    Case("resize-nearest-down", "resize", ((4, 9, 10),), {"size": (4, 3)}, 2),
    Case("resize-bilinear-up", "resize", ((4, 5, 6),), {"size": (10, 13), "mode": "bilinear"}, 2),
    Case("resize-bilinear-down", "resize", ((4, 9, 10),), {"size": (4, 3), "mode": "bilinear"}),
    Case(
        "resize-bilinear-corners",
        "resize",
        ((4, 5, 6),),
        {"size": (9, 4), "mode": "bilinear", "align_corners": True},
    ),
)

_OTHERS = (
    *(Case(kind, kind, ((6, 5, 4),), {}, 2) for kind in ACTIVATIONS),
    Case("leaky_relu-slope", "leaky_relu", ((6, 5, 4),), {"negative_slope": 0.2}),
    Case("elu-alpha", "elu", ((6, 5, 4),), {"alpha": 0.7}),
    Case("batch_norm", "batch_norm", ((8, 5, 6),), {}, 2),
    Case("batch_norm-relu", "batch_norm", ((8, 5, 6),), {"eps": 0.1, "activation": "relu"}),
    Case("linear", "linear", ((20,),), {"out_features": 7}, 3),
    Case("linear-no-bias", "linear", ((20,),), {"out_features": 7, "bias": False, "activation": "sigmoid"}),
    Case("softmax-features", "softmax", ((11,),), {}, 3),
    Case("softmax-channels", "softmax", ((6, 4, 5),), {"axis": 1}, 2),
    Case("dropout", "dropout", ((6, 4, 5),), {"rate": 0.3}, 2),
)

_TRANSPOSED = tuple(
    Case(f"conv_transpose2d-{name}", "conv_transpose2d", ((6, 5, 4),), attributes, batch)
    for name, batch, attributes in (
        ("plain", 1, {"out_channels": 4, "kernel": (2, 2), "stride": (2, 2)}),
        ("padded", 2, {"out_channels": 4, "kernel": (4, 3), "stride": (2, 1), "padding": (1, 1), "bias": False}),
        ("odd", 1, {"out_channels": 4, "kernel": (3, 3), "stride": (2, 2), "padding": (1, 1), "output_padding": (1, 0),
                    "activation": "relu"}),
        ("groups", 1, {"out_channels": 8, "kernel": (3, 3), "dilation": (2, 1), "groups": 2}),
    )
)  # fmt: skip

_TENSORS = (
    Case("linear-rows", "linear", ((5, 20),), {"out_features": 7}, 2),
    Case("linear-images", "linear", ((3, 4, 10),), {"out_features": 6, "bias": False}, 2),
    Case("matmul", "matmul", ((4, 5), (5, 6)), {}, 2),
    Case("matmul-heads", "matmul", ((3, 4, 5), (3, 5, 2)), {}, 2),
    Case("attention", "attention", ((2, 6, 4), (2, 6, 4), (2, 6, 4)), {}, 2),
    Case("attention-cross", "attention", ((2, 3, 4), (2, 6, 4), (2, 6, 5)), {"scale": 0.7}),
    Case("attention-mask", "attention", ((2, 6, 4), (2, 6, 4), (2, 6, 4), (1, 6, 6)), {}, 2),
    Case("attention-causal", "attention", ((6, 4), (6, 4), (6, 4)), {"causal": True}),
    Case("layer_norm", "layer_norm", ((5, 8),), {"shape": (8,)}, 2),
    Case("layer_norm-two-axes", "layer_norm", ((3, 5, 4),), {"shape": (5, 4), "eps": 0.1, "activation": "gelu"}),
    Case("group_norm", "group_norm", ((6, 5, 4),), {"groups": 3}, 2),
    Case("group_norm-each", "group_norm", ((6, 5, 4),), {"groups": 6, "eps": 0.1, "activation": "relu"}),
    Case("local_response_norm", "local_response_norm", ((9, 4, 3),), {"size": 5, "alpha": 0.3, "k": 2.0}, 2),
    Case("local_response_norm-even", "local_response_norm", ((5, 4, 3),), {"size": 4, "beta": 0.5}),
    Case("reduce-mean", "reduce", ((5, 6, 4),), {"axes": (1, 3)}, 2),
    Case("reduce-sum", "reduce", ((5, 6),), {"function": "sum", "axes": (-1,), "keepdims": True}, 2),
    Case("reduce-max", "reduce", ((5, 6, 4),), {"function": "max", "axes": (2,)}),
    Case("reduce-min", "reduce", ((5, 6, 4),), {"function": "min", "axes": (1, 2), "keepdims": True}),
    Case("reduce-norm", "reduce", ((5, 6, 4),), {"function": "norm", "axes": (-1,), "keepdims": True}),
    Case("reshape", "reshape", ((12, 4, 5),), {"shape": (-1, 3, 4, 20)}, 2),
    Case("reshape-windows", "reshape", ((4, 6, 8),), {"shape": (-1, 6, 2)}, 2),
    Case("transpose", "transpose", ((3, 4, 5),), {"axes": (0, 2, 3, 1)}, 2),
    Case("transpose-batch", "transpose", ((3, 4),), {"axes": (1, 0, 2)}, 2),
    Case("constant", "constant", ((3, 4),), {"shape": (2, 5)}, 2),
    Case("slice-axis", "slice", ((3, 8, 5),), {"start": 1, "stop": 7, "axis": 2}, 2),
    Case("slice-step", "slice", ((3, 8, 7),), {"start": 1, "stop": 7, "axis": -1, "step": 3}),
    Case("concat-axis", "concat", ((3, 5), (2, 5), (4, 5)), {"axis": 1}, 2),
    Case("concat-last", "concat", ((3, 2, 5), (3, 2, 1)), {"axis": 3}, 2),
)

_POSITIVE = ("log", "sqrt", "rsqrt")

_NUMBERS = (
    *(
        Case(f"{kind}-{name}", kind, inputs, {"activation": activation}, batch)
        for kind in ("sub", "div")
        for name, batch, inputs, activation in (
            ("two", 2, ((8, 5, 6), (8, 5, 6)), "none"),
            ("channels", 1, ((8, 5, 6), (8, 1, 1)), "relu"),
            ("first", 1, ((8, 1, 1), (8, 5, 6)), "none"),
        )
    ),
    *(
        Case(f"{kind}-{name}", kind, inputs, {"shape": shape, "activation": activation}, 2)
        for kind in ("scale", "shift")
        for name, inputs, shape, activation in (
            ("channels", ((8, 5, 6),), (8, 1, 1), "relu"),
            ("features", ((7, 6),), (6,), "none"),
            ("positions", ((7, 6),), (1, 7, 6), "none"),
        )
    ),
    Case("affine", "affine", ((6, 5, 4),), {"scale": -2.5, "offset": 0.5, "activation": "relu"}, 2),
    Case("affine-scale", "affine", ((6, 5),), {"scale": 0.125}),
    Case("affine-offset", "affine", ((6, 5, 4),), {"offset": -3.0}),
    Case("clamp", "clamp", ((6, 5, 4),), {"min": -0.5, "max": 1.5}, 2),
    Case("clamp-below", "clamp", ((6, 5),), {"min": 0.25}),
    Case("clamp-nothing", "clamp", ((6, 5),), {}),
    Case("power", "power", ((6, 5, 4),), {"exponent": 2.0}, 2),
    *(Case(f"unary-{name}", "unary", ((6, 5, 4),), {"function": name}) for name in UNARY if name not in _POSITIVE),
    Case("prelu", "prelu", ((6, 5, 4),), {}, 2),
    Case("log_softmax", "log_softmax", ((6, 5),), {"axis": 1}, 2),
)

_PROGRAM = """{"flops": 9, "inputs": [[{"batch": 1}, 6, 5]], "nodes": [
  ["aten.topk.default", [{"input": 0}, 3, 1], {}],
  ["aten.mul.Tensor", [{"node": 0, "item": 0}, {"parameter": 0}], {}]],
  "output": {"node": 1}, "parameters": [[5]], "shape": [{"batch": 1}, 3, 5]}"""

_OPAQUE = (Case("opaque", "opaque", ((6, 5),), {"program": _PROGRAM}, 2),)

POSITIVE = tuple(Case(f"unary-{name}", "unary", ((6, 5, 4),), {"function": name}) for name in _POSITIVE)
"""Operators that take positive numbers only."""

CASES = (*_CONVOLUTIONS, *_POOLS, *_COMBINATIONS, *_LAYOUT, *_OTHERS, *_TRANSPOSED, *_TENSORS, *_NUMBERS, *_OPAQUE)


def random_parameter(name: str, shape: Shape, rng: np.random.Generator) -> Array:
    """Values that keep activations near 1 in size; a variance is positive."""
    if name == "running_var":
        return rng.uniform(0.5, 2.0, shape).astype(np.float32)
    scale = 1 / math.sqrt(math.prod(shape[1:])) if len(shape) > 1 else 1.0
    return (rng.standard_normal(shape) * scale).astype(np.float32)


def stage_weights(stage: Stage, rng: np.random.Generator) -> list[dict[str, Array]]:
    """Weights for each operator of a stage, as `Runtime.prepare` takes them."""
    return [
        {name: random_parameter(name, shape, rng) for name, shape in stage.parameters(operator).items()}
        for operator in stage.operators
    ]


def graph_weights(graph: Graph, rng: np.random.Generator) -> dict[str, Array]:
    """Weights of a whole network, as `Runtime.prepare_schedule` takes them."""
    return {
        f"{operator.name}.{name}": random_parameter(name, shape, rng)
        for operator in graph.operators
        for name, shape in graph.parameters(operator).items()
    }


def random_inputs(shapes: tuple[Shape, ...], rng: np.random.Generator) -> list[Array]:
    """Normal values, float32."""
    return [rng.standard_normal(shape).astype(np.float32) for shape in shapes]


def relative_error(actual: Array, expected: Array) -> float:
    """max |a - b| / max |b|; infinite where shapes differ or a value is not a number."""
    if actual.shape != expected.shape or not np.isfinite(actual).all():
        return math.inf
    scale = float(np.abs(expected).max())
    return float(np.abs(actual.astype(np.float64) - expected).max()) / (scale or 1.0)
