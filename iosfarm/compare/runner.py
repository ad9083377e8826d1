"""One comparison: open every framework, check its numbers, let all take turns, ask where the time goes."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from iosfarm.compare import own, problem
from iosfarm.compare.problem import Array
from iosfarm.compare.process import Failed, FrameworkProcess, Interrupted
from iosfarm.compare.registry import chosen
from iosfarm.compare.rows import Profile, Row, Status
from iosfarm.compare.settings import Settings, Watch
from iosfarm.compare.turns import Entry, take_turns
from iosfarm.ir.errors import IosfarmError, UsageError

if TYPE_CHECKING:
    from iosfarm.ir.graph import Graph
    from iosfarm.ir.schedule import Schedule
    from iosfarm.kernels.runtime import Weights

WEIGHT_COPIES = 16
"""Bytes that a framework may need while it prepares, in bytes of the weights: TensorFlow takes so many."""
LEAST_ROOM = 2**30


def run(
    graph: Graph,
    frameworks: Sequence[str],
    device: str = "auto",
    *,
    weights: Weights | None = None,
    schedule: Schedule | None = None,
    database: str | None = None,
    settings: Settings | None = None,
    watch: Watch | None = None,
) -> list[Row]:
    """A row for each framework, in the order of the names; `iosfarm.compare.registry` lists them.

    weights: random ones by default. schedule: of the row `ios`; by default the latency database's, and if it has none
    one is searched for. The batch size and the dtype are the graph's. A framework that cannot run, crashes, hangs or
    computes something else has a row that says so.

    Raises:
        UsageError: an unknown framework, or a device that is not real or not here.
    """
    settings, watch = settings or Settings(), watch or Watch()
    wanted = chosen(frameworks)
    kind = _kind(device)
    entries = [Entry(item, Row(item.name, item.title, Status.NOT_RUN, "interrupted")) for item in wanted]
    possible = []
    for entry in entries:
        if kind in entry.framework.devices:
            possible.append(entry)
        else:
            entry.end(Status.NOT_POSSIBLE, "needs a GPU" if entry.framework.devices == ("cuda",) else "runs on CPUs")
    if not possible:
        return [entry.row for entry in entries]
    try:
        with tempfile.TemporaryDirectory(prefix="iosfarm-compare-") as name:
            _compare(Path(name), possible, graph, kind, weights, schedule, database, settings, watch)
    except Interrupted:
        pass
    finally:
        for entry in entries:
            if entry.process is not None:
                entry.process.close()
    for entry in entries:
        if entry.samples and entry.row.status is Status.NOT_RUN:
            note = "; ".join(filter(None, [entry.row.note, "interrupted"]))
            entry.row = replace(entry.row, status=Status.OK, reason="", note=note, samples=tuple(entry.samples))
    return [entry.row for entry in entries]


def _kind(device: str) -> str:
    from iosfarm.kernels import best_device

    spec = best_device() if device == "auto" else device
    kind = spec.split(":")[0].split("?")[0]
    if kind not in ("cpu", "cuda"):
        raise UsageError(f"frameworks do not run on {device}", hint="compare on a real device: cpu or cuda")
    if kind == "cuda":
        from iosfarm.kernels import open_runtime

        open_runtime(spec).close()  # says what is missing, in one line
    return kind


def _compare(
    folder: Path,
    entries: Sequence[Entry],
    graph: Graph,
    kind: str,
    weights: Weights | None,
    schedule: Schedule | None,
    database: str | None,
    settings: Settings,
    watch: Watch,
) -> None:
    from iosfarm.kernels.cpu.machine import available_memory, usable_cores
    from iosfarm.kernels.reference import run_graph
    from iosfarm.zoo.weights import random_weights

    values: Weights = random_weights(graph, settings.seed) if weights is None else weights
    generator = np.random.default_rng(settings.seed)
    inputs: list[Array] = [generator.standard_normal(graph.shape(i.name)).astype(np.float32) for i in graph.inputs]
    threads = usable_cores()
    facts = {"device": kind, "threads": threads, "trials": settings.trials, "timeout": settings.timeout}
    problem.write(folder, graph, values, inputs, facts)
    _prepare_own(folder, entries, graph, values, kind, schedule, database, settings, watch)
    _prepare_onnx(folder, entries, graph, values)
    watch.say(f"{graph.name}: the float64 reference")
    expected = run_graph(graph, values, inputs)
    room = max(LEAST_ROOM, WEIGHT_COPIES * sum(array.nbytes for array in values.values()))
    running: list[Entry] = []
    for entry in [entry for entry in entries if entry.row.status is Status.NOT_RUN]:
        _check(watch)
        if running and available_memory() < room:
            _time_all(running, graph, settings, watch)
            running = []
        watch.say(f"{graph.name}: {entry.framework.title} is being prepared")
        _open(folder, entry, threads, expected, graph.dtype, settings, watch)
        if entry.process is None:
            watch.done(entry.row)
        else:
            running.append(entry)
    _time_all(running, graph, settings, watch)


def _time_all(running: Sequence[Entry], graph: Graph, settings: Settings, watch: Watch) -> None:
    """Let those that are open take turns, and end them: where memory is short there is more than one such group."""
    watch.say(f"{graph.name}: {len(running)} frameworks take turns")
    take_turns(running, settings, watch)
    for entry in running:
        if entry.process is not None:
            _finish(entry, settings, watch)
            watch.done(entry.row)


def _prepare_own(
    folder: Path,
    entries: Sequence[Entry],
    graph: Graph,
    weights: Weights,
    kind: str,
    schedule: Schedule | None,
    database: str | None,
    settings: Settings,
    watch: Watch,
) -> None:
    for entry in entries:
        name = entry.framework.name
        try:
            if name == "ios":
                watch.say(f"{graph.name}: a schedule")
                found, note = schedule, ""
                if found is None:
                    check = partial(_check, watch)
                    found, note = own.find_schedule(graph, weights, kind, database, settings.budget, check)
                own.write_schedule(folder, found, note)
            elif name == "taso_style":
                watch.say(f"{graph.name}: substitutions")
                own.write_substituted(folder, graph, weights, kind, database, partial(_check, watch))
        except IosfarmError as error:
            _check(watch)  # a search that was stopped at once has no schedule, either
            entry.end(Status.NOT_POSSIBLE, str(error))


def _check(watch: Watch) -> None:
    if watch.stop():
        raise Interrupted


def _prepare_onnx(folder: Path, entries: Sequence[Entry], graph: Graph, weights: Weights) -> None:
    readers = [entry for entry in entries if entry.framework.reads == "onnx"]
    if not readers:
        return
    from iosfarm.deploy.onnx_export import save_onnx, to_onnx

    try:
        save_onnx(to_onnx(graph, weights), folder / problem.ONNX)
    except IosfarmError as error:
        for entry in readers:
            entry.end(Status.NOT_POSSIBLE, str(error))


def _open(
    folder: Path,
    entry: Entry,
    threads: int,
    expected: list[Array],
    dtype: str,
    settings: Settings,
    watch: Watch,
) -> None:
    """Start a framework, run it once, compare its numbers."""
    from iosfarm.workers.evaluating import TOLERANCES, relative_error

    begin = time.monotonic()
    name = entry.framework.name
    try:
        entry.process = FrameworkProcess(entry.framework, folder, threads, settings.pythons.get(name))
        answer = entry.process.request({"do": "open"}, settings.timeout, watch.stop)
    except Failed as failure:
        entry.end(failure.status, failure.reason)
        return
    except OSError as problem_of_start:
        entry.end(Status.CRASHED, f"cannot start it: {problem_of_start.strerror or problem_of_start}")
        return
    with np.load(str(answer["outputs"]), allow_pickle=False) as archive:
        outputs = [archive[str(number)] for number in range(len(archive.files))]
    same = len(outputs) == len(expected)
    error = relative_error(outputs, expected) if same else math.inf
    entry.row = replace(
        entry.row,
        version=str(answer["version"]),
        note=str(answer["note"]),
        error=error if math.isfinite(error) else None,
        preparing=time.monotonic() - begin,
    )
    if error > TOLERANCES[dtype]:
        off = f"off by {error:.1e} of the largest number" if math.isfinite(error) else "its outputs do not fit"
        entry.end(Status.WRONG, f"computes something else: {off}")


def _finish(entry: Entry, settings: Settings, watch: Watch) -> None:
    """The row of a framework that ran, with its profile; one that fails to profile has its latency all the same."""
    assert entry.process is not None
    entry.row = replace(entry.row, status=Status.OK, reason="", samples=tuple(entry.samples))
    if settings.profile:
        try:
            raw = entry.process.request({"do": "profile"}, settings.timeout, watch.stop)["profile"]
            if isinstance(raw, dict):
                entry.row = replace(entry.row, profile=Profile(**raw))
        except Failed as failure:
            entry.row = replace(entry.row, note="; ".join(filter(None, [entry.row.note, f"no profile: {failure}"])))
    entry.process.close()
    entry.process = None
