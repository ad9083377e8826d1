"""The CUDA kernels on shapes nobody chose: whatever an operator may be, the kernels compute it."""

from __future__ import annotations

import math

import pytest
from host_kernels import needs_compiler
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from operator_on_host import TOLERANCES, error, operator, separable_error
from shape_strategies import ANY, CHANNELS, SEEDS, TF32, any_shape, convolved, images, pairs, valid

from iosfarm.ir.graph import DTYPES
from iosfarm.ir.nodes import Operator
from iosfarm.ir.operators import Attribute, Shape, spec
from iosfarm.kernels.cuda.catalogue import convolutions, pooling
from iosfarm.kernels.cuda.catalogue.tiling import SPLITS, TILES, Tiling, tensor_tiles

pytestmark = needs_compiler


@ANY
@given(convolved(depthwise=False), st.sampled_from(TILES), st.sampled_from(SPLITS), st.booleans(), SEEDS)
def test_convolution_with_any_tile_and_split(
    case: tuple[Operator, Shape], tile: convolutions.Tile, splits: int, residual: bool, seed: int
) -> None:
    op, shape = case
    conv = convolutions.Convolution.of(op.attributes, shape, spec(op.kind).infer(op.attributes, [shape]))
    assume(not conv.depthwise)
    launches = convolutions.convolution(conv, "float32", residual, Tiling(tile, splits))
    assert error(op, [shape], "float32", seed=seed, launches=launches, residual=residual) <= TOLERANCES["float32"]


@ANY
@given(
    convolved(depthwise=False),
    st.sampled_from([0, 1, 2]),
    st.sampled_from(SPLITS),
    st.booleans(),
    st.sampled_from(["float32", "float16", "bfloat16"]),
    SEEDS,
)
def test_convolution_by_tensor_cores(
    case: tuple[Operator, Shape], tile: int, splits: int, residual: bool, dtype: str, seed: int
) -> None:
    op, shape = case
    conv = convolutions.Convolution.of(op.attributes, shape, spec(op.kind).infer(op.attributes, [shape]))
    assume(not conv.depthwise)
    tiling = Tiling(tensor_tiles(dtype)[tile], splits)
    launches = convolutions.convolution(conv, dtype, residual, tiling)
    limit = {**TOLERANCES, "float32": TF32}[dtype]
    assert error(op, [shape], dtype, seed=seed, launches=launches, residual=residual) <= limit


@ANY
@given(convolved(depthwise=True), st.booleans(), st.booleans(), SEEDS)
def test_depthwise_convolution(
    monkeypatch: pytest.MonkeyPatch, case: tuple[Operator, Shape], strips: bool, residual: bool, seed: int
) -> None:
    op, shape = case
    monkeypatch.setattr(pooling, "ENOUGH_THREADS", 0 if strips else math.inf)
    assert error(op, [shape], "float32", seed=seed, residual=residual) <= TOLERANCES["float32"]


@ANY
@given(
    images(),
    *(st.sampled_from(["max_pool", "avg_pool"]), st.sampled_from([(3, 3), (2, 2)]) | pairs(1, 4), pairs(1, 3)),
    *(pairs(0, 2), st.booleans(), st.booleans(), st.booleans(), SEEDS),
)
def test_pooling(
    monkeypatch: pytest.MonkeyPatch,
    shape: Shape,
    kind: str,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    ceil: bool,
    include: bool,
    strips: bool,
    seed: int,
) -> None:
    monkeypatch.setattr(pooling, "ENOUGH_THREADS", 0 if strips else math.inf)
    extra: dict[str, Attribute] = {"count_include_pad": include} if kind == "avg_pool" else {}
    op = valid(kind, [shape], kernel=kernel, stride=stride, padding=padding, ceil_mode=ceil, **extra)
    assert error(op, [shape], "float32", seed=seed) <= TOLERANCES["float32"]


@ANY
@given(images(), st.sampled_from(["adaptive_max_pool", "adaptive_avg_pool"]), pairs(1, 6), SEEDS)
def test_adaptive_pooling(shape: Shape, kind: str, size: tuple[int, int], seed: int) -> None:
    assert error(operator(kind, output_size=size), [shape], "float32", seed=seed) <= TOLERANCES["float32"]


@ANY
@given(images(), st.sampled_from(["add", "mul"]), st.integers(1, 11), st.sampled_from(sorted(DTYPES)), SEEDS)
def test_many_inputs_of_one_shape(shape: Shape, kind: str, count: int, dtype: str, seed: int) -> None:
    assert error(operator(kind, activation="relu"), [shape] * count, dtype, seed=seed) <= TOLERANCES[dtype]


@ANY
@given(st.data(), st.sampled_from(["add", "mul"]), st.integers(2, 4), SEEDS)
def test_broadcasting(data: st.DataObject, kind: str, rank: int, seed: int) -> None:
    full = data.draw(images())[:rank]
    shapes = data.draw(
        st.lists(st.tuples(*[st.sampled_from([1, size]) for size in full]), min_size=2, max_size=4), label="shapes"
    )
    assert error(operator(kind), shapes, "float32", seed=seed) <= TOLERANCES["float32"]


@ANY
@given(images(), st.lists(CHANNELS, min_size=1, max_size=11), SEEDS)
def test_concatenation(shape: Shape, channels: list[int], seed: int) -> None:
    assert error(operator("concat"), [(shape[0], c, *shape[2:]) for c in channels], "float16", seed=seed) == 0


@ANY
@given(images(), st.data(), SEEDS)
def test_slicing(shape: Shape, data: st.DataObject, seed: int) -> None:
    start = data.draw(st.integers(0, shape[1] - 1))
    op = operator("slice", start=start, stop=data.draw(st.integers(start + 1, shape[1])))
    assert error(op, [shape], "float16", seed=seed) == 0


@ANY
@given(images(), st.tuples(*[st.integers(-2, 4)] * 4), st.sampled_from(["constant", "reflect", "replicate"]), SEEDS)
def test_padding(shape: Shape, amounts: tuple[int, ...], mode: str, seed: int) -> None:
    op = valid("pad", [shape], padding=amounts, mode=mode, value=0.5)
    assert error(op, [shape], "float32", seed=seed) == 0


@ANY
@given(images(), pairs(1, 20), st.sampled_from(["nearest", "bilinear", "corners"]), SEEDS)
def test_resizing(shape: Shape, size: tuple[int, int], mode: str, seed: int) -> None:
    corners = mode == "corners"
    op = operator("resize", size=size, mode="bilinear" if corners else mode, align_corners=corners)
    assert error(op, [shape], "float32", seed=seed) <= TOLERANCES["float32"]


@ANY
@given(images(), st.integers(-4, 3), SEEDS)
def test_softmax_along_any_axis(shape: Shape, axis: int, seed: int) -> None:
    assert error(operator("softmax", axis=axis), [shape], "float32", seed=seed) <= TOLERANCES["float32"]


@ANY
@given(any_shape(2, 6), st.data(), SEEDS)
def test_transposition(shape: Shape, data: st.DataObject, seed: int) -> None:
    op = operator("transpose", axes=tuple(data.draw(st.permutations(range(len(shape))))))
    assert error(op, [shape], "float16", seed=seed) == 0


@ANY
@given(any_shape(2, 5), st.data(), SEEDS)
def test_reshaping(shape: Shape, data: st.DataObject, seed: int) -> None:
    rank = data.draw(st.integers(2, 5))
    rest, target = math.prod(shape), []
    for _ in range(rank - 1):
        target.append(data.draw(st.sampled_from([n for n in range(1, rest + 1) if rest % n == 0])))
        rest //= target[-1]
    target.insert(data.draw(st.integers(0, rank - 1)), -1)
    assert error(operator("reshape", shape=tuple(target)), [shape], "float16", seed=seed) == 0


@ANY
@given(any_shape(2, 5), st.sampled_from(["mean", "sum", "max", "min", "norm"]), st.booleans(), st.data(), SEEDS)
def test_reduction(shape: Shape, function: str, keepdims: bool, data: st.DataObject, seed: int) -> None:
    axes = data.draw(st.sets(st.integers(0, len(shape) - 1), min_size=1, max_size=len(shape) - 1))
    op = operator("reduce", function=function, axes=tuple(axes), keepdims=keepdims)
    assert error(op, [shape], "float32", seed=seed) <= TOLERANCES["float32"]


@ANY
@given(any_shape(2, 5), st.data(), SEEDS)
def test_layer_norm(shape: Shape, data: st.DataObject, seed: int) -> None:
    op = operator("layer_norm", shape=shape[data.draw(st.integers(1, len(shape) - 1)) :])
    assert error(op, [shape], "float32", seed=seed) <= TOLERANCES["float32"]


@ANY
@given(any_shape(2, 5), st.integers(1, 4), st.integers(1, 4), SEEDS)
def test_group_norm(shape: Shape, groups: int, each: int, seed: int) -> None:
    assume(each * math.prod(shape[2:]) > 1)  # of which PyTorch takes no mean
    op = operator("group_norm", groups=groups)
    assert error(op, [(shape[0], groups * each, *shape[2:])], "float32", seed=seed) <= TOLERANCES["float32"]


@ANY
@given(st.data(), st.integers(2, 4), st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), SEEDS)
def test_matmul(data: st.DataObject, rank: int, rows: int, columns: int, length: int, seed: int) -> None:
    full = data.draw(st.tuples(*[st.integers(1, 3)] * (rank - 2)))
    left, right = (data.draw(st.tuples(*[st.sampled_from([1, size]) for size in full])) for _ in range(2))
    shapes = [(*left, rows, length), (*right, length, columns)]
    assert error(operator("matmul"), shapes, "float32", seed=seed) <= TOLERANCES["float32"]


@ANY
@given(st.data(), st.integers(3, 5), st.sampled_from(["none", "causal", "mask"]), st.booleans(), SEEDS)
def test_attention(data: st.DataObject, rank: int, masking: str, long: bool, seed: int) -> None:
    heads = data.draw(st.tuples(*[st.integers(1, 3)] * (rank - 2)))
    queries, keys = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 9)) + (150 if long else 0)
    features, values = data.draw(st.integers(1, 9)), data.draw(st.sampled_from([1, 6, 140]))
    shapes = [(*heads, queries, features), (*heads, keys, features), (*heads, keys, values)]
    if masking == "mask":
        outer = data.draw(st.tuples(*[st.sampled_from([1, size]) for size in heads])) if rank < 5 else heads
        shapes.append((*outer, data.draw(st.sampled_from([1, queries])), data.draw(st.sampled_from([1, keys]))))
    op = operator("attention", causal=masking == "causal")
    assert error(op, shapes, "float32", seed=seed) <= TOLERANCES["float32"]


@ANY
@given(images(), st.integers(1, 3), pairs(1, 3), pairs(1, 3), pairs(0, 1), pairs(1, 2), st.booleans(), SEEDS)
def test_transposed_convolution(
    shape: Shape,
    groups: int,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    extra: bool,
    seed: int,
) -> None:
    shape = (shape[0], shape[1] * groups, *shape[2:])
    op = valid(
        "conv_transpose2d",
        [shape],
        out_channels=5 * groups,
        kernel=kernel,
        stride=stride,
        padding=padding,
        dilation=dilation,
        output_padding=(int(extra), 0),
        groups=groups,
    )
    assert error(op, [shape], "float32", seed=seed) <= TOLERANCES["float32"]


@ANY
@given(st.integers(1, 20), st.integers(1, 70), st.integers(1, 12), st.booleans(), SEEDS)
def test_linear(batch: int, features: int, out: int, bias: bool, seed: int) -> None:
    op = operator("linear", out_features=out, bias=bias)
    assert error(op, [(batch, features)], "float32", seed=seed) <= TOLERANCES["float32"]


@ANY
@given(convolved(depthwise=True), st.integers(1, 40), st.sampled_from(["none", "relu"]), st.booleans(), SEEDS)
def test_separable_unit(case: tuple[Operator, Shape], out: int, before: str, residual: bool, seed: int) -> None:
    depthwise, shape = case
    assume(depthwise.attributes["out_channels"] == shape[1])
    pointwise = operator("conv2d", out_channels=out, kernel=(1, 1), activation="relu")
    found = separable_error((depthwise, pointwise), shape, "float32", before=before, residual=residual, seed=seed)
    assert found <= TOLERANCES["float32"]


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", TF32), ("float16", 1e-2), ("bfloat16", 1e-2)])
@settings(ANY, max_examples=8)
@given(convolved(depthwise=True), st.integers(1, 40), st.sampled_from(["none", "relu"]), st.booleans(), SEEDS)
def test_separable_unit_by_tensor_cores(
    dtype: str, tolerance: float, case: tuple[Operator, Shape], out: int, before: str, residual: bool, seed: int
) -> None:
    depthwise, shape = case
    assume(depthwise.attributes["out_channels"] == shape[1])
    pointwise = operator("conv2d", out_channels=out, kernel=(1, 1), activation="relu")
    options = {"before": before, "residual": residual, "seed": seed}
    assert separable_error((depthwise, pointwise), shape, dtype, tensor=True, **options) <= tolerance  # type: ignore[arg-type]
