"""Reading recorded measurements: a file that `iosfarm db export` or the GPU check has written (JSON lines)."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from iosfarm.ir.device import Device, Environment
from iosfarm.ir.errors import UsageError

PREFIX = "replay:"
RECORDED = Path(__file__).parents[2] / "db" / "recorded"
"""Recordings that come with iosfarm: a folder for each device, with this file in it."""
NAMES = ("measurements.jsonl.gz", "measurements.jsonl")

LONGEST_LINE = 2**26


@dataclass(frozen=True)
class Entry:
    """What was recorded of a stage: samples in seconds per execution; `infeasible` says why there are none."""

    samples: tuple[float, ...]
    infeasible: str = ""


@dataclass(frozen=True)
class Recording:
    """The measurements of one device in one environment, by stage key."""

    device: Device
    environment: Environment
    entries: Mapping[str, Entry]


def known() -> list[str]:
    """Names of the recordings that come with iosfarm."""
    if not RECORDED.is_dir():
        return []
    return sorted(f.name for f in RECORDED.iterdir() if any((f / name).is_file() for name in NAMES))


def find(source: str) -> Path:
    """The file of a source: the name of a recording that comes with iosfarm, a file, or a folder with one.

    Raises:
        UsageError: there is none.
    """
    for folder in (RECORDED / source, Path(source)):
        if folder.is_file():
            return folder
        for name in NAMES:
            if (folder / name).is_file():
                return folder / name
    names = ", ".join(known()) or "none come with this version"
    raise UsageError(
        f"no recorded measurements {source!r}",
        where=f"{PREFIX}{source}",
        hint=f"give a file of iosfarm db export, or a name: {names}",
    )


def read(path: Path) -> Recording:
    """The device and environment of a file that have most measurements, and these. The latest of a stage counts.

    Raises:
        UsageError: the file cannot be read, or holds no measurements.
    """
    devices: dict[object, Device] = {}
    environments: dict[object, Environment] = {}
    found: dict[tuple[object, object], dict[str, Entry]] = {}
    counts: Counter[tuple[object, object]] = Counter()
    number = 0
    try:
        with _open(path) as file:
            for number, text in enumerate(iter(lambda: file.readline(LONGEST_LINE), b""), 1):  # noqa: B007 - told in the error
                line = _object(text)
                kind = line.get("type")
                if kind == "device":
                    facts = line["properties"], line["instance"]
                    devices[line["device"]] = Device(line["kind"], line["model"], *facts)
                elif kind == "environment":
                    environments[line["environment"]] = Environment(line["hard"], line["soft"])
                elif kind == "measurement":
                    entry = _entry(line)
                    if entry is not None:
                        place = line["device"], line["environment"]
                        found.setdefault(place, {})[str(line["stage"])] = entry
                        counts[place] += 1
    except (OSError, EOFError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"cannot read recorded measurements: {reason}", where=str(path)) from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        hint = "is it a file that iosfarm db export has written?"
        raise UsageError(f"line {number} is no recorded measurement", where=str(path), hint=hint) from error
    if not counts:
        raise UsageError("holds no measurements that could be used", where=str(path), hint="record some first")
    place = counts.most_common(1)[0][0]
    if place[0] not in devices or place[1] not in environments:
        raise UsageError("does not say on which device it was measured", where=str(path), hint="export it again")
    return Recording(devices[place[0]], environments[place[1]], found[place])


def _entry(line: Mapping[str, object]) -> Entry | None:
    """None for what was not measured: a failure says nothing of the stage."""
    if line["status"] == "infeasible":
        return Entry((), str(line["reason"]) or "infeasible")
    samples = line["samples"]
    if line["status"] != "ok" or not isinstance(samples, list) or not samples:
        return None
    values = tuple(float(sample) for sample in samples)
    if not all(0 < value < float("inf") for value in values):
        raise ValueError("a sample that is no time")
    return Entry(values)


def _open(path: Path) -> IO[bytes]:
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]


def _object(text: bytes) -> dict[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return value
