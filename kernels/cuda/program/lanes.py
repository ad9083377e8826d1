"""Which stream each step goes on, and putting a whole program on streams, captured or not.

A step continues the stream of a step that it waits for, if that stream has gone no further; else it gets a stream of
its own. So streams add no order that the dependencies do not have, and a graph that is captured from them has the
dependencies as its edges.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from iosfarm.kernels.cuda.device.gpu import Event, Gpu
from iosfarm.kernels.cuda.program.dependencies import Dependencies, ends
from iosfarm.kernels.cuda.program.steps import Lane


@dataclass(frozen=True)
class Placement:
    """lane: of each step, from 0. waits: for each step the steps on other lanes that it waits for. records: the steps
    whose end is an event that others, or the end of the whole, wait for. ends: steps on other lanes than the first that
    the end of the whole waits for.
    """

    lane: tuple[int, ...]
    waits: tuple[tuple[int, ...], ...]
    records: frozenset[int]
    ends: tuple[int, ...]

    @property
    def lanes(self) -> int:
        """How many there are, at least one."""
        return max(self.lane, default=0) + 1


def place(dependencies: Dependencies) -> Placement:
    """Lanes for steps in launch order."""
    lane: list[int] = []
    waits: list[tuple[int, ...]] = []
    tails: list[int] = []  # of each lane: its last step
    for step, needed in enumerate(dependencies):
        free = [n for n in needed if tails[lane[n]] == n]
        if free:
            # The latest of them is the one that will probably end last.
            number = lane[free[-1]]
            tails[number] = step
        else:
            number = len(tails)
            tails.append(step)
        lane.append(number)
        waits.append(tuple(n for n in needed if lane[n] != number))
    finals = tuple(step for step in ends(dependencies) if lane[step] != 0)
    return Placement(tuple(lane), tuple(waits), frozenset({n for each in waits for n in each} | {*finals}), finals)


def enqueue(gpu: Gpu, lanes: Sequence[Lane], placement: Placement, start: Callable[[int], None]) -> list[Event]:
    """Put all steps on the lanes; `start(step)` puts one there. Begins and ends on lane 0.

    Returns the events that order the lanes: they have to live until all has run (or, captured, until the graph is).
    """
    events: dict[int, Event] = {}
    begun = {0}
    first = gpu.event()
    if placement.lanes > 1:
        gpu.record(first, lanes[0].stream)
    for step, number in enumerate(placement.lane):
        stream = lanes[number].stream
        for needed in placement.waits[step]:
            gpu.wait(stream, events[needed])
        if number not in begun and not placement.waits[step]:
            gpu.wait(stream, first)
        begun.add(number)
        start(step)
        if step in placement.records:
            events[step] = gpu.event()
            gpu.record(events[step], stream)
    for step in placement.ends:
        gpu.wait(lanes[0].stream, events[step])
    return [first, *events.values()]
