"""What to make of a task that has ended: which measurements to believe, which stages to try again, and whose fault."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

from iosfarm.db.quarantine import ADRIFT
from iosfarm.farm.dispatch.pool import Flight, Member, Pool
from iosfarm.farm.dispatch.stage_queue import Wanted
from iosfarm.farm.executors.executor import Outcome
from iosfarm.ir.measurement import Measurement, Status
from iosfarm.workers.failures import Failure


@dataclass
class Verdicts:
    """Of one task. usable: by stage key. told: failures of stages, and measurements that are not believed, to be
    recorded as such. again: stages that are still unknown. failures: how many stages have failed, by kind. reasons:
    why, by stage.
    """

    pool: Pool
    member: Member
    usable: dict[str, tuple[Measurement, Wanted]] = field(default_factory=dict)
    told: list[tuple[Measurement, Wanted]] = field(default_factory=list)
    again: list[Wanted] = field(default_factory=list)
    failures: Counter[Failure] = field(default_factory=Counter)
    reasons: dict[str, str] = field(default_factory=dict)
    reason: str = ""


def sort_out(pool: Pool, member: Member, flight: Flight, outcome: Outcome) -> Verdicts:
    """A failure counts against a stage only where it is the stage's own: one that the worker told of it, or the end of
    a worker that measured nothing else. The others are measured again, one by one, elsewhere first.
    """
    verdicts = Verdicts(pool, member, reason=outcome.error)
    if outcome.failure is not None or outcome.error:
        _ended_early(verdicts, flight, outcome)
        return verdicts
    measured = {m.stage_key: m for m in outcome.measurements}
    drifted = _drift(pool, member, outcome)
    for key, wanted in flight.stages.items():
        measurement = measured.get(key)
        if measurement is not None and measurement.status is Status.INFEASIBLE:
            verdicts.usable[key] = measurement, wanted
        elif measurement is not None and measurement.ok and drifted:
            verdicts.told.append((replace(measurement, status=Status.QUARANTINED, reason=drifted), wanted))
            verdicts.reason = drifted
            wanted.avoid.add(member.name)
            verdicts.again.append(wanted)
        elif measurement is not None and measurement.ok:
            attempt = wanted.failures + 1
            # Most are first attempts: a copy of each is what a driver can do without.
            numbered = measurement if measurement.attempt == attempt else replace(measurement, attempt=attempt)
            verdicts.usable[key] = numbered, wanted
        else:
            _failed(verdicts, wanted, measurement)
    if drifted:
        verdicts.failures[Failure.DRIFT] += 1
    return verdicts


def _ended_early(verdicts: Verdicts, flight: Flight, outcome: Outcome) -> None:
    verdicts.again = list(flight.stages.values())
    if outcome.failure is Failure.LOST:
        return
    alone = len(flight.stages) == 1
    for wanted in verdicts.again:
        wanted.suspect = True
        wanted.avoid.add(verdicts.member.name)
        if alone:
            wanted.failures += 1
            failure = outcome.failure or Failure.RAISED
            status = Status.TIMEOUT if failure is Failure.HUNG else Status.FAILED
            reason = outcome.error or failure.value
            verdicts.reasons[wanted.key] = f"{status}, {reason}"
            conditions = {"failure": failure.value}
            worker = verdicts.member.name
            told = Measurement(
                wanted.key, status, reason=reason, worker=worker, attempt=wanted.failures, conditions=conditions
            )
            verdicts.told.append((told, wanted))


def _failed(verdicts: Verdicts, wanted: Wanted, measurement: Measurement | None) -> None:
    """A stage that the worker could not measure, though it did others."""
    wanted.failures += 1
    wanted.suspect = True
    wanted.avoid.add(verdicts.member.name)
    verdicts.again.append(wanted)
    if measurement is None:
        measurement = Measurement(wanted.key, Status.FAILED, reason="the worker did not tell of it")
    kind = measurement.conditions.get("failure", Failure.RAISED)
    known = {failure.value for failure in Failure}
    verdicts.failures[Failure(kind) if kind in known else Failure.RAISED] += 1
    verdicts.reasons[wanted.key] = f"{measurement.status}, {measurement.reason}"
    verdicts.reason = measurement.reason
    worker = measurement.worker or verdicts.member.name
    verdicts.told.append((replace(measurement, attempt=wanted.failures, worker=worker), wanted))


def _drift(pool: Pool, member: Member, outcome: Outcome) -> str:
    """Why not to believe a task, by the reference stage that was measured with it; empty: believe it."""
    references = [m.conditions["reference"] for m in outcome.measurements if m.ok and "reference" in m.conditions]
    if not references or not pool.judged:
        return ""
    reference = references[0]
    if not isinstance(reference, int | float) or pool.trust.judge(member.name, reference) is None:
        return ""
    return f"{ADRIFT}{pool.trust.off(member.name, reference):.2f} of what it took at the start"
