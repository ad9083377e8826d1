"""A job, one model × device × batch × dtype, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from iosfarm.farm.executors.executor import DeviceInfo
from iosfarm.ir.graph import Graph
from iosfarm.ir.measurement import Measurement
from iosfarm.ir.schedule import Schedule
from iosfarm.kernels.runtime import Weights
from iosfarm.search.budget import Budget
from iosfarm.search.method import Method
from iosfarm.search.parts import MAX_PART_SIZE
from iosfarm.search.refine import Won
from iosfarm.search.space import SpaceSettings


@dataclass(frozen=True)
class SearchSettings:
    """How to search, and how much to spend. refine: try in the end what the search space does not hold."""

    space: SpaceSettings = field(default_factory=SpaceSettings)
    method: Method = field(default_factory=Method)
    max_part_size: int = MAX_PART_SIZE
    budget: Budget = field(default_factory=Budget)
    refine: bool = True


@dataclass(frozen=True)
class Job:
    """What to search. graph: bound to its batch and dtype. weights None: random ones from `seed`. notices: what every
    answer says of the network.
    """

    label: str
    graph: Graph
    device: str
    settings: SearchSettings = field(default_factory=SearchSettings)
    weights: Weights | None = None
    seed: int = 0
    notices: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Label, device, batch and dtype: the name of the schedule's file. How many devices there are is no part of it:
        it may be another number tomorrow.
        """
        kind, _, options = self.device.partition("?")
        kept = [option for option in options.split("&") if option and not option.startswith("count=")]
        device = "".join(c if c.isalnum() else "-" for c in "-".join([kind, *kept])).strip("-")
        return f"{self.label}-{device}-b{self.graph.batch}-{self.graph.dtype}"


@dataclass(frozen=True)
class StageCounts:
    """Distinct stages of a job.

    stages: that there are. found: latencies that were in the database. measured: now. failed: that cannot be measured.
    infeasible: of those found or measured, the ones that can never run on the device. checked: measured again, with
    more samples, because the answer rests on them. rounds: how often the search asked for stages.
    """

    stages: int
    found: int
    measured: int
    failed: int
    infeasible: int
    checked: int = 0
    rounds: int = 0

    @property
    def left(self) -> int:
        """Neither known nor given up."""
        return self.stages - self.found - self.measured - self.failed


@dataclass(frozen=True)
class JobResult:
    """What a search found for a job.

    schedules: `sequential`, `greedy` and `optimised`, each with predicted latencies where they are known. chosen: the
    name of the one that is fastest end to end. latencies, errors: end to end and against float64, by name; empty where
    the search was interrupted before. wrong_numbers: a schedule is further off than its dtype excuses. regret: how much
    longer, on average, noise may have made the optimised schedule than the best of the measured ones, relative. won: by
    the `refined` schedule, if there is one, over the optimised one.
    """

    job: Job
    device: DeviceInfo
    schedules: Mapping[str, Schedule]
    chosen: str
    counts: StageCounts
    seconds: float
    interrupted: bool
    latencies: Mapping[str, Measurement] = field(default_factory=dict)
    errors: Mapping[str, float | None] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    wrong_numbers: bool = False
    regret: float | None = None
    won: tuple[Won, ...] = ()

    @property
    def schedule(self) -> Schedule:
        """The chosen one."""
        return self.schedules[self.chosen]

    def latency(self, name: str) -> float | None:
        """Seconds end to end of a schedule, None where it was not measured."""
        return self.latencies[name].median if name in self.latencies else None

    @property
    def measured(self) -> bool:
        """Whether the chosen and the sequential schedule were measured end to end."""
        return self.chosen in self.latencies and "sequential" in self.latencies

    @property
    def speedup(self) -> float | None:
        """The chosen schedule over the sequential one, end to end; predicted where they were not `measured`."""
        ours, sequential = self.latency(self.chosen), self.latency("sequential")
        if not self.measured:
            ours, sequential = self.schedule.predicted, self.schedules["sequential"].predicted
        return sequential / ours if ours and sequential else None
