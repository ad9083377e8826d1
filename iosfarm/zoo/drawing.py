"""A graph's units as text, SVG or DOT."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from iosfarm.ir.graph import Graph, Operator, Unit

_BOX_WIDTH, _BOX_HEIGHT = 190, 34
_GAP_X, _GAP_Y, _MARGIN = 18, 40, 20
_LONGEST = 30  # characters in a box
_SWEEPS = 4
_COLOURS = {"conv2d": "#d6e6f7", "pool": "#fbe6c8", "add": "#dff0d8", "concat": "#e9dff2", "linear": "#f7d6d6"}


def operator_words(graph: Graph, operator: Operator) -> str:
    """A few words: `conv2d 3x3 64→96 /2`."""
    words = operator.kind
    kernel, stride = operator.attributes.get("kernel"), operator.attributes.get("stride")
    if isinstance(kernel, tuple):
        words += f" {kernel[0]}x{kernel[1]}"
    before, after = graph.input_shapes(operator)[0], graph.shape(operator.name)
    if operator.kind in ("conv2d", "linear"):
        words += f" {before[1]}→{after[1]}"
    if isinstance(stride, tuple) and max(stride) > 1:
        words += f" /{max(stride)}"
    return words


def unit_words(graph: Graph, unit: Unit) -> str:
    """The words of a unit's operators, in order."""
    return ", ".join(operator_words(graph, graph.operator(name)) for name in unit.operators)


def shape_words(shape: Sequence[int]) -> str:
    """A shape without its batch: `64x112x112`."""
    return "x".join(map(str, shape[1:]))


def as_text(graph: Graph, parts: Sequence[Sequence[int]]) -> str:
    """A line for each unit, part by part: number, what it is, which units it reads, output shape."""
    lines = [f"{item.name}  {shape_words(graph.shape(item.name))}" for item in graph.inputs]
    for number, part in enumerate(parts):
        lines += ["", f"part {number}, {len(part)} unit{'s' if len(part) > 1 else ''}"]
        for unit in part:
            shape = shape_words(graph.shape(graph.units[unit].operators[-1]))
            reads = ", ".join(_source(graph, name) for name in graph.unit_inputs[unit])
            lines.append(f"  {unit:>3}  {unit_words(graph, graph.units[unit])}  ({shape})  ← {reads}")
    return "\n".join(lines) + "\n"


def as_dot(graph: Graph) -> str:
    """A Graphviz document."""
    lines = [f'digraph "{graph.name}" {{', "  node [shape=box, fontname=Helvetica];"]
    lines += [f'  "{item.name}" [shape=ellipse];' for item in graph.inputs]
    for number, unit in enumerate(graph.units):
        lines.append(f'  u{number} [label="{number} {unit_words(graph, unit)}"];')
        for name in graph.unit_inputs[number]:
            source = f"u{graph.unit_of[name]}" if name in graph.unit_of else f'"{name}"'
            lines.append(f"  {source} -> u{number};")
    return "\n".join([*lines, "}"]) + "\n"


def as_svg(graph: Graph) -> str:
    """An SVG document: units in layers from top to bottom, a unit below everything that it reads."""
    rows = layers(graph)
    widest = max(len(row) for row in rows)
    width = widest * (_BOX_WIDTH + _GAP_X) - _GAP_X + 2 * _MARGIN
    height = len(rows) * (_BOX_HEIGHT + _GAP_Y) - _GAP_Y + 2 * _MARGIN
    place: dict[int, tuple[float, float]] = {}
    for row, layer in enumerate(rows):
        left = (width - len(layer) * (_BOX_WIDTH + _GAP_X) + _GAP_X) / 2
        for column, unit in enumerate(layer):
            place[unit] = (left + column * (_BOX_WIDTH + _GAP_X), _MARGIN + row * (_BOX_HEIGHT + _GAP_Y))
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
        ' font-family="Helvetica, Arial, sans-serif" font-size="11">',
        f"<title>{escape(graph.name)}</title>",
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for unit, sources in enumerate(graph.unit_predecessors):
        lines += [_edge(place[source], place[unit]) for source in sources]
    lines += [_box(graph, unit, *place[unit]) for unit in range(len(graph.units))]
    return "\n".join([*lines, "</svg>"]) + "\n"


def _source(graph: Graph, name: str) -> str:
    return str(graph.unit_of[name]) if name in graph.unit_of else name


def layers(graph: Graph) -> list[list[int]]:
    """Units by longest path from the inputs, each layer ordered by where its neighbours are (barycentre method)."""
    before = graph.unit_predecessors
    after: list[list[int]] = [[] for _ in before]
    depth: list[int] = []
    for unit, sources in enumerate(before):
        depth.append(max((depth[s] + 1 for s in sources), default=0))
        for source in sources:
            after[source].append(unit)
    rows: list[list[int]] = [[] for _ in range(max(depth) + 1)]
    for unit, row in enumerate(depth):
        rows[row].append(unit)
    for sweep in range(_SWEEPS):
        position = {unit: (i + 0.5) / len(layer) for layer in rows for i, unit in enumerate(layer)}
        downwards = sweep % 2 == 0
        for layer in rows if downwards else reversed(rows):
            weight = {}
            for unit in layer:
                near = before[unit] if downwards else after[unit]
                weight[unit] = sum(position[n] for n in near) / len(near) if near else position[unit]
            layer.sort(key=lambda unit: weight[unit])
            position |= {unit: (i + 0.5) / len(layer) for i, unit in enumerate(layer)}
    return rows


def _edge(source: tuple[float, float], target: tuple[float, float]) -> str:
    x1, y1 = source[0] + _BOX_WIDTH / 2, source[1] + _BOX_HEIGHT
    x2, y2 = target[0] + _BOX_WIDTH / 2, target[1]
    bend = max((y2 - y1) / 2, 1)
    path = f"M{x1:g} {y1:g}C{x1:g} {y1 + bend:g} {x2:g} {y2 - bend:g} {x2:g} {y2:g}"
    return f'<path d="{path}" fill="none" stroke="#888"/>'


def _box(graph: Graph, number: int, x: float, y: float) -> str:
    unit = graph.units[number]
    words = unit_words(graph, unit)
    short = words if len(words) <= _LONGEST else words[: _LONGEST - 1] + "…"
    last = graph.operator(unit.operators[-1]).kind
    colour = next((colour for kind, colour in _COLOURS.items() if last.endswith(kind)), "#eeeeee")
    middle = x + _BOX_WIDTH / 2
    shape = shape_words(graph.shape(unit.operators[-1]))
    return (
        f"<g><title>{escape(f'{number} {unit.name}: {words}')}</title>"
        f'<rect x="{x:g}" y="{y:g}" width="{_BOX_WIDTH}" height="{_BOX_HEIGHT}" rx="4" fill="{colour}" stroke="#555"/>'
        f'<text x="{middle:g}" y="{y + 14:g}" text-anchor="middle">{escape(short)}</text>'
        f'<text x="{middle:g}" y="{y + 27:g}" text-anchor="middle" fill="#555">{number} · {shape}</text></g>'
    )
