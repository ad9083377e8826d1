"""JSON from elsewhere: whatever it holds, the answer is a graph, a stage, or one line about what is wrong."""

from __future__ import annotations

import contextlib
import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iosfarm.ir.builder import GraphBuilder
from iosfarm.ir.errors import GraphError, UsageError
from iosfarm.ir.graph import Graph
from iosfarm.ir.key import canonical_stage
from iosfarm.ir.stage import Stage

JSON = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5),
        st.sampled_from([-1, 0, 1, 2**31, 10**400, "conv2d", "relu", "x", "merge", "nhwc"]),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


def example() -> Graph:
    b = GraphBuilder("net")
    x = b.input((4, 8, 8), name="x")
    with b.unit("u"):
        y = b.relu(b.conv2d(x, 8, 3, padding=1))
    return b.build(b.concat(y, b.max_pool(x, 3, stride=1, padding=1)))


def merge() -> Stage:
    b = GraphBuilder("net")
    x = b.input((4, 8, 8))
    return canonical_stage(b.build(b.conv2d(x, 8, 3, padding=1), b.conv2d(x, 4, 1)), [[0], [1]], "merge").stage


def paths(value: object) -> list[tuple[str | int, ...]]:
    """All places of a document."""
    found: list[tuple[str | int, ...]] = [()]
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        found += [(key, *rest) for rest in paths(inner)]
    return found


def damaged(document: object, path: tuple[str | int, ...], value: object, drop: bool) -> object:
    """A copy with another value at a place, or with that place missing."""
    if not path:
        return value
    result = copy.deepcopy(document)
    inner = result
    for key in path[:-1]:
        inner = inner[key]  # type: ignore[index]
    if drop:
        del inner[path[-1]]  # type: ignore[attr-defined]
    else:
        inner[path[-1]] = value  # type: ignore[index]
    return result


GRAPH = json.loads(json.dumps(example().to_json()))
STAGES = [json.loads(merge().canonical), json.loads(canonical_stage(example(), [[0], [1]]).stage.canonical)]


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(paths(GRAPH)), JSON, st.booleans())
def test_damaged_graph(path: tuple[str | int, ...], value: object, drop: bool) -> None:
    with contextlib.suppress(UsageError):
        graph = Graph.from_json(damaged(GRAPH, path, value, drop))
        assert Graph.from_json(graph.to_json()) == graph


@settings(max_examples=400, deadline=None)
@given(st.data(), JSON, st.booleans())
def test_damaged_stage(data: st.DataObject, value: object, drop: bool) -> None:
    document = data.draw(st.sampled_from(STAGES))
    path = data.draw(st.sampled_from(paths(document)))
    with contextlib.suppress(GraphError):
        stage = Stage.from_json(json.dumps(damaged(document, path, value, drop)))
        assert Stage.from_json(stage.canonical) == stage
        assert stage.summary.flops >= 0
        assert stage.describe()


@settings(max_examples=100, deadline=None)
@given(JSON)
def test_anything_as_a_graph(value: object) -> None:
    with pytest.raises(GraphError):
        Graph.from_json(value)
    with pytest.raises(GraphError):
        Graph.from_json({"format": "iosfarm-graph", "version": 1, "name": value})


@pytest.mark.parametrize("text", ["", "[", "null", "[]", "{}", "1", '"a"', "[" * 100_000, '{"version": NaN}'])
def test_text_that_is_no_stage(text: str) -> None:
    with pytest.raises(GraphError):
        Stage.from_json(text)


def test_versions_are_named() -> None:
    with pytest.raises(GraphError, match="version 2; this program reads version 1"):
        Graph.from_json({**GRAPH, "version": 2})
    with pytest.raises(GraphError, match="version 7; this program reads 1"):
        Stage.from_json(json.dumps({**STAGES[0], "version": 7}))


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("batch",), True, ["graph", "'batch'", "int", "bool"]),
        (("inputs", 0, "shape"), "abc", ["inputs[0]", "'shape'", "list", "str"]),
        (("operators", 1, "kind"), 5, ["operators[1]", "'kind'", "str", "int"]),
        (("operators", 1, "inputs"), [3], ["operators[1]", "'inputs'", "names"]),
        (("operators", 0, "attributes"), [], ["operators[0]", "'attributes'", "dict"]),
        (("operators", 0), "relu", ["operators[0]", "object"]),
        (("outputs",), "concat_1", ["'outputs'", "list"]),
        (("units", 0, "operators"), {}, ["units[0]", "'operators'"]),
    ],
)
def test_place_of_a_mistake_in_a_graph(path: tuple[str | int, ...], value: object, words: list[str]) -> None:
    with pytest.raises(GraphError) as caught:
        Graph.from_json(damaged(GRAPH, path, value, drop=False))
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_missing_field_is_named() -> None:
    with pytest.raises(GraphError, match=r"units\[0\]: .*'operators' must be a list, found nothing"):
        Graph.from_json(damaged(GRAPH, ("units", 0, "operators"), None, drop=True))


def _stage(*groups: object, inputs: object = ((1, 4, 8, 8),), strategy: str = "concurrent") -> str:
    head = {"version": 1, "strategy": strategy, "dtype": "float32", "layout": "nhwc"}
    return json.dumps({**head, "inputs": inputs, "groups": groups})


def _group(*units: object, inputs: object = (0,)) -> dict[str, object]:
    return {"inputs": inputs, "units": units}


def _relu(reference: object) -> list[object]:
    return ["relu", {}, [reference]]


def _conv(reference: int = -1, **attributes: object) -> list[object]:
    return ["conv2d", {"out_channels": 4, "kernel": [1, 1], **attributes}, [reference]]


def _merge(*convolutions: object) -> str:
    return _stage(*(_group([c]) for c in convolutions), strategy="merge")


DILATED: dict[str, Any] = {"dilation": [2, 2], "stride": [5, 5]}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (_stage(_group([_relu(-1)]), _group([_relu(-2)])), "groups[1]"),
        (_stage(_group([_relu(0)])), "groups[0].units[0]"),
        (_stage(_group([_relu(1)], [_relu(-1)])), "groups[0].units[0]"),
        (_stage(_group([_relu(-2)])), "reference -2"),
        (_stage(_group([_relu(True)])), "reference True"),
        (_stage(_group([_relu(-1)], inputs=[1])), "reference -1"),
        (_stage(_group([_relu(-1)], inputs=[-1])), "reference -1"),
        (_stage(_group([_relu(-1)], inputs=[False])), "reference -1"),
        (_stage(_group([_relu(-1)], inputs=[])), "groups[0].inputs"),
        (_stage(_group([_relu(-1), _relu(0)], [_relu(0)])), "groups[0].units[1]"),  # inside another unit
        (_stage(_group([["relu", {}, []]])), "takes 1 input"),
        (_stage(_group([["relu", {"a": 1}, [-1]]])), "no attribute 'a'"),
        (_stage(_group([["rellu", {}, [-1]]])), "nearest supported one is relu"),
        (_stage(_group([["relu", {}]])), "[kind, attributes, references]"),
        (_stage(_group([[1, {}, [-1]]])), "[kind, attributes, references]"),
        (_stage(_group([_conv(kernel=[9, 9])])), "groups[0].units[0] (conv2d)"),
        (_stage(), "list with something in it"),
        (_stage([]), "groups[0]"),
        (_stage(_group()), "groups[0].units"),
        (_stage(_group([])), "groups[0].units[0]"),
        (_stage(_group([_relu(-1)]), inputs=[]), "inputs"),
        (_stage(_group([_relu(-1)]), inputs=[[1, 0]]), "inputs"),
        (_stage(_group([_relu(-1)]), strategy="parallel"), "concurrent, merge"),
        (_merge(_relu(-1), _relu(-1)), "cannot be merged"),
        (_merge(_conv()), "cannot be merged"),
        (_stage(_group([_conv()], [_conv()]), strategy="merge"), "cannot be merged"),
        (_stage(_group([_conv()], [_conv(0)]), _group([_conv()]), strategy="merge"), "cannot be merged"),
        (_merge(_conv(), _conv(activation="relu")), "cannot be merged"),
        (_stage(_group([_conv()], [_conv()]), strategy="mixed"), "several groups"),
        (_stage(_group([_conv()]), _group([_conv()]), strategy="mixed"), "can be merged"),
        (_stage(_group([_conv()], [_conv(0)]), _group([_conv()]), strategy="mixed"), "can be merged"),
        (_stage(_group([_conv()], [_conv(groups=2)]), _group([_conv()]), strategy="mixed"), "can be merged"),
        (_stage(_group([_conv(), _relu(0)], [_conv()]), _group([_conv()]), strategy="mixed"), "can be merged"),
        (_merge(_conv(groups=2), _conv(groups=2)), "cannot be merged"),
        (_merge(_conv(), _conv(stride=[2, 2])), "cannot be merged"),
        (_merge(_conv(**DILATED), _conv(kernel=[3, 3], padding=[1, 1], **DILATED)), "cannot be merged"),
    ],
)
def test_stage_that_cannot_run(text: str, words: str) -> None:
    with pytest.raises(GraphError) as caught:
        Stage.from_json(text)
    assert words in str(caught.value)
