"""What came of a job: which schedule is the fastest end to end, and what has to be said about it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from iosfarm.farm.jobs.job import JobResult
from iosfarm.farm.jobs.job_search import JobSearch
from iosfarm.ir.schedule import STAGES, Schedule
from iosfarm.workers.evaluating import Evaluation, tolerance

DISTURBED = 0.1
"""A network that takes this much longer than its stages was measured while something else kept the device busy."""

REFINED = 0.002
"""What the refined schedule has to win end to end, relative."""

NOISE = 0.01
"""A schedule that is less than this much faster than another, end to end, is not counted as faster."""


def verdict(
    search: JobSearch,
    schedules: Mapping[str, Schedule],
    evaluation: Evaluation | None,
    seconds: float,
    interrupted: bool,
    notes: Sequence[str],
) -> JobResult:
    """The job's result; the fastest schedule end to end is chosen, the simpler one where noise decides, and none that
    computes wrong numbers while another one does not.
    """
    job, notes = search.job, [*notes]
    chosen = "optimised"
    wrong: dict[str, float] = {}
    if evaluation is not None:
        over = overrun(schedules, evaluation)
        if over is not None and over > DISTURBED:
            notes.append(
                f"end to end, the sequential schedule took {over:.0%} longer than its stages alone: was the machine "
                "busy? search or run again when it is idle"
            )
        limit = tolerance(job.graph.dtype, search.device.environment)
        wrong = {name: e for name, e in evaluation.errors.items() if e is not None and e > limit}
        right = {name: m.median for name, m in evaluation.latencies.items() if name not in wrong}
        chosen = fastest(right) if right else "sequential"
        if wrong:
            worst = max(wrong.values())
            notes.append(f"wrong numbers from {', '.join(wrong)}: off by {worst:.1e}, more than {limit:.0e}")
        if "refined" in right and "optimised" in right:
            count = f"{len(search.won)} move{'s' if len(search.won) != 1 else ''}"
            gain = _gain(right["refined"], right["optimised"])
            notes.append(f"refined beyond the search space: {count}, {gain} end to end")
        free = {name: m for name, m in right.items() if schedules[name].form != STAGES}
        barred = min((m for name, m in right.items() if name in ("optimised", "refined")), default=None)
        if free and barred is not None:
            best = min(free, key=lambda name: free[name])
            notes.append(f"without barriers between stages ({best}): {_gain(free[best], barred)} end to end")
        keys = {name: [stage.key for stage in schedule.stages] for name, schedule in schedules.items()}
        if keys["optimised"] == keys["greedy"]:
            notes.append("the optimised schedule is the greedy one")
        elif chosen in ("sequential", "greedy") and "optimised" not in wrong:
            notes.append(f"the optimised schedule did not win end to end: {chosen} was chosen")
    return JobResult(
        job,
        search.device,
        schedules,
        chosen,
        search.counts(),
        seconds,
        interrupted,
        evaluation.latencies if evaluation else {},
        evaluation.errors if evaluation else {},
        tuple(notes),
        bool(wrong),
        search.regret(),
        search.won if "refined" in schedules else (),
    )


def _gain(latency: float, before: float) -> str:
    won = 1 - latency / before
    return f"{abs(won):.1%} {'faster' if won >= 0 else 'slower'}"


def overrun(schedules: Mapping[str, Schedule], evaluation: Evaluation) -> float | None:
    """How much longer the sequential schedule took than its stages alone, relative to them; None: not known."""
    measured = evaluation.latencies.get("sequential")
    predicted = schedules["sequential"].predicted
    return measured.median / predicted - 1 if measured is not None and predicted else None


def fastest(latencies: Mapping[str, float]) -> str:
    """The schedule to use, of one or more. One that is not faster than the sequential one beyond noise is not worth
    its streams; between the optimised and the greedy one, noise does not speak against the search. The refined one only
    has to measure better than the optimised one: it is expected to, by its stages. So has another form of either.
    """
    simplest, *others = [name for name in ("sequential", "greedy", "optimised") if name in latencies] or [*latencies]
    chosen = simplest
    for name in others:
        if latencies[name] < (1 - NOISE) * latencies[chosen]:
            chosen = name
    if "optimised" in latencies and chosen == "greedy" and latencies["optimised"] * (1 - NOISE) <= latencies["greedy"]:
        chosen = "optimised"
    if chosen == "optimised" and latencies.get("refined", math.inf) < (1 - REFINED) * latencies[chosen]:
        chosen = "refined"
    others = [name for name in latencies if name not in ("sequential", "greedy", "optimised", "refined")]
    best = min(others, key=lambda name: latencies[name], default=chosen)
    return best if latencies[best] < (1 - REFINED) * latencies[chosen] else chosen
