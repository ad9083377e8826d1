"""`iosfarm models`: the built-in networks, and what any network looks like to the search."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypedDict

import typer

if TYPE_CHECKING:
    from iosfarm.ir.graph import Graph
    from iosfarm.search.parts import Part
    from iosfarm.zoo.load import Network

app = typer.Typer(
    help="List, show and draw networks.",
    epilog="Example: iosfarm models list",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Model = Annotated[
    str, typer.Argument(metavar="NAME", help="A built-in model, or the path of a graph .json, an .onnx or a .pt2 file.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
PartSize = Annotated[
    int | None,
    typer.Option("--max-part-size", help="Cut blocks with more units than this.", show_default="64"),
]


Bind = Annotated[
    list[str] | None,
    typer.Option("--bind", metavar="AXIS=SIZE", help="The size of a dynamic axis of an .onnx file; can be repeated."),
]


@app.command("list")
def list_models(as_json: Json = False) -> None:
    """List the built-in networks. GFLOPs are for batch 1; a multiply-add counts as two.

    Example: iosfarm models list
    """
    from iosfarm.cli.output import print_json, print_table
    from iosfarm.zoo.registry import NETWORKS

    rows: list[_Row] = [
        {**_summary(network.factory()), "description": network.description, "source": network.source}
        for network in NETWORKS.values()
    ]
    if as_json:
        print_json(rows)
        return
    print_table(
        ("name", "units", "parameters", "GFLOPs", "input", "description", "source"),
        [
            (
                row["name"],
                row["units"],
                _millions(row["parameters"]),
                row["gflops"],
                row["input"],
                row["description"],
                row["source"],
            )
            for row in rows
        ],
    )


@app.command("show")
def show(model: Model, max_part_size: PartSize = None, bind: Bind = None, as_json: Json = False) -> None:
    """Show a network's parts (what one search solves each), its operators and its arguments.

    Example: iosfarm models show inception_v3
    """
    from iosfarm.cli.output import print_json, print_table
    from iosfarm.search.chains import chain_decomposition, width
    from iosfarm.zoo.drawing import shape_words

    network = _load(model, bind)
    graph = network.graph
    parts: list[_PartRow] = [
        {
            "part": part.index,
            "units": len(part.units),
            "width": width(part),
            "chains": chain_decomposition(part),
            "gflops": sum(graph.flops(graph.operator(o)) for u in part.units for o in graph.units[u].operators) / 1e9,
            "output": shape_words(graph.shape(graph.units[part.units[-1]].operators[-1])),
        }
        for part in _cut(graph, max_part_size)
    ]
    kinds = dict(Counter(operator.kind for operator in graph.operators).most_common())
    about, arguments = _summary(graph), _arguments(model)
    if as_json:
        extra = {"operators": kinds, "arguments": arguments, "hash": graph.content_hash}
        extra["notices"] = list(network.notices)
        print_json({**about, **extra, "parts": parts})
        return
    typer.echo(
        f"{graph.name}: {about['units']} units, {len(graph.operators)} operators, "
        f"{_millions(about['parameters'])} parameters, {_flops(about['gflops'])}; "
        f"input {about['input']}, output {about['output']}"
    )
    if arguments:
        typer.echo("arguments: " + ", ".join(f"{name}={value!r}" for name, value in arguments.items()))
    print_table(
        ("part", "units", "width", "chains", "GFLOPs", "output"),
        [
            (row["part"], row["units"], row["width"], " ".join(map(str, row["chains"])), row["gflops"], row["output"])
            for row in parts
        ],
    )
    print()
    print_table(("operator", "count"), kinds.items())


@app.command("draw")
def draw(
    model: Model,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write .svg, .dot or .txt instead of printing text.")
    ] = None,
    max_part_size: PartSize = None,
    bind: Bind = None,
    as_json: Json = False,
) -> None:
    """Draw a network's units: what reads from what, part by part.

    With --json the graph document itself is printed, which every command that takes a model reads back.

    Example: iosfarm models draw squeezenet --out squeezenet.svg
    """
    from iosfarm.cli.output import print_json
    from iosfarm.ir.errors import UsageError
    from iosfarm.zoo.drawing import as_dot, as_svg, as_text

    formats: dict[str, Callable[[Graph], str]] = {
        ".svg": as_svg,
        ".dot": as_dot,
        ".txt": lambda g: as_text(g, [part.units for part in _cut(g, max_part_size)]),
    }
    if out is not None and out.suffix not in formats:
        raise UsageError(
            "cannot draw to such a file", where=str(out), hint="use a name that ends in .svg, .dot or .txt"
        )
    graph = _load(model, bind).graph
    if out is not None:
        try:
            out.write_text(formats[out.suffix](graph), encoding="utf-8")
        except OSError as error:
            raise UsageError(f"cannot write it: {error.strerror}", where=str(out)) from None
        typer.echo(f"wrote {out}", err=True)
    if as_json:
        print_json(graph.to_json())
    elif out is None:
        typer.echo(as_text(graph, [part.units for part in _cut(graph, max_part_size)]), nl=False)


class _Summary(TypedDict):
    name: str
    units: int
    parameters: int
    gflops: float
    input: str
    output: str


class _Row(_Summary):
    description: str
    source: str


class _PartRow(TypedDict):
    part: int
    units: int
    width: int
    chains: list[int]
    gflops: float
    output: str


def _summary(graph: Graph) -> _Summary:
    from iosfarm.zoo.drawing import shape_words
    from iosfarm.zoo.weights import expected_weights

    return {
        "name": graph.name,
        "units": len(graph.units),
        "parameters": sum(math.prod(shape) for shape in expected_weights(graph).values()),
        "gflops": sum(graph.flops(operator) for operator in graph.operators) / graph.batch / 1e9,
        "input": ", ".join(shape_words(graph.shape(item.name)) for item in graph.inputs),
        "output": ", ".join(shape_words(graph.shape(name)) for name in graph.outputs),
    }


def _load(model: str, bind: Sequence[str] | None) -> Network:
    """A model, its notices told."""
    from iosfarm.ir.errors import UsageError
    from iosfarm.zoo.load import load_network

    bindings = {}
    for text in bind or ():
        name, _, size = text.partition("=")
        if not name or not size.isdecimal() or int(size) < 1:
            raise UsageError(f"--bind {text}", hint="write AXIS=SIZE, such as height=224")
        bindings[name] = int(size)
    network = load_network(model, bindings=bindings) if bindings else load_network(model)
    for notice in network.notices:
        typer.echo(f"{network.graph.name}: {notice}", err=True)
    return network


def _millions(count: int) -> str:
    """`23.8 M`, `0.003 M`, and what is less as it is."""
    return f"{count / 1e6:.1f} M" if count >= 100_000 else f"{count / 1e6:.3f} M" if count >= 1000 else str(count)


def _flops(gflops: float) -> str:
    """`11.5 GFLOPs`, `297 kFLOPs`."""
    for unit, size in (("G", 1.0), ("M", 1e-3), ("k", 1e-6)):
        if gflops >= size:
            count = gflops / size
            return f"{count:.3g} {unit}FLOPs" if count < 1000 else f"{count:.0f} {unit}FLOPs"
    return f"{gflops * 1e9:.0f} FLOPs"


def _cut(graph: Graph, max_part_size: int | None) -> Sequence[Part]:
    from iosfarm.search.parts import MAX_PART_SIZE, cut

    return cut(graph, max_part_size=MAX_PART_SIZE if max_part_size is None else max_part_size)


def _arguments(model: str) -> dict[str, object]:
    """A built-in network's arguments and their defaults."""
    from inspect import signature

    from iosfarm.zoo.registry import NETWORKS

    if model not in NETWORKS:
        return {}
    return {name: p.default for name, p in signature(NETWORKS[model].factory).parameters.items()}
