"""Programs made up for tests of order, lanes and memory: steps whose calls are never run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import strategies as st

from iosfarm.kernels.cuda.program.parameters import NONE, Block
from iosfarm.kernels.cuda.program.steps import Addresses, Lane, Program, Step, Value


@dataclass(frozen=True)
class NoCall:
    """Computes nothing."""

    name: str = "nothing"
    workspace: int = 0
    parameters: Block = NONE

    def enqueue(self, lane: Lane, reads: Addresses, writes: Addresses, parameters: int, workspace: int) -> None:
        """Never called."""
        raise AssertionError("a step of a made-up program was run")


def step(
    reads: Sequence[int], writes: Sequence[int], stage: int = 0, group: int = 0, scratch: int | None = None
) -> Step:
    """A step that touches these values."""
    return Step(NoCall(), tuple(reads), tuple(writes), scratch, (), stage, group)


def program(steps: Sequence[Step], sizes: Sequence[int], inputs: Sequence[int], outputs: Sequence[int]) -> Program:
    """A program of steps over values of these sizes in bytes."""
    values = tuple(Value((size,), size) for size in sizes)
    return Program(values, tuple(steps), tuple(inputs), tuple(outputs), tuple(values[o].shape for o in outputs))


@st.composite
def programs(draw: st.DrawFn) -> Program:
    """Stages of groups of steps, as schedules have them: a step reads inputs, results of earlier stages and of its own
    group, and writes one value of its own; some have scratch memory.
    """
    sizes = [draw(st.integers(1, 2000)) for _ in range(draw(st.integers(1, 3)))]
    inputs = range(len(sizes))
    known = list(inputs)
    steps: list[Step] = []
    for stage in range(draw(st.integers(1, 5))):
        made: list[int] = []
        for group in range(draw(st.integers(1, 4))):
            own: list[int] = []
            for _ in range(draw(st.integers(1, 3))):
                reads = draw(st.lists(st.sampled_from([*known, *own]), min_size=1, max_size=3, unique=True))
                sizes.append(draw(st.integers(1, 2000)))
                own.append(len(sizes) - 1)
                scratch = None
                if draw(st.booleans()):
                    sizes.append(draw(st.integers(1, 2000)))
                    scratch = len(sizes) - 1
                steps.append(step(reads, [own[-1]], stage, group, scratch))
            made += own
        known += made
    written = [s.writes[0] for s in steps]
    outputs = draw(st.lists(st.sampled_from([*written, *inputs]), min_size=1, max_size=3, unique=True))
    return program(steps, sizes, inputs, outputs)
