"""Many stages at once get the keys that each gets alone, and one class where these are equal."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iosfarm.ir.builder import GraphBuilder
from iosfarm.ir.graph import Graph
from iosfarm.ir.identify import Identities
from iosfarm.ir.key import StageFactory, canonical_stage
from iosfarm.ir.stage import Stage
from iosfarm.ir.stage_groups import MOST_NUMBERINGS
from iosfarm.search.parts import cut
from iosfarm.zoo import load

from ir_strategies import components, graphs  # isort: skip - beside this file

Groups = Sequence[Sequence[int]]


def identify(factory: StageFactory, concurrent: Sequence[Groups], merged: Sequence[Groups] = ()) -> Identities:
    number: dict[tuple[int, ...], int] = {}
    offsets, members = [0], []
    for stage in (*concurrent, *merged):
        members += [number.setdefault(tuple(group), len(number)) for group in stage]
        offsets.append(len(members))
    return factory.identify(
        list(number), np.array(offsets, np.int64), np.array(members, np.int32), concurrent_count=len(concurrent)
    )


def check(graph: Graph, calls: Iterable[tuple[Sequence[Groups], Sequence[Groups]]]) -> int:
    """Compare all stages of these calls (concurrent ones, merged ones) with `make`. Returns how many keys there are."""
    factory, reference = StageFactory(graph, "nhwc"), StageFactory(graph, "nhwc")
    class_of: dict[str, int] = {}
    for concurrent, merged in calls:
        classes = identify(factory, concurrent, merged).classes.tolist()
        assert len(classes) == len(concurrent) + len(merged)
        keys = [reference.make(groups).key for groups in concurrent]
        keys += [reference.make(groups, "merge").key for groups in merged]
        for key, number in zip(keys, classes, strict=True):
            assert class_of.setdefault(key, number) == number
            assert factory.key_of(number) == key
    assert sorted(class_of.values()) == list(range(factory.class_count))
    return len(class_of)


# -- networks ----------------------------------------------------------------------------------------------------


def test_every_set_of_units_of_inception() -> None:
    graph = load("inception_v3")
    parts = [part.units for part in cut(graph)]
    calls = []
    for units in parts[:3] + parts[4:6] + parts[8:9]:
        sets = [chosen for size in range(1, len(units) + 1) for chosen in itertools.combinations(units, size)]
        alone = [[[unit] for unit in chosen] for chosen in sets if len(chosen) in (2, 3)]
        calls.append(([components(graph, set(chosen)) for chosen in sets], alone))
    assert check(graph, calls) > 2000


@pytest.mark.parametrize("model", ["nasnet_large", "randwire"])
def test_random_sets_of_units(model: str) -> None:
    graph = load(model)
    rng = random.Random(model)
    calls = []
    for part in cut(graph):
        stages: list[Groups] = []
        for _ in range(400):
            chosen = rng.sample(part.units, rng.randint(1, min(9, len(part.units))))
            groups = components(graph, set(chosen))
            stages.append(rng.sample(groups, len(groups)))
        calls.append((stages, []))
    assert check(graph, calls) > 1000


# -- choices -----------------------------------------------------------------------------------------------------


@st.composite
def alike(draw: st.DrawFn) -> tuple[Graph, list[list[Groups]]]:
    """Few kinds of group that read few tensors, some in several orders; and calls with stages of them."""
    b = GraphBuilder("alike")
    source = b.input((4, 4, 4))
    tensors = [b.relu(source) for _ in range(draw(st.integers(1, 6)))]
    one = st.sampled_from(tensors)
    ends: list[tuple[str, int]] = []
    for _ in range(draw(st.integers(1, 12))):
        kind = draw(st.sampled_from(["conv2d", "add", "three", "tree", "join"]))
        if kind == "conv2d":
            ends.append((b.conv2d(draw(one), 4, 1), 1))
        elif kind == "add":
            ends.append((b.add(draw(one), draw(one)), 1))
        elif kind == "three":
            ends.append((b.add(draw(one), draw(one), draw(one)), 1))
        elif kind == "tree":  # reads the same in several orders, as far as its tensors differ
            ends.append((b.add(b.relu(draw(one)), b.relu(draw(one))), 3))
        else:
            ends.append((b.mul(b.add(draw(one), draw(one)), b.add(draw(one), draw(one))), 3))
    graph = b.build(*(name for name, _ in ends))
    groups = []
    for name, size in ends:
        end = graph.unit_of[name]
        groups.append([end] if size == 1 else [end, *graph.unit_predecessors[end]])
    stage = st.lists(st.sampled_from(groups), min_size=1, max_size=8, unique_by=tuple)
    return graph, draw(st.lists(st.lists(stage, max_size=8), min_size=1, max_size=3))


@settings(max_examples=300, deadline=None)
@given(alike(), st.sampled_from([1, 2, 3, MOST_NUMBERINGS]))
def test_groups_that_are_alike(drawn: tuple[Graph, list[list[Groups]]], most: int) -> None:
    graph, calls = drawn
    with following(most):
        check(graph, [(call, call[::2]) for call in calls])


@settings(max_examples=100, deadline=None)
@given(graphs(), st.data())
def test_random_graphs(graph: Graph, data: st.DataObject) -> None:
    units = st.sets(st.integers(0, len(graph.units) - 1), min_size=1)
    sets = data.draw(st.lists(units, min_size=1, max_size=10))
    check(graph, [([components(graph, chosen) for chosen in sets], [])])


@contextmanager
def following(most: int) -> Iterator[None]:
    """Follow no more than so many numberings, so that small stages have more."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("iosfarm.ir.key.MOST_NUMBERINGS", most)
        patch.setattr("iosfarm.ir.identify.MOST_NUMBERINGS", most)
        yield


def test_more_numberings_than_are_followed() -> None:
    """Where choices are given up, the same are as in `make`: they are tried in the same order."""
    b = GraphBuilder("rings")
    source = b.input((4, 4, 4))
    # A ring of twelve and one of three: to begin in the small one gives the least numbers, if it is among those tried.
    large, small = [b.relu(source) for _ in range(12)], [b.relu(source) for _ in range(3)]
    edges = [(ring[i - 1], ring[i]) for ring in (large, small) for i in range(len(ring))]
    ends = [b.add(x, y) for x, y in [*edges, *edges]]
    graph = b.build(*ends)
    units = [[graph.unit_of[end]] for end in ends]
    once = [[*range(n), 12, 13, 14, *range(n, 12)] for n in range(13)]
    twice = [[i for edge in order for i in (edge, edge + 15)] for order in once]
    stages = [[units[i] for i in order] for order in once + twice]
    with following(8):
        assert check(graph, [(stages, [])]) == 4
    assert check(graph, [(stages, [])]) == 2


# -- the rest ----------------------------------------------------------------------------------------------------


def branches() -> Graph:
    b = GraphBuilder("branches")
    x, y = b.input((4, 8, 8)), b.input((4, 8, 8))
    return b.build(*(b.conv2d(v, 4, k, padding=k // 2) for k in (1, 3) for v in (x, y)), b.conv2d(b.relu(x), 4, 1))


def test_what_identities_hold() -> None:
    factory = StageFactory(branches(), "nhwc")
    groups = [[i] for i in range(6)] + [[4, 5]]
    offsets, members = np.arange(8), np.arange(7, dtype=np.int32)
    found = factory.identify(groups, offsets, members, 7)
    assert found.group_codes.tolist() == [factory.group_code(group) for group in groups]
    assert found.distinct.tolist() == sorted(set(found.classes.tolist()))
    assert found.classes[found.representatives].tolist() == found.distinct.tolist()
    assert all(found.classes.tolist().index(c) == s for c, s in zip(found.distinct, found.representatives, strict=True))
    again = factory.identify(groups[::-1], offsets, members[::-1], 0)
    assert not set(again.classes.tolist()) & set(found.classes.tolist())  # merged
    assert factory.identify(groups[::-1], offsets, members[::-1], 7).classes.tolist() == found.classes.tolist()


def test_nothing_to_identify() -> None:
    factory = StageFactory(branches(), "nhwc")
    assert factory.identify([], np.zeros(1, np.int64), np.zeros(0, np.int32), 0).classes.tolist() == []
    assert factory.class_count == 0


def test_canonical_text_of_a_class() -> None:
    factory = StageFactory(branches(), "nchw")
    (number,) = identify(factory, [[[3], [0], [2]]]).classes.tolist()
    placed = factory.make([[3], [0], [2]])
    assert factory.canonical_of(number) == placed.canonical
    assert Stage.from_json(factory.canonical_of(number)) == placed.stage


@pytest.mark.parametrize("model", ["inception_v3", "randwire"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_work_of_units_and_code_of_groups(model: str, dtype: str) -> None:
    graph = load(model).bind(batch=2, dtype=dtype)
    factory = StageFactory(graph, "nhwc")
    codes = {}
    for unit in range(len(graph.units)):
        stage = canonical_stage(graph, [[unit]]).stage
        assert factory.unit_flops[unit] == sum(stage.flops(o) for o in stage.operators)
        assert factory.unit_bytes[unit] == sum(stage.bytes_moved(o) for o in stage.operators)
        code = factory.group_code([unit])
        assert codes.setdefault(stage.key, code) == code
    assert len(set(codes.values())) == len(codes)
