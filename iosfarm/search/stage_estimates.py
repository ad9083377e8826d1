"""What a stage that was not measured costs at least, and what to expect of it: to rank moves by."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import median

from iosfarm.ir.graph import Graph
from iosfarm.ir.key import PlacedStage, StageFactory
from iosfarm.ir.merge import merged_convolution
from iosfarm.search.forms import Form, Stream

MARGIN = 0.03
"""A stage is not faster than a measured one that it contains, but for this share, which is noise."""


class StageEstimates:
    """Latencies in seconds of the stages of one graph, in forms.

    seconds: key -> latency, None where it is unknown, infinite where the stage cannot run.

    Expected of a group: its units' latencies alone, less what each after the first saves by not being a stage of its
    own. Of a merged one: its longest unit, with its kernel padded, and a share of the others'. Of several groups: the
    longest and a share of the others'. What is saved and shared is learnt from stages that are known. A unit that was
    never measured alone is taken to cost its share of a stage that was.
    """

    def __init__(self, graph: Graph, factory: StageFactory, seconds: Callable[[str], float | None]) -> None:
        self._graph = graph
        self._factory = factory
        self._seconds = seconds
        self._placed: dict[Form, PlacedStage] = {}
        self._units: dict[int, float] = {}
        self._saved = 0.0
        self._hidden = 0.5

    def place(self, form: Form) -> PlacedStage:
        """The stage of a form, made once."""
        placed = self._placed.get(form)
        if placed is None:
            placed = self._placed[form] = self._factory.make(form.groups, form.strategy)
        return placed

    def known(self, form: Form) -> float | None:
        """Latency, None where it is unknown."""
        return self._seconds(self.place(form).key)

    def at_least(self, form: Form, old: Sequence[Form]) -> float:
        """No less than what was measured of it: its units alone, its groups alone, and those `old` stages that it
        contains.
        """
        parts = [Form(0, (stream,)) for stream in form.streams]
        parts += [Form(0, (Stream((unit,)),)) for unit in form.units]
        parts += [stage for stage in old if _contains(form, stage)]
        known = [self.known(part) for part in parts]
        return (1 - MARGIN) * max((s for s in known if s is not None), default=0.0)

    def learn(self, forms: Sequence[Form]) -> None:
        """Learn from stages; those whose latency is unknown tell nothing."""
        latencies = [(form, self.known(form)) for form in forms]
        known = [(form, s) for form, s in latencies if s is not None and math.isfinite(s)]
        self._units = {}
        for form, seconds in known:
            longest = max(map(self._work, form.streams))
            for unit in form.units:
                alone = self.known(Form(0, (Stream((unit,)),)))
                if alone is None or not math.isfinite(alone):
                    alone = seconds * self._unit_work(unit) / longest
                self._units[unit] = alone
        if not self._units:
            return
        # Each unit alone is a whole stage: what a stage costs at all is no more than the least of them.
        self._saved = min(self._units.values()) / 2
        saved = [
            (sum(self._units[unit] for unit in form.units) - seconds) / (len(form.units) - 1)
            for form, seconds in known
            if len(form.streams) == 1 and form.strategy == "concurrent" and len(form.units) > 1
        ]
        if saved:
            self._saved = min(max(median(saved), 0.0), min(self._units.values()))
        shares = []
        for form, seconds in known:
            if len(form.streams) > 1:
                alone_each = [self._stream(stream) for stream in form.streams]
                others = sum(alone_each) - max(alone_each)
                shares.append((seconds - max(alone_each)) / max(others, 1e-12))
        if shares:
            self._hidden = min(max(median(shares), 0.0), 1.0)

    def expected(self, form: Form) -> float:
        """The known latency or an estimate; infinite where a unit is in no stage that is known."""
        known = self.known(form)
        if known is not None:
            return known
        if not form.units <= self._units.keys():
            return math.inf
        return self._beside([self._stream(stream) for stream in form.streams])

    def _stream(self, stream: Stream) -> float:
        known = self.known(Form(0, (stream,)))
        if known is not None and math.isfinite(known):
            return known
        own = [max(self._units[unit] - self._saved, 0.0) for unit in stream.units]
        if not stream.merged:
            return self._saved + sum(own)
        padded = [work * share for work, share in zip(own, self._padding(stream), strict=True)]
        return self._saved + self._beside(padded)

    def _beside(self, seconds: Sequence[float]) -> float:
        return max(seconds) + self._hidden * (sum(seconds) - max(seconds))

    def _padding(self, stream: Stream) -> list[float]:
        """By how much the kernel of each convolution grows when all are merged."""
        operators = [self._graph.operator(self._graph.units[unit].operators[0]) for unit in stream.units]
        height, width = self._graph.shape(operators[0].inputs[0])[2:]
        merged = merged_convolution([o.attributes for o in operators], (height, width))
        assert merged is not None
        kernels = [o.attributes["kernel"] for o in operators]
        return [math.prod(merged.kernel) / math.prod(k) for k in kernels if isinstance(k, tuple)]

    def _work(self, stream: Stream) -> float:
        return sum(map(self._unit_work, stream.units))

    def _unit_work(self, unit: int) -> float:
        # As `iosfarm.ir.stage_groups` orders groups: a floating-point operation costs what a tenth of a byte does.
        return float(self._factory.unit_flops[unit] + 10 * self._factory.unit_bytes[unit])


def _contains(form: Form, other: Form) -> bool:
    """Whether each group of the other lies in a group of the form that is run alike, no two in the same."""
    places = []
    for stream in other.streams:
        inside = [s for s in form.streams if set(stream.units) <= set(s.units)]
        if not inside or (inside[0].merged != stream.merged and len(stream.units) > 1):
            return False
        places.append(inside[0])
    return len(set(places)) == len(places)
