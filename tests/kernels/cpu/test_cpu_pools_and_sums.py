"""oneDNN's pools, sums, concatenations and products compute what torch does."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from iosfarm.ir.operators import FUSED_ACTIVATIONS
from iosfarm.kernels.cpu.operators.concatenation import Concatenation
from iosfarm.kernels.cpu.operators.convolution import prepared_convolution
from iosfarm.kernels.cpu.operators.onednn import PACKAGE, onednn
from iosfarm.kernels.cpu.operators.out_functions import OutFunction, prepared_elementwise
from iosfarm.kernels.cpu.operators.pooling import prepared_pool
from iosfarm.kernels.cpu.operators.prepared import Prepared, Source
from iosfarm.kernels.cpu.operators.primitive import Primitive
from iosfarm.kernels.torch_operators import bind

pytestmark = pytest.mark.skipif(onednn() is None, reason=f"{PACKAGE} is not installed")

PAIRS = st.tuples(st.integers(1, 4), st.integers(1, 4))


def image(*shape: int) -> torch.Tensor:
    """Normal values, always the same, channels last."""
    values = torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))
    return values.contiguous(memory_format=torch.channels_last)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(["max_pool", "avg_pool"]),
    PAIRS,
    PAIRS,
    st.tuples(st.integers(0, 2), st.integers(0, 2)),
    st.tuples(st.integers(0, 7), st.integers(0, 7)),
    st.booleans(),
    st.booleans(),
    st.sampled_from([(1, 1), (1, 16), (2, 3), (3, 37)]),
)
def test_any_pool(
    kind: str,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    beyond: tuple[int, int],
    ceil: bool,
    include: bool,
    images: tuple[int, int],
) -> None:
    assume(all(2 * p <= k for p, k in zip(padding, kernel, strict=True)))
    x = image(*images, *(k + b for k, b in zip(kernel, beyond, strict=True)))
    attributes = {
        "kernel": kernel,
        "stride": stride,
        "padding": padding,
        "ceil_mode": ceil,
        "count_include_pad": include,
    }
    expected = bind(kind, attributes, {})(x.double())
    prepared = prepared_pool(kind, attributes, tuple(x.shape), tuple(expected.shape), torch.float32)
    if prepared is None:
        assert ceil  # windows that begin or end beyond the padding
        return
    result = prepared(x)
    assert result.shape == expected.shape
    assert result.is_contiguous(memory_format=torch.channels_last)
    assert (result - expected).abs().max() <= 1e-6 * max(1.0, expected.abs().max())


@pytest.mark.parametrize("count", [2, 3, 7, 33, 34])
@pytest.mark.parametrize("activation", FUSED_ACTIVATIONS)
def test_sums_of_any_number(count: int, activation: str) -> None:
    inputs = [image(2, 5, 7, number + 1)[..., :1].expand(2, 5, 7, 3) for number in range(count)]
    inputs = [x.contiguous(memory_format=torch.channels_last) for x in inputs]
    attributes, shape = {"activation": activation}, (2, 5, 7, 3)
    function = bind("add", attributes, {})
    prepared = prepared_elementwise("add", attributes, [shape] * count, shape, function, torch.float32)
    if activation == "gelu":
        assert prepared is None
        return
    assert isinstance(prepared, OutFunction if count > 33 else Primitive)
    expected = function(*[x.double() for x in inputs])
    for threads in (1, 2):
        torch.set_num_threads(threads)
        assert (prepared(*inputs) - expected).abs().max() <= 1e-5 * max(1.0, expected.abs().max())


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(st.integers(1, 2), st.integers(1, 40), st.integers(1, 40)),
    st.tuples(st.integers(1, 6), st.integers(1, 6)),
    st.tuples(st.integers(0, 20), st.integers(0, 20)),
    st.sampled_from([name for name in FUSED_ACTIVATIONS if name != "gelu"]),
    st.booleans(),
)
def test_convolutions_of_pixels_write_into_a_part(
    sizes: tuple[int, int, int], size: tuple[int, int], around: tuple[int, int], activation: str, bias: bool
) -> None:
    batch, read, made = sizes
    x, generator = image(batch, read, *size), torch.Generator().manual_seed(1)
    weights = {"weight": torch.randn(made, read, 1, 1, generator=generator)}
    if bias:
        weights["bias"] = torch.randn(made, generator=generator)
    attributes = {"stride": (1, 1), "dilation": (1, 1), "padding": (0, 0), "groups": 1, "bias": bias}
    attributes["activation"] = activation
    before, after = around
    pitch = before + made + after
    dense = prepared_convolution(attributes, weights, tuple(x.shape))
    assert isinstance(dense, Prepared)
    part = dense.into_part(pitch)
    assert part is not None
    whole = torch.full((batch, pitch, *size), 7.0).contiguous(memory_format=torch.channels_last)
    place = whole[:, before : before + made]
    scratch = torch.empty(part.scratch, dtype=torch.uint8) if part.scratch else None
    part.step([Source(0)], place, scratch)([x])
    expected = bind("conv2d", attributes, {name: w.double() for name, w in weights.items()})(x.double())
    assert (place - expected).abs().max() <= 1e-5 * max(1.0, expected.abs().max())
    assert whole[:, :before].eq(7).all()
    assert whole[:, before + made :].eq(7).all()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 40), st.booleans()), min_size=1, max_size=9),
    st.integers(1, 2),
    st.tuples(st.integers(1, 6), st.integers(1, 6)),
)
def test_a_concatenation_copies_what_is_not_there_yet(
    pieces: list[tuple[int, bool]], batch: int, size: tuple[int, int]
) -> None:
    inputs = [image(batch, channels, *size) + number for number, (channels, _) in enumerate(pieces)]
    expected = torch.cat(inputs, 1)
    prepared = Concatenation(1, [tuple(x.shape) for x in inputs], torch.float32)
    result = torch.zeros_like(expected).contiguous(memory_format=torch.channels_last)
    sources = []
    for number, (place, (_, there)) in enumerate(
        zip(torch.split(result, [c for c, _ in pieces], 1), pieces, strict=True)
    ):
        if there:
            place.copy_(inputs[number])
        sources.append(Source(number, place if there else inputs[number]))
    scratch = torch.empty(prepared.scratch, dtype=torch.uint8) if prepared.scratch else None
    prepared.step(sources, result, scratch)(list(inputs))
    assert torch.equal(result, expected)


@pytest.mark.parametrize("change", [{"stride": (2, 1)}, {"padding": (0, 1)}, {"groups": 2}, {"kernel": 3}])
def test_others_do_not(change: dict[str, object]) -> None:
    attributes = {"stride": (1, 1), "dilation": (1, 1), "padding": (0, 0), "groups": 1, "bias": False}
    attributes |= {"activation": "relu", **change}
    size, groups = int(str(attributes.pop("kernel", 1))), int(str(attributes["groups"]))
    prepared = prepared_convolution(attributes, {"weight": torch.randn(8, 8 // groups, size, size)}, (1, 8, 5, 5))
    assert isinstance(prepared, Primitive)
    assert prepared.into_part(16) is None


def test_no_value_but_nan_or_minus_infinity_is_the_lowest_number_in_a_max_pool() -> None:
    attributes = {"kernel": (2, 2), "stride": (2, 2), "padding": (0, 0), "ceil_mode": False}
    prepared = prepared_pool("max_pool", attributes, (1, 3, 2, 4), (1, 3, 1, 2), torch.float32)
    assert prepared is not None
    x = image(1, 3, 2, 4)
    x[0, 0, :, :2] = float("-inf")
    x[0, 1, 0, 2] = float("inf")
    result = prepared(x)
    assert result[0, 0, 0, 0] == torch.finfo(torch.float32).min
    assert result[0, 1, 0, 1] == float("inf")
    assert torch.equal(result[0, 2], F.max_pool2d(x, 2)[0, 2])
