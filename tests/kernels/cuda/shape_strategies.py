"""Operators and shapes as hypothesis draws them."""

from __future__ import annotations

from hypothesis import HealthCheck, assume, settings
from hypothesis import strategies as st
from operator_on_host import operator

from iosfarm.ir.errors import GraphError
from iosfarm.ir.nodes import Operator
from iosfarm.ir.operators import Attribute, Shape, spec

ANY = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

SEEDS = st.integers(0, 1000)

CHANNELS = st.sampled_from([1, 2, 3, 4, 6, 8, 12, 20])

SIZES = st.integers(1, 9)

BATCHES = st.integers(1, 3)

TF32 = 2e-3
"""Both factors are rounded to 10 bits of mantissa: a sum of few products is off by up to 2^-10 of them."""


def pairs(least: int, most: int) -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(st.integers(least, most), st.integers(least, most))


def valid(kind: str, shapes: list[Shape], **attributes: Attribute) -> Operator:
    """An operator, if there is one of these attributes on these shapes."""
    op = operator(kind, **attributes)
    try:
        spec(kind).infer(op.attributes, shapes)
    except GraphError:
        assume(False)
    return op


@st.composite
def images(draw: st.DrawFn) -> Shape:
    return draw(BATCHES), draw(CHANNELS), draw(SIZES), draw(SIZES)


@st.composite
def convolved(draw: st.DrawFn, *, depthwise: bool) -> tuple[Operator, Shape]:
    if depthwise:
        channels = groups = draw(CHANNELS.filter(lambda n: n > 1))
        out = channels * draw(st.sampled_from([1, 1, 2, 3]))
    else:
        groups = draw(st.sampled_from([1, 1, 1, 2, 3]))
        channels, out = groups * draw(CHANNELS), groups * draw(st.integers(1, 40))
    shape = draw(BATCHES), channels, draw(SIZES), draw(SIZES)
    kernel = draw(st.sampled_from([(3, 3), (5, 5), (7, 7), (1, 3)]) | pairs(1, 3)) if depthwise else draw(pairs(1, 3))
    return valid(
        "conv2d",
        [shape],
        out_channels=out,
        kernel=kernel,
        stride=draw(pairs(1, 3)),
        padding=draw(pairs(0, 3)),
        dilation=draw(st.just((1, 1)) | pairs(1, 2)),
        groups=groups,
        bias=draw(st.booleans()),
        activation=draw(st.sampled_from(["none", "relu"])),
    ), shape


def any_shape(least: int, most: int) -> st.SearchStrategy[Shape]:
    return st.lists(st.integers(1, 7), min_size=least, max_size=most).map(tuple)
