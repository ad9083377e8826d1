"""What a graph is, and every way in which it cannot be one."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iosfarm.ir.builder import GraphBuilder
from iosfarm.ir.errors import GraphError, UsageError
from iosfarm.ir.graph import MAX_BATCH, Graph, GraphInput, Operator, Unit

from ir_strategies import graphs  # isort: skip - beside this file


def make(
    operators: Sequence[tuple[str, str, Sequence[str]] | Operator] = (("a", "relu", ["x"]),),
    outputs: Sequence[str] = ("a",),
    inputs: Mapping[str, Sequence[object]] | None = None,
    units: Mapping[str, Sequence[str]] | None = None,
    **bind: object,
) -> Graph:
    """A graph named `net` in short notation; without types, because mistakes are made on purpose."""
    items = {"x": (4, 8, 8)} if inputs is None else inputs
    return Graph(
        "net",
        [GraphInput(name, tuple(shape)) for name, shape in items.items()],  # type: ignore[arg-type]
        [o if isinstance(o, Operator) else Operator(o[0], o[1], tuple(o[2])) for o in operators],
        outputs,
        units=None if units is None else [Unit(name, tuple(members)) for name, members in units.items()],
        **bind,  # type: ignore[arg-type]
    )


def conv(name: str, source: str, **attributes: object) -> Operator:
    return Operator(name, "conv2d", (source,), attributes)  # type: ignore[arg-type]


CHAIN = (("a", "relu", ["x"]), ("b", "relu", ["a"]), ("c", "relu", ["b"]))

# What is wrong -> (how to make it, what the one line has to say).
MISTAKES: dict[str, tuple[dict[str, object], list[str]]] = {
    "cycle": ({"operators": [("a", "add", ["x", "b"]), ("b", "relu", ["a"])]}, ["net", "cycle", "'a'"]),
    "self": ({"operators": [("a", "add", ["x", "a"])]}, ["net", "cycle", "'a'"]),
    "unknown kind": ({"operators": [("a", "conv3d", ["x"])]}, ["operator 0", "'a'", "'conv3d'", "conv2d"]),
    "unknown kind, nothing near": ({"operators": [("a", "zzz", ["x"])]}, ["operator 0", "'zzz'", "supported", "relu"]),
    "unknown kind by case": ({"operators": [("a", "ReLU", ["x"])]}, ["'ReLU'", "nearest", "relu"]),
    "unknown attribute": (
        {"operators": [conv("a", "x", out_channels=1, kernel=(1, 1), strides=(1, 1))]},
        ["operator 0 'a'", "conv2d", "'strides'", "stride"],
    ),
    "attribute of an operator without": (
        {"operators": [Operator("a", "relu", ("x",), {"slope": 1})]},
        ["relu", "'slope'", "none"],
    ),
    "missing attribute": (
        {"operators": [conv("a", "x", kernel=(1, 1))]},
        ["operator 0 'a'", "needs", "'out_channels'"],
    ),
    "attribute of another type": (
        {"operators": [conv("a", "x", out_channels="64", kernel=(1, 1))]},
        ["conv2d.out_channels", "'64'", "int"],
    ),
    "boolean for integer": (
        {"operators": [conv("a", "x", out_channels=True, kernel=(1, 1))]},
        ["conv2d.out_channels", "True", "int"],
    ),
    "integer for boolean": (
        {"operators": [conv("a", "x", out_channels=1, kernel=(1, 1), bias=1)]},
        ["conv2d.bias", "bool"],
    ),
    "integer for a pair": (
        {"operators": [conv("a", "x", out_channels=1, kernel=3)]},
        ["conv2d.kernel", "list of integers"],
    ),
    "fractions": (
        {"operators": [conv("a", "x", out_channels=1, kernel=(1.5, 1))]},
        ["conv2d.kernel", "list of integers"],
    ),
    "infinite": (
        {"operators": [Operator("a", "elu", ("x",), {"alpha": float("inf")})]},
        ["elu.alpha", "inf", "float"],
    ),
    "huge for a float": ({"operators": [Operator("a", "elu", ("x",), {"alpha": 10**400})]}, ["elu.alpha", "float"]),
    "huge for an integer": (
        {"operators": [conv("a", "x", out_channels=2**31, kernel=(1, 1))]},
        ["conv2d.out_channels", "2147483648"],
    ),
    "activation": (
        {"operators": [conv("a", "x", out_channels=1, kernel=(1, 1), activation="leaky_relu")]},
        ["conv2d", "'leaky_relu'", "relu6"],
    ),
    "arity": ({"operators": [("a", "relu", ["x", "x"])]}, ["operator 0 'a'", "relu takes 1 input(s), got 2"]),
    "arity of add": ({"operators": [("a", "add", [])]}, ["add takes at least 1 input(s), got 0"]),
    "window": (
        {"operators": [("b", "relu", ["x"]), conv("a", "b", out_channels=1, kernel=(9, 9))]},
        ["operator 1 'a' (conv2d)", "window of 9", "input of 8"],
    ),
    "dangling": ({"operators": [("a", "relu", ["y"])]}, ["operator 0 'a'", "'y'", "does not exist"]),
    "no output": ({"outputs": []}, ["net", "output"]),
    "unknown output": ({"outputs": ["y"]}, ["net", "'y'"]),
    "no input": ({"inputs": {}, "operators": []}, ["net", "input"]),
    "two of a name": ({"operators": [("a", "relu", ["x"]), ("a", "relu", ["x"])]}, ["two tensors", "'a'"]),
    "input's name": ({"operators": [("x", "relu", ["x"])]}, ["two tensors", "'x'"]),
    "input of no shape": ({"inputs": {"x": ()}}, ["input 'x'", "[]"]),
    "input of nothing": ({"inputs": {"x": (4, 0, 8)}}, ["input 'x'", "[4, 0, 8]"]),
    "input of negative size": ({"inputs": {"x": (-4,)}}, ["input 'x'", "[-4]"]),
    "input of fractions": ({"inputs": {"x": (4.0, 8, 8)}}, ["input 'x'", "4.0", "integers"]),
    "input of booleans": ({"inputs": {"x": (True, 8, 8)}}, ["input 'x'", "True"]),
    "input too large": ({"inputs": {"x": (2**20, 2**10, 2**10)}}, ["input 'x'", "not sensible"]),
    "output too large": (
        {"operators": [conv("a", "x", out_channels=2**31 - 1, kernel=(1, 1))], "batch": 1024},
        ["operator 0 'a' (conv2d)", "not sensible"],
    ),
    "empty unit": ({"units": {"a": ["a"], "u": []}}, ["unit 'u'", "empty"]),
    "unit missing": ({"operators": CHAIN, "outputs": ["c"], "units": {"u": ["a", "b"]}}, ["units", "'c'"]),
    "unit overlap": ({"operators": CHAIN, "outputs": ["c"], "units": {"u": ["a", "b"], "v": ["b", "c"]}}, ["'b'"]),
    "unit twice": ({"units": {"u": ["a", "a"]}}, ["once", "'a'"]),
    "unit of strangers": ({"units": {"u": ["a", "z"]}}, ["once", "'z'"]),
    "unit out of order": (
        {"operators": CHAIN, "outputs": ["c"], "units": {"u": ["b", "a"], "v": ["c"]}},
        ["unit 'u'", "out of order", "'a'"],
    ),
    "inner result read": (
        {
            "operators": [*CHAIN, ("d", "relu", ["a"])],
            "outputs": ["c", "d"],
            "units": {"u": ["a", "b", "c"], "v": ["d"]},
        },
        ["'a'", "unit 'u'", "'d'"],
    ),
    "inner result is output": (
        {"operators": CHAIN, "outputs": ["a", "c"], "units": {"u": ["a", "b", "c"]}},
        ["output 'a'", "unit 'u'"],
    ),
    "inner result read the other way": (
        {
            "operators": [*CHAIN, ("d", "add", ["x", "c"])],
            "outputs": ["d"],
            "units": {"u": ["b", "d"], "v": ["a"], "w": ["c"]},
        },
        ["'b'", "unit 'u'", "'c'"],
    ),
    # Only the last operators of units are read from outside, and still the units cannot be ordered.
    "units in a cycle": (
        {
            "operators": [("q", "relu", ["x"]), ("r", "relu", ["q"]), ("p", "relu", ["r"])],
            "outputs": ["r"],
            "units": {"u": ["p", "q"], "v": ["r"]},
        },
        ["units", "cycle", "'u'"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake(name: str) -> None:
    arguments, words = MISTAKES[name]
    with pytest.raises(GraphError) as caught:
        make(**arguments)  # type: ignore[arg-type]
    line = str(caught.value)
    assert "\n" not in line
    assert all(word in line for word in words), line


@pytest.mark.parametrize("batch", [0, -1, True, False, 1.0, "1", None, MAX_BATCH + 1])
def test_batch_that_cannot_be(batch: object) -> None:
    with pytest.raises(UsageError, match="net: batch size"):
        make(batch=batch)


@pytest.mark.parametrize("batch", [0, -1, True, MAX_BATCH + 1])
def test_bind_checks_the_batch(batch: int) -> None:
    with pytest.raises(UsageError, match="batch size"):
        make().bind(batch=batch)


def test_dtype_that_cannot_be() -> None:
    with pytest.raises(UsageError, match="net: unknown dtype 'float64'; use one of float32"):
        make(dtype="float64")


def test_any_order_is_sorted_and_attributes_are_completed() -> None:
    graph = make([*CHAIN[::-1], Operator("d", "conv2d", ("c",), {"out_channels": 2, "kernel": [3, 3]})], ["d"])  # type: ignore[dict-item]
    assert [o.name for o in graph.operators] == ["a", "b", "c", "d"]
    assert graph.operator("d").attributes["kernel"] == (3, 3)
    assert graph.operator("d").attributes["stride"] == (1, 1)


def test_units_in_any_order_that_works() -> None:
    operators = [("a", "relu", ["x"]), ("b", "relu", ["x"]), ("c", "add", ["a", "b"]), ("d", "relu", ["c"])]
    graph = make(operators, ["d"], units={"tail": ["d"], "head": ["b", "a", "c"]})
    assert [unit.name for unit in graph.units] == ["head", "tail"]
    assert graph.units[0].operators == ("b", "a", "c")
    assert graph.unit_inputs == (("x",), ("c",))
    assert graph.unit_predecessors == ((), (0,))
    assert graph.unit_of == {"a": 0, "b": 0, "c": 0, "d": 1}


def test_bind_changes_shapes_only() -> None:
    graph = make().bind(batch=4, dtype="float16")
    assert graph.shape("a") == (4, 4, 8, 8)
    assert (graph.batch, graph.dtype) == (4, "float16")
    assert graph.bind() is graph
    assert graph.bind(batch=1, dtype="float32") == make()


def test_costs() -> None:
    graph = make([conv("a", "x", out_channels=6, kernel=(3, 3), groups=2)], batch=2)
    operator = graph.operator("a")
    assert graph.parameters(operator) == {"weight": (6, 2, 3, 3), "bias": (6,)}
    assert graph.flops(operator) == 2 * (2 * 6 * 6 * 6) * (2 * 3 * 3)


@settings(max_examples=60, deadline=None)
@given(graphs(), st.integers(1, 8), st.sampled_from(["float32", "float16"]))
def test_json_round_trip(graph: Graph, batch: int, dtype: str) -> None:
    bound = graph.bind(batch=batch, dtype=dtype)
    again = Graph.from_json(bound.to_json())
    assert again == bound
    assert again.content_hash == bound.content_hash
    assert again.units == bound.units
    assert again.shapes == bound.shapes
    assert pickle.loads(pickle.dumps(bound)) == bound


def test_content_hash_leaves_out_the_graphs_name_only() -> None:
    def build(name: str, inner: str = "a", batch: int = 1, dtype: str = "float32", unit: bool = False) -> str:
        units = {"u": [inner, "b"]} if unit else None
        items = [GraphInput("x", (4, 8, 8))]
        operators = [Operator(inner, "relu", ("x",)), Operator("b", "relu", (inner,))]
        partition = [Unit(n, tuple(m)) for n, m in units.items()] if units else None
        return Graph(name, items, operators, ["b"], units=partition, batch=batch, dtype=dtype).content_hash

    assert build("one") == build("two")
    others = [
        build("one"),
        build("one", "z"),
        build("one", batch=2),
        build("one", dtype="float16"),
        build("one", unit=True),
    ]
    assert len(set(others)) == len(others)


def test_content_hash_is_what_schedule_files_have() -> None:
    b = GraphBuilder("golden")
    graph = b.build(b.conv2d(b.input((3, 8, 8)), 4, 3, activation="relu"))
    assert graph.content_hash == "f7426fd04be9331502de812885916b7f78160d23a30359192cf45d5b833d4de0"


def test_an_input_can_be_an_output() -> None:
    graph = make([], ["x"])
    assert graph.units == ()
    assert Graph.from_json(graph.to_json()) == graph
