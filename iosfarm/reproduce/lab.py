"""What the figures share: searches and stage latencies, each from the latency database where it holds them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from iosfarm.farm.api import open_executor, run_jobs
from iosfarm.farm.executors.executor import DeviceInfo
from iosfarm.farm.jobs.job import Job, SearchSettings
from iosfarm.farm.schedules.schedule_file import document, settings_entry
from iosfarm.farm.schedules.schedule_format import ScheduleFile
from iosfarm.farm.stage_latencies import measured
from iosfarm.ir.errors import Infeasible, IosfarmError
from iosfarm.ir.graph import Graph
from iosfarm.ir.measurement import Status
from iosfarm.ir.schedule import Schedule
from iosfarm.reproduce.tables import paper_network
from iosfarm.search.baselines import sequential
from iosfarm.search.budget import Budget
from iosfarm.search.parts import cut

if TYPE_CHECKING:
    from iosfarm.db import LatencyDatabase
    from iosfarm.farm.progress import Progress
    from iosfarm.farm.run_record import Saved

NO_BUDGET = {"budget": None, "budget_stages": None}


class Stopped(Exception):  # noqa: N818 - not an error: the user asked for it
    """The user has asked to stop; what was measured is in the database."""


class NotPossible(IosfarmError):  # noqa: N818 - a verdict, as `Infeasible`
    """The device cannot give a figure."""


@dataclass(frozen=True)
class Found:
    """A search's answer, as its schedule file has it."""

    content: ScheduleFile

    @property
    def schedule(self) -> Schedule:
        """The fastest one end to end."""
        return self.content.schedule()

    def seconds(self, name: str) -> float | None:
        """Seconds end to end of `sequential`, `greedy` or `optimised`; predicted where it was not measured."""
        entry = self.content.latencies.get(name)
        return None if entry is None else entry.measured or entry.predicted

    @property
    def gap(self) -> float | None:
        """Of the certificate."""
        return self.content.certificate.gap if self.content.certificate else None

    @property
    def incomplete(self) -> bool:
        """Whether a budget ended the search before its gap was reached."""
        return self.content.interrupted


@dataclass
class Lab:
    """Where figures get their numbers. device: as on the command line. budget: of each search.

    A search that was done before with the same settings, on the same device in the same environment, is taken from the
    database as it is: nothing is enumerated or measured again.
    """

    device: str
    database: str | None = None
    budget: Budget = field(default_factory=Budget)
    randwire_graphs: Path | None = None
    report: Callable[[Progress], None] = lambda _: None
    finished: Callable[[Saved], None] = lambda _: None
    stop: Callable[[], bool] = lambda: False
    _info: dict[str, DeviceInfo] = field(default_factory=dict)
    _found: dict[str, Found] = field(default_factory=dict)

    def info(self, device: str | None = None) -> DeviceInfo:
        """What a device is.

        Raises:
            UsageError: there is none of that name here.
        """
        spec = device or self.device
        if spec not in self._info:
            with open_executor("inline") as executor:
                (self._info[spec],) = executor.open(spec)
        return self._info[spec]

    def network(self, name: str, batch: int = 1) -> Graph:
        """A network as the paper's figures were made on it."""
        return paper_network(name, self.randwire_graphs).bind(batch=batch)

    def search(self, graph: Graph, settings: SearchSettings | None = None, device: str | None = None) -> Found:
        """The best schedule of a graph; refined beyond the paper's search space only where the settings say so.

        Raises:
            Stopped. NoScheduleError: the device cannot run it, or the budget was too small.
        """
        self.check()
        self._check_recorded(graph, device or self.device)
        chosen = settings or SearchSettings(refine=False)
        if chosen.budget == Budget():
            chosen = replace(chosen, budget=self.budget)
        job = Job(graph.name, graph, device or self.device, chosen)
        name = json.dumps([job.device, graph.content_hash, settings_entry(job).model_dump(), chosen.refine])
        if name not in self._found:
            earlier = self._recall(job)
            self._found[name] = earlier or self._run(job)
        return self._found[name]

    def stage_seconds(self, graph: Graph, schedule: Schedule, device: str | None = None) -> list[float]:
        """Latency of each stage of a schedule on a device, which need not be the one that it was found on.

        Raises:
            Stopped. Infeasible: a stage cannot run there. IosfarmError: one could not be measured.
        """
        spec = device or self.device
        placed = schedule.place(graph, self.info(spec).layout)
        known = measured({item.key: item.stage for item in placed}, self.info(spec), self.database, self.check)
        for item in placed:
            measurement = known[item.key]
            if measurement.status is Status.INFEASIBLE:
                raise Infeasible(measurement.reason, where=f"{item.stage.describe()} on {spec}")
            if not measurement.ok:
                raise IosfarmError(f"{measurement.status}: {measurement.reason}", where=item.stage.describe())
        return [known[item.key].median for item in placed]

    def check(self) -> None:
        """Raises Stopped if the user wants it."""
        if self.stop():
            raise Stopped

    def _check_recorded(self, graph: Graph, spec: str) -> None:
        """Whether a replayed device has recorded a network at all: the search would ask for each of its stages.

        Raises:
            NotPossible: a unit was not recorded.
        """
        if not spec.startswith("replay:"):
            return
        from iosfarm.kernels import open_runtime
        from iosfarm.kernels.replay.runtime import NotRecorded

        runtime = open_runtime(spec)
        try:
            for item in sequential(graph, cut(graph), runtime.layout).place(graph, runtime.layout):
                with suppress(Infeasible):
                    runtime.prepare(item.stage).close()
        except NotRecorded as error:
            raise NotPossible(
                error.what, where=graph.name, hint="choose a figure whose stages were recorded"
            ) from error
        finally:
            runtime.close()

    # -- the database --------------------------------------------------------------------------------------------

    def _recall(self, job: Job) -> Found | None:
        info = self.info(job.device)
        wanted = settings_entry(job).model_dump(mode="json")
        with _open(self.database) as database:
            rows = database.schedules(
                graph_hash=job.graph.content_hash,
                batch=job.graph.batch,
                dtype=job.graph.dtype,
                device=info.device,
                simulated=info.device.simulated,
            )
        for row in rows:
            raw = json.loads(row.document)
            if _answers(raw, wanted) and _refined(raw) <= job.settings.refine:
                try:
                    content = ScheduleFile.model_validate(raw)
                except ValidationError:
                    continue  # written by another version
                if content.device.environment == dict(info.environment.hard):
                    return Found(content)
        return None

    def _run(self, job: Job) -> Found:
        saved = run_jobs(
            [job],
            database=self.database,
            executor="inline",
            report=self.report,
            finished=self.finished,
            stop=self.stop,
        )
        self.check()
        return self._recall(job) or Found(document(saved[0].result))  # the very document that later runs will find


def _open(url: str | None) -> LatencyDatabase:
    from iosfarm.db import LatencyDatabase

    return LatencyDatabase(url)


def _answers(raw: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether a search was the same one, and came to an end: its own, whatever its budget was, or that of its budget,
    which the same budget would not change.
    """
    settings = raw.get("settings", {})
    if not raw.get("interrupted", True):
        return {**settings, **NO_BUDGET} == {**wanted, **NO_BUDGET}
    seconds, stages = settings.get("budget"), settings.get("budget_stages")
    out_of_time = seconds is not None and raw["seconds"] >= seconds
    out_of_stages = stages is not None and raw["counts"]["measured"] >= stages
    return settings == wanted and (out_of_time or out_of_stages)


def _refined(raw: Mapping[str, Any]) -> bool:
    return "refined" in raw["latencies"]
