"""The built-in networks: shapes, parameters, units, and the search spaces of the IOS paper."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from functools import cache

import pytest
from zoo_reference import EDGE_LISTS, decompositions, needs_reference, reference, regions

from iosfarm.ir.errors import GraphError, UsageError
from iosfarm.ir.graph import Graph
from iosfarm.search.space import SpaceSettings, StateSpace
from iosfarm.zoo import load
from iosfarm.zoo.registry import NETWORKS
from iosfarm.zoo.weights import expected_weights

network: Callable[[str], Graph] = cache(load)


def parameters(graph: Graph) -> int:
    total = 0
    for shape in expected_weights(graph).values():
        size = 1
        for length in shape:
            size *= length
        total += size
    return total


def folded_channels(graph: Graph) -> int:
    """A batch norm has two parameters a channel; folded, one: the bias of its convolution."""
    return sum(
        int(str(operator.attributes["out_channels"]))
        for operator in graph.operators
        if operator.kind == "conv2d" and operator.attributes["bias"]
    )


OTHERS = {"sample"}  # networks that are not classifiers of 1000 classes


@pytest.mark.parametrize("name", [name for name in NETWORKS if name not in OTHERS])
def test_classifies_into_1000(name: str) -> None:
    graph = network(name)
    assert [graph.shape(output) for output in graph.outputs] == [(1, 1000)]
    assert graph.bind(batch=16).shape(graph.outputs[0]) == (16, 1000)
    assert Graph.from_json(graph.to_json()) == graph


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("alexnet", 61_100_840),  # torchvision
        ("vgg16", 138_357_544),  # torchvision
        ("googlenet", 6_998_552),  # the Caffe reference model without auxiliary classifiers
        # torchvision's squeezenet1_0, and four 1x1 bypasses
        ("squeezenet", 1_248_424 + sum(i * o + o for i, o in ((96, 128), (128, 256), (256, 384), (384, 512)))),
    ],
)
def test_parameters_without_batch_norm(name: str, published: int) -> None:
    assert parameters(network(name)) == published


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("resnet18", 11_689_512),
        ("resnet34", 21_797_672),
        ("resnet50", 25_557_032),
        ("inception_v3", 23_834_568),  # torchvision, all of them; this one without the auxiliary classifier
        ("nasnet_large", 88_753_150),  # the usual PyTorch port
    ],
)
def test_parameters_with_batch_norm_folded(name: str, published: int) -> None:
    graph = network(name)
    assert parameters(graph) + folded_channels(graph) == published


@pytest.mark.parametrize(("channels", "millions"), [(109, 31.9), (154, 61.5)])
def test_parameters_of_randwire(channels: int, millions: float) -> None:
    """Table 5 of the RandWire paper, a mean over random networks."""
    graph = load("randwire", channels=channels)
    assert (parameters(graph) + folded_channels(graph)) / 1e6 == pytest.approx(millions, rel=0.01)


@pytest.mark.parametrize(
    ("name", "units"), [("inception_v3", 119), ("randwire", 120), ("nasnet_large", 374), ("squeezenet", 50)]
)
def test_units(name: str, units: int) -> None:
    assert len(network(name).units) == units


@needs_reference
def test_units_are_those_of_table_2() -> None:
    operators = {name: count for name, count in reference("paper.json")["table2"].items() if name != "what"}
    assert {name: len(network(name).units) for name in operators} == operators


@needs_reference
@pytest.mark.parametrize("name", ["inception_v3", "squeezenet", "nasnet_large", "nasnet_large ios", "randwire"])
def test_parts_fall_into_the_reference_chains(name: str) -> None:
    if name == "randwire":
        graph = load(name, edge_lists=EDGE_LISTS)
    else:
        graph = load("nasnet_large", wiring="ios") if name == "nasnet_large ios" else network(name)
    parts = reference("counts.json")["parts"][graph.name]
    for part, (_, chains) in zip(regions(graph, [size for size, _ in parts]), parts, strict=True):
        assert chains in decompositions(part.predecessors()), part.index


TABLE_1 = {
    "inception_v3": (lambda: network("inception_v3"), 10),
    "squeezenet": (lambda: network("squeezenet"), 1),
    "randwire": (lambda: load("randwire", edge_lists=EDGE_LISTS), 3),
    "nasnet_large": (lambda: load("nasnet_large", wiring="ios"), 3),
}


@needs_reference
@pytest.mark.parametrize("name", TABLE_1)
def test_search_space_is_that_of_table_1(name: str) -> None:
    make, index = TABLE_1[name]
    expected = reference("paper.json")["table1"][name]
    part = regions(make(), [size for size, _ in reference("counts.json")["parts"][name]])[index]
    settings = SpaceSettings(max_group_size=None, max_groups=None, strategies=("concurrent",), endings="paper")
    space = StateSpace(part.predecessors(), settings)
    assert len(part.units) == expected["n"]
    assert len(space.next_of) == expected["transitions"]
    assert space.schedule_count() == pytest.approx(expected["schedules"], rel=5e-4)


def test_wirings_of_nasnet_differ_in_the_first_cells_only() -> None:
    published, ios = load("nasnet_large"), load("nasnet_large", wiring="ios")
    differing = [
        i for i, (a, b) in enumerate(zip(published.unit_predecessors, ios.unit_predecessors, strict=True)) if a != b
    ]
    assert len(differing) == 3
    assert parameters(published) == parameters(ios)


def test_nasnet_output_has_4032_channels() -> None:
    graph = network("nasnet_large")
    assert max(shape[1] for shape in graph.shapes.values()) == 4032
    assert graph.shape(graph.operator(graph.units[-2].operators[0]).inputs[0]) == (1, 4032, 11, 11)


def test_sample_is_three_branches() -> None:
    graph = network("sample")
    assert graph.unit_predecessors == ((), (0,), (), (), (1, 2, 3))
    flops = sorted(graph.flops(o) for o in graph.operators if o.kind == "conv2d")
    assert [round(f / 1e9, 1) for f in flops] == [0.6, 0.6, 1.2, 1.2]


def test_smaller_images_and_fewer_classes() -> None:
    graph = load("squeezenet", classes=10, image_size=64)
    assert graph.shape(graph.outputs[0]) == (1, 10)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_argument_has_a_type_and_a_default(name: str) -> None:
    arguments = inspect.signature(NETWORKS[name].factory).parameters
    assert set(typing.get_type_hints(NETWORKS[name].factory)) - {"return"} == set(arguments)
    assert [argument for argument, kind in arguments.items() if kind.default is kind.empty] == []
    assert load(name).name == name


@pytest.mark.parametrize(
    ("model", "arguments", "line"),
    [
        ("squeeznet", {}, "unknown model 'squeeznet'; did you mean squeezenet?"),
        ("squeezenet", {"classses": 3}, "squeezenet has no argument 'classses'; did you mean classes?"),
        ("squeezenet", {"classes": "ten"}, "squeezenet: classes is 'ten'; expected an integer"),
        ("nasnet_large", {"wiring": "other"}, "nasnet_large: wiring is 'other'; expected 'published' or 'ios'"),
        ("randwire", {"seed": -1}, "a seed of [-1, 0]; use 0 or more"),
        ("randwire", {"edge_lists": ["a.txt"]}, "randwire: 1 edge lists; give four, one for each stage"),
        (3, {}, "a builtins.int is no network; give the name of a built-in model, the path of a graph .json, an .onnx"
         " or a .pt2 file, or a torch module"),
        ("net.onnx", {}, "net.onnx: cannot read this file: No such file or directory"),
        ("missing.json", {}, "missing.json: cannot read this graph: No such file or directory"),
    ],
)  # fmt: skip
def test_wrong_models(model: object, arguments: dict[str, object], line: str) -> None:
    with pytest.raises(UsageError) as error:
        load(model, **arguments)
    assert str(error.value) == line


@pytest.mark.parametrize("arguments", [{"image_size": 0}, {"image_size": 8}, {"classes": 0}])
def test_sizes_that_cannot_be(arguments: dict[str, object]) -> None:
    with pytest.raises(GraphError):
        load("inception_v3", **arguments)
