"""The compilations that stand for all: of each kernel the ones that need most, in every element type."""

from __future__ import annotations

from collections.abc import Iterator

from iosfarm.ir.nodes import Operator
from iosfarm.ir.operators import ACTIVATIONS, Attribute, Shape, spec
from iosfarm.ir.operators.elementwise import UNARY
from iosfarm.kernels.cuda import catalogue
from iosfarm.kernels.cuda.catalogue import Launch
from iosfarm.kernels.cuda.catalogue.convolutions import Convolution, convolution, separable
from iosfarm.kernels.cuda.catalogue.tiling import TILES, Tiling, tensor_tiles

Variant = tuple[str, tuple[str, ...]]
"""A source and the options that it is compiled with."""

LARGE: Shape = (8, 64, 112, 112)
ODD: Shape = (8, 63, 112, 112)
SMALL: Shape = (1, 64, 14, 14)
_DEPTHWISE: dict[str, Attribute] = {"out_channels": 64, "groups": 64}

_OPERATORS: list[tuple[str, dict[str, Attribute], list[Shape]]] = [
    ("conv2d", {**_DEPTHWISE, "kernel": (7, 7), "padding": (3, 3), "activation": "relu"}, [LARGE]),
    ("conv2d", {**_DEPTHWISE, "kernel": (5, 5), "stride": (2, 2)}, [LARGE]),
    ("conv2d", {**_DEPTHWISE, "kernel": (3, 3)}, [SMALL]),
    ("conv2d", {**_DEPTHWISE, "kernel": (3, 3), "dilation": (2, 2)}, [SMALL]),
    ("max_pool", {"kernel": (3, 3), "stride": (2, 2)}, [LARGE]),
    ("avg_pool", {"kernel": (3, 3)}, [LARGE]),
    ("avg_pool", {"kernel": (4, 4)}, [SMALL]),
    ("adaptive_avg_pool", {"output_size": (6, 6)}, [LARGE]),
    ("adaptive_max_pool", {"output_size": (6, 6)}, [ODD]),
    ("global_avg_pool", {}, [LARGE]),
    ("add", {"activation": "relu"}, [LARGE] * 2),
    ("mul", {}, [LARGE] * 8),
    ("mul", {"activation": "relu"}, [LARGE, (8, 64, 1, 1)]),
    ("batch_norm", {"activation": "relu"}, [LARGE]),
    ("softmax", {}, [(8, 1000)]),
    ("concat", {}, [LARGE] * 8),
    ("concat", {}, [ODD] * 3),
    ("slice", {"start": 0, "stop": 32}, [LARGE]),
    ("flatten", {}, [LARGE]),
    ("pad", {"padding": (1, 1, 1, 1)}, [LARGE]),
    ("resize", {"size": (56, 56)}, [LARGE]),
    ("resize", {"size": (56, 56), "mode": "bilinear"}, [LARGE]),
    ("linear", {"out_features": 1000}, [(8, 2048)]),
    ("conv_transpose2d", {"out_channels": 64, "kernel": (4, 4), "stride": (2, 2)}, [LARGE]),
    ("matmul", {}, [(8, 12, 197, 64), (8, 12, 64, 197)]),
    ("attention", {}, [(8, 12, 197, 64)] * 3),
    ("layer_norm", {"shape": (768,)}, [(8, 197, 768)]),
    ("group_norm", {"groups": 8, "activation": "silu"}, [LARGE]),
    ("local_response_norm", {"size": 5}, [LARGE]),
    ("reduce", {"axes": (2, 3)}, [LARGE]),
    ("reduce", {"axes": (-1,), "function": "max"}, [(8, 197, 768)]),
    ("transpose", {"axes": (0, 2, 1, 3)}, [LARGE]),
    ("reshape", {"shape": (-1, 64, 112 * 112)}, [LARGE]),
    ("div", {}, [LARGE] * 2),
    ("prelu", {}, [LARGE]),
    ("log_softmax", {}, [(8, 1000)]),
    ("power", {"exponent": 0.5}, [LARGE]),
    ("clamp", {"min": 0.0}, [LARGE]),
]


def variants(dtype: str) -> list[Variant]:
    """What to compile for one element type."""
    found = [(launch.source, launch.options) for launch in _launches(dtype)]
    # The clock has no elements.
    return [*dict.fromkeys(found), *([("stamp.cu", ())] if dtype == "float32" else [])]


def _launches(dtype: str) -> Iterator[Launch]:
    for kind, attributes, shapes in _OPERATORS:
        op = Operator(kind, kind, (), spec(kind).normalise(attributes, kind))
        yield from catalogue.launches(op, shapes, dtype)
    for kind in ACTIVATIONS if dtype == "float32" else ("gelu",):
        yield from catalogue.launches(Operator(kind, kind, (), spec(kind).normalise({}, kind)), [LARGE], dtype)
    for function in UNARY if dtype == "float32" else ("mish",):
        op = Operator("unary", "unary", (), spec("unary").normalise({"function": function}, "unary"))
        yield from catalogue.launches(op, [LARGE], dtype)
    yield from _products(dtype)


def _products(dtype: str) -> Iterator[Launch]:
    """The matrix products, which take longest to compile: all of float32, of the half types what may differ."""
    whole = dtype == "float32"
    tiles = TILES if whole else TILES[:1] if dtype == "float16" else TILES[1:2]
    depthwise = Convolution(LARGE, LARGE, (5, 5), padding=(2, 2), groups=64)
    for tile in tiles:
        wide = Convolution(LARGE, LARGE, (3, 3), padding=(1, 1), activation=1)
        yield from convolution(wide, dtype, True, Tiling(tile, 2 if tile == TILES[-1] else 1))
        yield from separable(depthwise, Convolution(LARGE, LARGE), dtype, "relu", False, tile)
    for tile in tensor_tiles(dtype) if dtype == "float16" else tensor_tiles(dtype)[:1]:
        for shape in (LARGE, ODD) if tile.m == 128 and dtype == "float16" else (LARGE,):
            wide = Convolution(shape, LARGE, (3, 3), padding=(1, 1), activation=1)
            yield from convolution(wide, dtype, True, Tiling(tile, 1))
        yield from separable(depthwise, Convolution(LARGE, LARGE), dtype, "relu", False, tile)
    if whole:
        odd = Convolution(ODD, LARGE, (3, 3), padding=(1, 1))
        yield from convolution(odd, dtype, False, Tiling(TILES[0], 1))
        smooth = Convolution(LARGE, LARGE, activation=1 + ACTIVATIONS.index("gelu"))
        yield from convolution(smooth, dtype, False, Tiling(TILES[0], 1))
