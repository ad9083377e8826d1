"""A schedule as an SVG: time from left to right, one row for each group, one colour for each kind of operator."""

from __future__ import annotations

import hashlib
from xml.sax.saxutils import escape, quoteattr

from iosfarm.farm.schedules.schedule_format import ScheduleFile
from iosfarm.ir.graph import Graph
from iosfarm.ir.schedule import mergeable

WIDTH, ROW, LEFT, TOP = 1200, 34, 10, 44


def draw_svg(content: ScheduleFile, graph: Graph, part: int | None = None) -> str:
    """The stages of a schedule, or of one part, as a stand-alone SVG document.

    A stage is as wide as its predicted latency; where one is unknown all are equally wide. How its groups and units
    share that width follows from their floating-point operations and bytes: an estimate, not a measurement.
    """
    stages = [stage for stage in content.stages if part in (None, stage.part)]
    known = all(stage.predicted for stage in stages)
    widths = [stage.predicted if known and stage.predicted else 1.0 for stage in stages]
    scale = (WIDTH - 2 * LEFT) / sum(widths)
    rows = max(len(stage.groups) for stage in stages)
    height = TOP + rows * ROW + 40
    title = f"{content.model}, batch {content.batch}, on {content.device.spec}: {content.chosen}"
    shapes = [f'<text x="{LEFT}" y="18" font-size="14">{escape(title)}</text>']
    if known:
        shapes.append(f'<text x="{LEFT}" y="{height - 8}">0 ms</text>')
        end = f"{sum(widths) * 1e3:.3f} ms"
        shapes.append(f'<text x="{WIDTH - LEFT}" y="{height - 8}" text-anchor="end">{end}</text>')
    index = {unit.name: number for number, unit in enumerate(graph.units)}
    x = float(LEFT)
    for stage, width in zip(stages, widths, strict=True):
        wide = width * scale
        shapes.append(f'<line x1="{x:.1f}" y1="{TOP - 8}" x2="{x:.1f}" y2="{height - 24}" stroke="#999"/>')
        weights = [[unit_weight(graph, name) for name in names] for names in stage.groups]
        longest = max(map(sum, weights))
        for row, names in enumerate(stage.groups):
            left = x
            mixed = stage.strategy == "mixed" and mergeable(graph, [index[name] for name in names])
            merged = mixed or stage.strategy == "merge"
            for name, weight in zip(names, weights[row], strict=True):
                share = wide * weight / longest
                shapes.append(_box(graph, name, merged, left, TOP + row * ROW, share))
                left += share
        x += wide
    body = "\n".join(shapes)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
        f'role="img" aria-label={quoteattr(title)} font-family="sans-serif" font-size="11">\n'
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>\n{body}\n</svg>\n'
    )


def unit_weight(graph: Graph, unit_name: str) -> float:
    """How long a unit may take, in no unit of measurement: from its floating-point operations and bytes."""
    unit = next(unit for unit in graph.units if unit.name == unit_name)
    operators = [graph.operator(name) for name in unit.operators]
    elements = sum(_size(graph.shape(o.name)) for o in operators)
    return float(sum(graph.flops(o) for o in operators) + 40 * elements)


def _size(shape: tuple[int, ...]) -> int:
    total = 1
    for length in shape:
        total *= length
    return total


def _box(graph: Graph, unit_name: str, merged: bool, x: float, y: float, width: float) -> str:
    unit = next(unit for unit in graph.units if unit.name == unit_name)
    kinds = " → ".join(graph.operator(name).kind for name in unit.operators)
    colour = f"hsl({int(hashlib.sha256(kinds.encode()).hexdigest(), 16) % 360},55%,80%)"
    dash = ' stroke-dasharray="4 2"' if merged else ""
    note = ", merged" if merged else ""
    room = int((width - 8) / 6.5)
    label = unit_name if len(unit_name) <= room else unit_name[: max(room - 1, 0)] + "…" if room > 2 else ""
    return (
        f"<g><title>{escape(f'{unit_name}: {kinds}{note}')}</title>"
        f'<rect x="{x + 1:.1f}" y="{y}" width="{max(width - 2, 0.5):.1f}" height="{ROW - 6}" rx="3" '
        f'fill="{colour}" stroke="#555"{dash}/><text x="{x + 5:.1f}" y="{y + 18}">{escape(label)}</text></g>'
    )
