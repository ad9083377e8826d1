"""What a stage probably takes on a device that has not measured it: for ordering and forecasts, never a measurement."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, select

from iosfarm.db import tables
from iosfarm.db.connection.handle import Handle
from iosfarm.db.query.pairs import Known, Place, medians, stage_classes, stages_measured
from iosfarm.db.rows import stage_ids
from iosfarm.ir.device import Device, Environment

MIN_PAIRS = 20
"""Stages that both devices must have measured before one tells anything of the other."""

_d, _e, _m = tables.device.c, tables.environment.c, tables.measurement.c


@dataclass(frozen=True)
class Transferred:
    """An estimate in seconds, from `low` to `high` with the confidence that was asked for.

    device: model of the device that measured the stage; simulated: an analytic model was it. pairs: how many stages
    that both devices measured it rests on; operators: of which class, `all` where that class had too few.
    """

    stage_key: str
    seconds: float
    low: float
    high: float
    device: str
    simulated: bool
    measurement_id: int
    pairs: int
    operators: str


@dataclass(frozen=True)
class _Relation:
    """log(target / source) over the pairs of a class: the median, and how far most of them are from it."""

    shift: float
    width: float
    pairs: int
    operators: str


class Transfer(Handle):
    """The method of `LatencyDatabase` that estimates from other devices."""

    def transferred(
        self, keys: Iterable[str], device: Device, environment: Environment, *, confidence: float = 0.9
    ) -> dict[str, Transferred]:
        """Estimates for stages, from the device that is nearest; those that no near device measured are left out.

        A device is near whose latencies differ from this one's by a steady factor, over at least 20 stages of the same
        class of operators (or of all) that both have measured. The estimate is the measured median times the median
        factor. The interval is that of split conformal prediction (Vovk et al. 2005): the k-th smallest distance from
        the median factor of n pairs, k = ⌈(n + 1) confidence⌉. It holds where the stage is as any other of the pairs.
        Simulated latencies tell nothing of real devices, and the other way round.

        Raises:
            ValueError: a confidence that is not between 0 and 1.
        """
        if not 0 < confidence < 1:
            raise ValueError(f"a confidence of {confidence}")
        with self._transaction(write=False) as connection:
            wanted = stage_ids(connection, list(dict.fromkeys(keys)))
            return _transferred(connection, wanted, device, environment, confidence) if wanted else {}

    def comparable(self, keys: Iterable[str], device: Device, environment: Environment) -> bool:
        """Whether there will be a near device once this one has measured these stages, besides those that it has."""
        target = _target(device, environment)
        with self._transaction(write=False) as connection:
            numbers = set(stage_ids(connection, list(dict.fromkeys(keys))).values())
            if not _others(medians(connection, numbers), target):
                return False
            numbers.update(_learnt(connection, device, environment))
            others = _others(medians(connection, numbers), target)
        return any(len(stages) >= MIN_PAIRS for stages in others.values())


def _target(device: Device, environment: Environment) -> Place:
    return Place(device.key, device.model, device.simulated, environment.hard_key)


def _others(known: Mapping[Place, Mapping[int, Known]], target: Place) -> Mapping[Place, Mapping[int, Known]]:
    return {place: s for place, s in known.items() if place != target and place.simulated == target.simulated}


def _learnt(connection: Connection, device: Device, environment: Environment) -> list[int]:
    """Stages that the device itself has measured."""
    devices = connection.scalars(select(_d.id).where(_d.key == device.key)).all()
    environments = connection.scalars(select(_e.id).where(_e.hard_key == environment.hard_key)).all()
    return stages_measured(connection, [_m.device_id.in_(devices), _m.environment_id.in_(environments)])


def _transferred(
    connection: Connection, wanted: Mapping[str, int], device: Device, environment: Environment, confidence: float
) -> dict[str, Transferred]:
    target = _target(device, environment)
    known = medians(connection, _learnt(connection, device, environment))
    own = known.get(target, {})
    classes = stage_classes(connection, [*own, *wanted.values()])
    relations = {place: _relations(own, there, classes, confidence) for place, there in _others(known, target).items()}
    sources = medians(connection, wanted.values())
    found: dict[str, Transferred] = {}
    for key, number in wanted.items():
        best: tuple[_Relation, Place, Known] | None = None
        for place, by_class in relations.items():
            source = sources.get(place, {}).get(number)
            relation = by_class.get(classes[number]) or by_class.get("all")
            if source is not None and relation is not None and (best is None or relation.width < best[0].width):
                best = relation, place, source
        if best is not None:
            relation, place, source = best
            seconds = source.median * math.exp(relation.shift)
            low, high = seconds * math.exp(-relation.width), seconds * math.exp(relation.width)
            origin = (place.model, place.simulated, source.id, relation.pairs, relation.operators)
            found[key] = Transferred(key, seconds, low, high, *origin)
    return found


def _relations(
    own: Mapping[int, Known], there: Mapping[int, Known], classes: Mapping[int, str], confidence: float
) -> dict[str, _Relation]:
    ratios: dict[str, list[float]] = {"all": []}
    for number in own.keys() & there.keys():
        ratio = math.log(own[number].median / there[number].median)
        ratios["all"].append(ratio)
        ratios.setdefault(classes[number], []).append(ratio)
    found = {name: _relation(name, logs, confidence) for name, logs in ratios.items() if len(logs) >= MIN_PAIRS}
    return {name: relation for name, relation in found.items() if relation is not None}


def _relation(name: str, logs: Sequence[float], confidence: float) -> _Relation | None:
    ordered = sorted(logs)
    shift = ordered[len(ordered) // 2]
    rank = math.ceil((len(ordered) + 1) * confidence)
    if rank > len(ordered):
        return None  # too few for so much confidence
    return _Relation(shift, sorted(abs(log - shift) for log in ordered)[rank - 1], len(ordered), name)
