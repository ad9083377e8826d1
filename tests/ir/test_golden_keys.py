"""Keys as users' databases have them.

A key that changes makes every measurement under it worthless. If one of these tests fails, either the change was not
meant to touch the canonical form, or `KEY_VERSION` has to be raised and the keys below written anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest

from iosfarm.ir.builder import GraphBuilder
from iosfarm.ir.key import canonical_stage
from iosfarm.ir.stage import Stage
from iosfarm.ir.stage_units import KEY_VERSION


def single_convolution() -> Stage:
    b = GraphBuilder("golden")
    x = b.input((192, 35, 35))
    graph = b.build(b.conv2d(x, 64, 1, activation="relu"))
    return canonical_stage(graph, [[0]]).stage


def inception_branches() -> Stage:
    b = GraphBuilder("golden")
    x = b.input((192, 35, 35))
    five = b.conv2d(b.conv2d(x, 48, 1, activation="relu"), 64, 5, padding=2, activation="relu")
    pool = b.conv2d(b.avg_pool(x, 3, padding=1), 32, 1, activation="relu")
    one = b.conv2d(x, 64, 1, activation="relu")
    return canonical_stage(b.build(five, pool, one).bind(batch=16), [[4], [0, 1], [2, 3]]).stage


def merged_fire() -> Stage:
    b = GraphBuilder("golden")
    x = b.input((16, 55, 55))
    graph = b.build(b.conv2d(x, 64, 1, activation="relu"), b.conv2d(x, 64, 3, padding=1, activation="relu"))
    return canonical_stage(graph.bind(dtype="float16"), [[0], [1]], "merge").stage


def mixed_branches() -> Stage:
    b = GraphBuilder("golden")
    x = b.input((192, 35, 35))
    one, five = b.conv2d(x, 64, 1, activation="relu"), b.conv2d(x, 48, 5, padding=2, activation="relu")
    pool = b.conv2d(b.avg_pool(x, 3, padding=1), 32, 1, activation="relu")
    return canonical_stage(b.build(one, five, pool), [[0, 1], [2, 3]], "mixed").stage


def separable_cell() -> Stage:
    b = GraphBuilder("golden")
    x, y = b.input((32, 28, 28)), b.input((32, 28, 28))
    with b.unit("left"):
        left = b.conv2d(b.depthwise(b.relu(b.add(x, y)), 3, padding=1), 32, 1, bias=False)
    with b.unit("right"):
        right = b.conv2d(b.depthwise(b.relu(y), 5, padding=2), 32, 1, bias=False)
    graph = b.build(b.mul(left, left), right)
    return canonical_stage(graph, [[0, 2], [1]], layout="nchw").stage


def odds_and_ends() -> Stage:
    b = GraphBuilder("golden")
    x = b.input((8, 9, 9))
    padded = b.pad(x, (1, 2, 0, -1), mode="replicate")
    sliced = b.batch_norm(b.resize(b.slice(x, 2, 6), (4, 5), mode="bilinear", align_corners=True), eps=0.001)
    head = b.softmax(b.linear(b.flatten(b.operator("leaky_relu", [x], negative_slope=0.3)), 10))
    graph = b.build(padded, sliced, head)
    return canonical_stage(graph, [[graph.unit_of[n] for n in names] for names in (
        ["pad_1"], ["slice_1", "resize_1", "batch_norm_1"], ["leaky_relu_1", "flatten_1", "linear_1", "softmax_1"]
    )]).stage  # fmt: skip


GOLDEN = {
    single_convolution: "16ba550369a4cf89387d5ce2913053df250f16131300fe609d28516123d42660",
    inception_branches: "71b20abf4b5066c8074b973f6e721f0be052f87923f3f972cd84fe5a563fda7a",
    merged_fire: "c854d9a08d7d8d60c9cb212181beb9e00635d6bccc7f5ab509cd48b23d65f3a9",
    mixed_branches: "5fe364901a2667d5a97d170c975f950fd90664cc017e23c24dbfa4065b385db1",
    separable_cell: "0626fa1b68191f3c79d06a676cf5010aef875dd82cde6f779285bce06f8f6e60",
    odds_and_ends: "42b6534a434ae6b0af12e438d02dd2fa89f677a55bcd1ed128ef6885286c05a4",
}


@pytest.mark.parametrize("stage", GOLDEN, ids=lambda stage: stage.__name__)
def test_key(stage: Callable[[], Stage]) -> None:
    assert stage().key == GOLDEN[stage]


def test_canonical_text() -> None:
    text = (
        '{"dtype":"float32","groups":[{"inputs":[0],"units":[[["conv2d",{"activation":"relu","bias":true,'
        '"dilation":[1,1],"groups":1,"kernel":[1,1],"out_channels":64,"padding":[0,0],"stride":[1,1]},[-1]]]]}],'
        '"inputs":[[1,192,35,35]],"layout":"nhwc","strategy":"concurrent","version":1}'
    )
    assert single_convolution().canonical == text
    assert hashlib.sha256(text.encode()).hexdigest() == GOLDEN[single_convolution]


def test_keys_are_of_this_version() -> None:
    assert KEY_VERSION == 1
