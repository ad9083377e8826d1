"""The whole check: its sections one after the other, each in a process of its own with a time of its own."""

from __future__ import annotations

import gzip
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from iosfarm.farm.gpu_check import facts, numerics, probes, sanitizer, searching, steady, torch_baselines
from iosfarm.farm.gpu_check.context import Section
from iosfarm.farm.gpu_check.rows import Row, read_rows, write_json
from iosfarm.farm.gpu_check.summary import summary

FORMAT, VERSION = "iosfarm-gpu-check", 1
SECONDS = 460.0
"""Of the whole check, with some to spare of the 8 minutes that it may take."""

MODELS = ("squeezenet", "inception_v3", "randwire", "nasnet_large")
LOOK = 0.5
"""Seconds between two looks at what a section has printed."""

GRACE = 5.0
"""Seconds after its time in which a section may still end by itself."""

LEAST = 3.0
"""Seconds without which a section is not begun."""

LAST = 30.0
"""Seconds that are kept for the end: the same stages once more, and the export."""


def sections(models: Sequence[str]) -> list[Section]:
    """In the order in which they run: what is shorter and says more comes first."""
    return [
        Section("facts", 45, facts.run),
        Section("steady-start", 40, steady.run),
        *(s for model in models[:1] for s in _network(model, 40, 40)),
        Section("networks", 40, numerics.networks),
        *(s for model in models[1:2] for s in _network(model, 90, 60)),
        Section("numerics", 50, numerics.operators, gpu=True),
        Section("probes", 35, probes.run, gpu=True),
        Section("conformance", 60, facts.conformance, gpu=True),
        Section("benchmark", 45, facts.benchmark, gpu=True),
        Section("sanitizer", 70, sanitizer.run, gpu=True),
        *(s for model in models[2:] for s in _network(model, 80, 40)),
        Section("steady-end", 25, steady.run),
    ]  # fmt: skip


def _network(model: str, searching_for: float, beside: float) -> Iterator[Section]:
    """A network's searches, and torch beside them: in a process of its own, because its compiler may never end."""
    yield Section(f"search:{model}", searching_for, searching.section(model))
    yield Section(f"torch:{model}", beside, torch_baselines.section(model), gpu=True)


def run_check(
    folder: Path,
    *,
    device: str = "cuda",
    seconds: float = SECONDS,
    models: Sequence[str] = MODELS,
    only: Sequence[str] = (),
    report: Callable[[str], None] = lambda _: None,
) -> dict[str, object]:
    """Check a device; returns and writes the results: `results.json` and `measurements.jsonl.gz` in `folder`.

    only: names of sections, all unless given. Results and measurements are written after every section, so that
    whatever ends the check loses none of those before it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    work = folder / "work"
    shutil.rmtree(work, ignore_errors=True)
    begin = time.monotonic()
    document: dict[str, object] = {
        "format": FORMAT,
        "version": VERSION,
        "device": device,
        "sections": {},
        "summary": {},
    }
    found: dict[str, list[Row]] = {}
    state: dict[str, dict[str, object]] = {}
    for section in sections(models):
        if (only and section.name not in only) or (section.gpu and not device.startswith("cuda")):
            continue
        left = seconds - (time.monotonic() - begin) - (0 if section.name == "steady-end" else LAST)
        limit = min(section.seconds, left)
        report(f"{section.name}: up to {max(limit, 0):.0f} s")
        how: dict[str, object] = {"skipped": "no time left"} if limit <= LEAST else {"interrupted": True}
        try:
            if limit > LEAST:
                how = _section(section.name, folder, work, device, limit, models, report)
        finally:
            found[section.name] = read_rows(_file(work, section.name))
            state[section.name] = how
            if section.name.startswith(("steady", "search")):
                # A section that was killed may have left anything: the others count all the same.
                _guarded(how, "export", lambda: _export(work, folder / "measurements.jsonl.gz", report))
            _guarded(how, "summary", lambda: document.update(summary=summary(found)))
            document["sections"] = {name: {**state[name], "rows": rows} for name, rows in found.items()}
            document["seconds"] = round(time.monotonic() - begin, 1)
            write_json(folder / "results.json", document)
        if section.name == "facts" and how.get("code") and "timed_out" not in how:
            other = _without_cudnn(device)
            if other != device:
                report(f"{device} did not open: the rest is tried on {other}")
                device = document["device"] = other
    shutil.rmtree(work / "latency", ignore_errors=True)
    return document


def main(arguments: Sequence[str]) -> None:
    """One section, in this process: name, folder of the check, device, seconds, models."""
    from iosfarm.farm.gpu_check.context import Context
    from iosfarm.farm.gpu_check.rows import Rows

    name, folder, device, seconds, models = arguments
    chosen = tuple(models.split(","))
    work = Path(folder) / "work"
    (section,) = [s for s in sections(chosen) if s.name == name]
    rows = Rows(_file(work, name), lambda line: print(line, flush=True))
    database = str(work / "latency" / "latency.db")
    section.run(Context(device, Path(folder), database, time.monotonic() + float(seconds), rows, chosen))


def _section(
    name: str,
    folder: Path,
    work: Path,
    device: str,
    limit: float,
    models: Sequence[str],
    report: Callable[[str], None],
) -> dict[str, object]:
    """Run a section; its lines go to the report and its end, should it fail, into what is returned."""
    (work / "latency").mkdir(parents=True, exist_ok=True)
    log = _Log(work / f"{name.replace(':', '-')}.log", report)
    command = [
        sys.executable,
        "-m",
        "iosfarm.farm.gpu_check",
        name,
        str(folder),
        device,
        f"{limit:.1f}",
        ",".join(models),
    ]
    begin = time.monotonic()
    with log.path.open("w", encoding="utf-8") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, start_new_session=True)
        timed_out = False
        try:
            while process.poll() is None and not timed_out:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(max(0.0, min(LOOK, begin + limit + GRACE - time.monotonic())))
                timed_out = process.poll() is None and time.monotonic() >= begin + limit + GRACE
                log.tell()
        finally:
            if process.poll() is None:
                # The whole group: a section may have processes of its own.
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    log.tell(ended=True)
    result: dict[str, object] = {"seconds": round(time.monotonic() - begin, 1), "code": process.returncode}
    if timed_out:
        result["timed_out"] = True
    if process.returncode and not timed_out:
        result["end"] = log.lines[-15:]
    return result


class _Log:
    """What a section prints, told line by line while it runs."""

    def __init__(self, path: Path, report: Callable[[str], None]) -> None:
        self.path = path
        self.lines: list[str] = []
        self._report = report

    def tell(self, *, ended: bool = False) -> None:
        """What is new; a line that has not ended is told when it has, or when the section has."""
        whole = self.path.read_text(encoding="utf-8", errors="replace")
        lines = whole.splitlines()
        for line in lines[len(self.lines) : None if ended or whole.endswith("\n") else -1]:
            self.lines.append(line)
            self._report(f"  {line}")


def _without_cudnn(device: str) -> str:
    """The same GPU with our own convolutions: what is wrong with cuDNN is to cost its rows alone."""
    if not device.startswith("cuda") or "provider=" in device:
        return device
    return f"{device}{'&' if '?' in device else '?'}provider=iosfarm"


def _guarded(how: dict[str, object], what: str, work: Callable[[], None]) -> None:
    """What goes wrong becomes a line of the section after which it was done."""
    try:
        work()
    except Exception as error:  # whatever it is, the sections to come have to run
        how[f"{what}_failed"] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _file(work: Path, name: str) -> Path:
    return work / f"{name.replace(':', '-')}.json"


def _export(work: Path, target: Path, report: Callable[[str], None]) -> None:
    """All measurements, as `iosfarm db export` writes them; none where nothing was measured."""
    from iosfarm.db import LatencyDatabase

    database = work / "latency" / "latency.db"
    if not database.exists():
        return
    plain = work / "measurements.jsonl"
    with LatencyDatabase(str(database)) as memory:
        count = memory.export(plain)
    whole = target.with_name(f".{target.name}")
    with plain.open("rb") as source, gzip.GzipFile(whole, "wb", mtime=0) as packed:
        shutil.copyfileobj(source, packed)
    whole.replace(target)
    report(f"{count} measurements in {target}, {target.stat().st_size / 2**20:.1f} MiB")
