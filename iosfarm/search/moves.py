"""Moves: one or two neighbouring stages of a schedule replaced by one or two others that compute the same.

They lead out of what the dynamic program of a part can express: across the border of two parts, to mixed stages, and to
groups of units that do not read each other. No move is tied to a device.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import combinations

from iosfarm.ir.graph import Graph
from iosfarm.ir.merge import merge_class
from iosfarm.ir.schedule import mergeable
from iosfarm.search.forms import Form, Move, Stream

MOST_SUBSETS = 4
"""Of up to so many groups that can be merged all subsets are tried, of more: pairs, equal kernels, and all of them."""


class Neighbourhood:
    """The moves from schedules of one graph.

    homes: the part that each unit comes from. max_groups: most groups of a new stage, None is no limit.
    max_group_size: that of the search which made the stages; it has weighed no longer groups. inside: also moves that
    such a search has weighed, between neighbours of one part.
    """

    def __init__(
        self,
        graph: Graph,
        homes: Sequence[int],
        *,
        max_groups: int | None,
        max_group_size: int | None,
        inside: bool,
    ) -> None:
        self._graph = graph
        self._homes = homes
        self._max_groups = max_groups
        self._max_group_size = math.inf if max_group_size is None else max_group_size
        self._inside = inside
        self._before = [frozenset(units) for units in graph.unit_predecessors]
        self._classes = [merge_class(graph, unit) for unit in range(len(graph.units))]

    def moves(self, forms: Sequence[Form]) -> Iterator[Move]:
        """All moves from a sequence of stages, each once."""
        seen: set[object] = set()
        for position in range(len(forms)):
            for move in self._at(position, forms[position : position + 2]):
                identity = (position, move.replaced, tuple(frozenset(form.streams) for form in move.forms))
                if identity not in seen:
                    seen.add(identity)
                    yield move

    def _at(self, position: int, stages: Sequence[Form]) -> Iterator[Move]:
        first, *others = stages
        options = [*self._merged(first), *self._split(first), *self._serial(first)]
        for streams, words in options:
            yield from self._move(position, (first,), [(first.part, streams)], f"stage {position}: {words}")
        for second in others:
            where = f"stages {position} and {position + 1}"
            for left, right, words in [
                *self._earlier(first.streams, second.streams),
                *self._later(first.streams, second.streams),
                *self._together(first.streams, second.streams),
            ]:
                pair = [(first.part, left), (second.part, right)]
                yield from self._move(position, (first, second), pair, f"{where}: {words}")

    def _move(
        self,
        position: int,
        old: Sequence[Form],
        stages: Sequence[tuple[int, Sequence[Stream]]],
        words: str,
    ) -> Iterator[Move]:
        forms = [Form(part, self._normal(streams)) for part, streams in stages if streams]
        most = self._max_groups
        if most is not None and any(len(form.streams) > most for form in forms):
            return
        if self._inside or self._is_beyond(old, forms):
            yield Move(position, len(old), tuple(forms), words)

    def _normal(self, streams: Sequence[Stream]) -> tuple[Stream, ...]:
        """In a mixed stage all is merged that can be, whatever was meant."""
        if len(streams) > 1 and any(stream.merged for stream in streams):
            return tuple(Stream(s.units, s.merged or self._mergeable(s.units)) for s in streams)
        return tuple(streams)

    def _is_beyond(self, old: Sequence[Form], forms: Sequence[Form]) -> bool:
        """Whether no dynamic program of one part has weighed this."""
        if len({self._homes[unit] for form in old for unit in form.units}) > 1:
            return True
        kept = {stream for form in old for stream in form.streams}
        return any(
            form.strategy == "mixed"
            or any(not s.merged and s not in kept and self._is_other_group(s) for s in form.streams)
            for form in forms
        )

    def _is_other_group(self, stream: Stream) -> bool:
        return len(stream.units) > self._max_group_size or not self._connected(stream)

    # -- within one stage ----------------------------------------------------------------------------------------

    def _merged(self, form: Form) -> Iterator[tuple[Sequence[Stream], str]]:
        """Convolutions that have a group each, or are merged already, become one."""
        classes: dict[object, list[Stream]] = {}
        for stream in form.streams:
            kind = self._classes[stream.units[0]]
            if kind is not None and (stream.merged or len(stream.units) == 1):
                classes.setdefault(kind, []).append(stream)
        for streams in classes.values():
            for chosen in self._subsets(streams):
                units = _units(chosen)
                if self._mergeable(units):
                    rest = [stream for stream in form.streams if stream not in chosen]
                    yield [*rest, Stream(units, True)], f"{self._names(units)} merged{_beside(rest)}"

    def _subsets(self, streams: Sequence[Stream]) -> Iterator[tuple[Stream, ...]]:
        if len(streams) <= MOST_SUBSETS:
            for size in range(2, len(streams) + 1):
                yield from combinations(streams, size)
            return
        yield tuple(streams)
        kernels: dict[object, list[Stream]] = {}
        for stream in streams:
            kernels.setdefault(self._kernels(stream), []).append(stream)
        for alike in kernels.values():
            if 2 < len(alike) < len(streams):
                yield tuple(alike)
        yield from combinations(streams, 2)

    def _kernels(self, stream: Stream) -> frozenset[object]:
        operators = (self._graph.operator(self._graph.units[unit].operators[0]) for unit in stream.units)
        return frozenset(operator.attributes["kernel"] for operator in operators)

    def _split(self, form: Form) -> Iterator[tuple[Sequence[Stream], str]]:
        """A unit leaves a merged group, or the kernels of one size do."""
        for stream in form.streams:
            if not stream.merged:
                continue
            rest = [other for other in form.streams if other != stream]
            leaving: set[tuple[int, ...]] = {(unit,) for unit in stream.units}
            kernels: dict[object, list[int]] = {}
            for unit in stream.units:
                kernels.setdefault(self._kernels(Stream((unit,))), []).append(unit)
            if len(kernels) > 1:
                leaving |= {tuple(units) for units in kernels.values()}
            for units in sorted(leaving):
                streams = [*rest, *self._without(stream, units), Stream(units, len(units) > 1)]
                yield streams, f"{self._names(units)} not merged with the others"

    def _serial(self, form: Form) -> Iterator[tuple[Sequence[Stream], str]]:
        """Two groups run on one stream, one after the other."""
        for one, other in combinations([stream for stream in form.streams if not stream.merged], 2):
            rest = [stream for stream in form.streams if stream not in (one, other)]
            words = f"{self._names(one.units)} and {self._names(other.units)} on one stream"
            yield [*rest, Stream(_units([one, other]))], words

    # -- between two stages --------------------------------------------------------------------------------------

    def _earlier(
        self, first: Sequence[Stream], second: Sequence[Stream]
    ) -> Iterator[tuple[Sequence[Stream], Sequence[Stream], str]]:
        """A unit or group of the second stage joins the first."""
        for moved, stream in _movable(second):
            right = [*(s for s in second if s != stream), *self._without(stream, moved.units)]
            needed = frozenset().union(*(self._before[unit] for unit in moved.units)) - set(moved.units)
            if any(needed & set(s.units) for s in right):
                continue
            touched = [s for s in first if needed & set(s.units)]
            for left, words in self._placed(moved, first, touched):
                yield left, right, f"{self._names(moved.units)} runs in the first, {words}"

    def _later(
        self, first: Sequence[Stream], second: Sequence[Stream]
    ) -> Iterator[tuple[Sequence[Stream], Sequence[Stream], str]]:
        """A unit or group of the first stage is put off to the second."""
        for moved, stream in _movable(first):
            left = [*(s for s in first if s != stream), *self._without(stream, moved.units)]
            if any(self._reads(s, moved) for s in left):
                continue
            touched = [s for s in second if self._reads(s, moved)]
            for right, words in self._placed(moved, second, touched):
                yield left, right, f"{self._names(moved.units)} is put off to the second, {words}"

    def _placed(
        self, moved: Stream, streams: Sequence[Stream], touched: Sequence[Stream]
    ) -> Iterator[tuple[Sequence[Stream], str]]:
        """Where `moved` can stand beside `streams`; `touched` are those of them that it reads or that read it."""
        if touched:
            if not any(stream.merged for stream in (moved, *touched)):
                yield _joined(streams, touched, moved), f"in the group of {self._names(_units(touched))}"
            return
        yield [*streams, moved], "in a group of its own"
        kind = self._classes[moved.units[0]]
        for stream in streams:
            if (moved.merged or len(moved.units) == 1) and kind is not None and self._classes[stream.units[0]] == kind:
                units = _units([stream, moved])
                if self._mergeable(units):
                    rest = [s for s in streams if s != stream]
                    yield [*rest, Stream(units, True)], f"merged with {self._names(stream.units)}"
        unmerged = [stream for stream in streams if not stream.merged]
        if unmerged and not moved.merged:
            stream = min(unmerged, key=lambda s: (len(s.units), s.units))
            yield _joined(streams, [stream], moved), f"on the stream of {self._names(stream.units)}"

    def _together(
        self, first: Sequence[Stream], second: Sequence[Stream]
    ) -> Iterator[tuple[Sequence[Stream], Sequence[Stream], str]]:
        """The second stage as a whole joins the first, each group behind the one that it reads."""
        streams = list(first)
        for moved in second:
            needed = frozenset().union(*(self._before[unit] for unit in moved.units))
            touched = [stream for stream in streams if needed & set(stream.units)]
            if not touched:
                streams.append(moved)
            elif any(stream.merged for stream in (moved, *touched)):
                return
            else:
                streams = _joined(streams, touched, moved)
        yield streams, (), "both at once"

    # -- small things --------------------------------------------------------------------------------------------

    def _without(self, stream: Stream, units: Sequence[int]) -> list[Stream]:
        left = tuple(unit for unit in stream.units if unit not in units)
        return [Stream(left, stream.merged and len(left) > 1)] if left else []

    def _reads(self, stream: Stream, moved: Stream) -> bool:
        return any(self._before[unit] & set(moved.units) for unit in stream.units)

    def _mergeable(self, units: Sequence[int]) -> bool:
        return self._classes[units[0]] is not None and mergeable(self._graph, units)

    def _connected(self, stream: Stream) -> bool:
        left = set(stream.units[1:])
        reached = [stream.units[0]]
        for unit in reached:
            near = {other for other in left if other in self._before[unit] or unit in self._before[other]}
            left -= near
            reached += near
        return not left

    def _names(self, units: Sequence[int]) -> str:
        return ", ".join(self._graph.units[unit].name for unit in units)


def _movable(streams: Sequence[Stream]) -> Iterator[tuple[Stream, Stream]]:
    """Whole groups and single units, each with the group that it is of."""
    for stream in streams:
        yield stream, stream
        if len(stream.units) > 1:
            for unit in stream.units:
                yield Stream((unit,)), stream


def _joined(streams: Sequence[Stream], touched: Sequence[Stream], moved: Stream) -> list[Stream]:
    return [*(s for s in streams if s not in touched), Stream(_units([*touched, moved]))]


def _units(streams: Sequence[Stream]) -> tuple[int, ...]:
    return tuple(sorted(unit for stream in streams for unit in stream.units))


def _beside(rest: Sequence[Stream]) -> str:
    return " beside the rest" if rest else ""
