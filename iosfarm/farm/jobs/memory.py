"""What a job may ask the database while it is searched, and how other devices' latencies help one that is new."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import numpy as np

from iosfarm.db.query.transfer import Transferred
from iosfarm.farm.jobs.refining import Refined
from iosfarm.ir.measurement import Measurement
from iosfarm.ir.schedule import Certificate, Schedule
from iosfarm.search.stage_search import StageSearch


class Memory(Protocol):
    """The database, for one job on one device."""

    def recall(self, keys: Sequence[str]) -> Iterable[tuple[str, Measurement, int]]:
        """Usable measurements of stages, by key, with their ids."""
        ...

    def finished(self) -> Certificate | None:
        """The certificate of this same search, if it has come to its end before."""
        ...

    def refined(self, optimised: Schedule) -> Refined | None:
        """What refining a schedule has won before."""
        ...

    def comparable(self, keys: Sequence[str]) -> bool:
        """Whether `transferred` has answers once these stages are known."""
        ...

    def transferred(self, keys: Sequence[str]) -> Mapping[str, Transferred]:
        """What stages probably take, as other devices have shown."""
        ...


def look_elsewhere(search: StageSearch, memory: Memory) -> list[str]:
    """On a device that is new, begin with what is best by another one's latencies, see `StageSearch.guide`. To be
    called before each question to the search; returns what is to be said of it.
    """
    key_of = search.factory.key_of
    if search.rounds == 0 and search.units_missing:
        search.guided = memory.comparable([key_of(number) for number in search.units])
    if not search.guided or search.units_missing:
        return []
    numbers = {key_of(int(number)): int(number) for number in np.flatnonzero(np.isnan(search.seconds))}
    found = memory.transferred(list(numbers))
    search.guide({numbers[key]: guess.seconds for key, guess in found.items()})
    models = ", ".join(sorted({guess.device for guess in found.values()}))
    return [f"{len(found)} latencies transferred from {models} said what to measure first"] if found else []
