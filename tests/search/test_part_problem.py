"""Equal parts share one problem; what could change a latency keeps them apart."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iosfarm.ir.builder import GraphBuilder
from iosfarm.ir.graph import Graph
from iosfarm.search.parts import cut
from iosfarm.search.problem import PartProblem, part_signature, problems
from iosfarm.search.space import SpaceSettings
from iosfarm.zoo import load

from search_costs import problem_of  # isort: skip - beside this file
from search_graphs import graphs, whole  # isort: skip


def two_branches(variant: str = "", *, prefix: str = "", batch: int = 1, dtype: str = "float32") -> Graph:
    """Two inputs, two convolutions, a join; `variant` changes one thing."""
    b = GraphBuilder("two branches")
    side = 16 if variant == "input size" else 8
    left, right = b.input((4, side, side), name=f"{prefix}left"), b.input((4, side, side), name=f"{prefix}right")
    y = b.conv2d(
        left,
        8 if variant == "channels" else 4,
        5 if variant == "kernel" else 3,
        padding=2 if variant == "kernel" else 1,
        bias=variant != "bias",
        groups=2 if variant == "groups" else 1,
        activation="relu" if variant == "activation" else "none",
        name=f"{prefix}first",
    )
    second_input = {"shared input": left, "wiring": y if variant == "wiring" else right}.get(variant, right)
    if variant == "units":
        with b.unit():
            z = b.relu(b.conv2d(second_input, 4, 3, padding=1, name=f"{prefix}second"))
    else:
        z = b.relu(b.conv2d(second_input, 4, 3, padding=1, name=f"{prefix}second"))
    ends = (z, y) if variant == "input order" else (y, z)
    joined = b.mul(*ends) if variant == "kind" else b.concat(*ends)
    return b.build(joined).bind(batch=batch, dtype=dtype)


def test_names_do_not_matter() -> None:
    assert part_signature(whole(two_branches())) == part_signature(whole(two_branches(prefix="other_")))


def keys(problem: PartProblem) -> list[str]:
    """Of each stage."""
    return [problem.factory.key_of(int(number)) for number in problem.classes]


VARIANTS = [
    "input size", "channels", "kernel", "bias", "groups", "activation", "shared input", "wiring", "units",
    "input order", "kind",
]  # fmt: skip


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_matters_is_seen(variant: str) -> None:
    assert part_signature(whole(two_branches(variant))) != part_signature(whole(two_branches()))


@pytest.mark.parametrize("binding", [{"batch": 2}, {"dtype": "float16"}])
def test_batch_and_dtype_are_seen(binding: dict[str, object]) -> None:
    assert part_signature(whole(two_branches(**binding))) != part_signature(whole(two_branches()))  # type: ignore[arg-type]


def test_equal_blocks_of_a_network_share_a_problem() -> None:
    parts = cut(load("inception_v3"))
    shared = problems(parts, SpaceSettings(), "nhwc")
    assert len(shared) == len(parts)
    distinct = {id(problem) for problem in shared}
    assert len(distinct) == len({part_signature(part) for part in parts}) < len(parts)
    first_of = {id(problem): part for part, problem in reversed(list(zip(parts, shared, strict=True)))}
    assert all(problem.part is first_of[id(problem)] for problem in shared)


def test_a_shared_problem_has_the_stages_of_every_part_that_shares_it() -> None:
    parts = cut(load("squeezenet"))
    shared = problems(parts, SpaceSettings(), "nhwc")
    borrowed = [(part, problem) for part, problem in zip(parts, shared, strict=True) if problem.part is not part]
    b = GraphBuilder("twice")
    x = b.relu(b.input((4, 8, 8)))
    for _ in range(2):
        x = b.add(b.conv2d(b.conv2d(x, 4, 3, padding=1), 4, 1), b.conv2d(x, 4, 1), x)
    twice = cut(b.build(x))
    borrowed += list(zip(twice[2:], problems(twice, SpaceSettings(), "nhwc")[2:], strict=True))
    assert borrowed
    for part, problem in borrowed:
        own = problem_of(part)
        assert keys(own) == keys(problem)
        assert [own.space.groups(n) for n in range(own.space.stage_count)] == [
            problem.space.groups(n) for n in range(problem.space.stage_count)
        ]
        assert [own.place(n).key for n in range(own.space.stage_count)] == keys(own)


@settings(max_examples=50, deadline=None)
@given(graphs(6), st.sampled_from([("concurrent", "merge"), ("concurrent",), ("merge",)]))
def test_stages_alone(graph: Graph, strategies: tuple[str, ...]) -> None:
    problem = problem_of(whole(graph), SpaceSettings(3, 3, strategies))
    space = problem.space
    assert [space.groups(int(stage)) for stage in problem.singles] == [[[u]] for u in range(space.unit_count)]
    assert [space.groups(int(n)) for n in problem.alone] == [
        [list(space.group_units(g))] for g in range(len(space.group_words))
    ]
    assert {space.strategy(int(stage)) for stage in [*problem.singles, *problem.alone]} == {"concurrent"}


def test_layout_is_in_the_keys() -> None:
    part = whole(two_branches())
    ours, theirs = (set(keys(problem_of(part, layout=layout))) for layout in ("nhwc", "nchw"))
    assert not ours & theirs
