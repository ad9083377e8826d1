"""Measurements as Parquet: one row each, with all that is needed to understand it and to import it again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iosfarm.db.exchange.portable import VERSION, check_line
from iosfarm.db.query.frames import arrow
from iosfarm.ir.errors import UsageError

if TYPE_CHECKING:
    from iosfarm.db.exchange.importing import Importer

ROWS = 20_000
"""Rows of one group: what is in memory at a time."""

_FORMAT = b"iosfarm.measurements"
_STAGE = (
    *("key", "key_version", "canonical", "strategy", "dtype", "layout", "batch", "groups", "units", "flops"),
    *("bytes_moved", "operators"),
)
_DEVICE = ("kind", "model", "properties", "instance")
_ENVIRONMENT = ("hard", "soft")
_MEASUREMENT = ("status", "reason", "samples", "unroll", "rounds", "worker", "attempt", "measured_at", "conditions")
_JSON = {"operators", "properties", "instance", "hard", "soft", "conditions"}
_INTEGERS = {"key_version", "batch", "groups", "units", "flops", "bytes_moved", "unroll", "rounds", "attempt"}


def _schema() -> Any:
    pa = arrow()
    special = {"samples": pa.list_(pa.float64()), "measured_at": pa.timestamp("us", "UTC")}

    def kind(name: str) -> Any:
        return special.get(name) or (pa.int64() if name in _INTEGERS else pa.string())

    groups = (("stage", _STAGE), ("device", _DEVICE), ("environment", _ENVIRONMENT), ("", _MEASUREMENT))
    fields = [(f"{prefix}_{name}" if prefix else name, kind(name)) for prefix, names in groups for name in names]
    return pa.schema(fields, metadata={_FORMAT: str(VERSION)})


def write_parquet(lines: Iterator[dict[str, Any]], path: Path) -> int:
    """Writes the measurements among lines; returns how many."""
    pa = arrow()
    import pyarrow.parquet

    schema, count = _schema(), 0
    with pyarrow.parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        rows: list[dict[str, Any]] = []
        for row in _rows(lines):
            rows.append(row)
            count += 1
            if len(rows) == ROWS:
                writer.write_table(pa.Table.from_pylist(rows, schema))
                rows = []
        writer.write_table(pa.Table.from_pylist(rows, schema))
    return count


def read_parquet(path: Path, importer: Importer) -> None:
    """Gives the rows of a file to an importer; a row's number counts as its line.

    Raises:
        UsageError: it is damaged or cut short, not an export, or of a newer iosfarm.
    """
    pa = arrow()
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            _check(file.schema_arrow, str(path))
            number, reader = 0, _Reader(importer)
            for batch in file.iter_batches(ROWS):
                for row in batch.to_pylist():
                    number += 1
                    reader.take(row, number)
    except (pa.ArrowException, OSError) as error:
        line = " ".join(str(error).split())[:200]
        what = f"not a whole Parquet file: {line}"
        raise UsageError(what, where=str(path), hint="export it again; what was read is stored") from error
    importer.take(check_line({"type": "end", "lines": number}), number + 1)


def _rows(lines: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    devices: dict[int, dict[str, Any]] = {}
    environments: dict[int, dict[str, Any]] = {}
    stage: dict[str, Any] = {}
    for line in lines:
        if line["type"] == "device":
            devices[line["device"]] = _flat("device", _DEVICE, line)
        elif line["type"] == "environment":
            environments[line["environment"]] = _flat("environment", _ENVIRONMENT, line)
        elif line["type"] == "stage":
            stage = _flat("stage", _STAGE, line)
        elif line["type"] == "measurement":
            place = {**devices[line["device"]], **environments[line["environment"]]}
            yield {**stage, **place, **_flat("", _MEASUREMENT, line)}


def _flat(prefix: str, names: tuple[str, ...], line: dict[str, Any]) -> dict[str, Any]:
    return {
        f"{prefix}_{name}" if prefix else name: json.dumps(line[name]) if name in _JSON else line[name]
        for name in names
    }


def _check(schema: Any, where: str) -> None:
    found = (schema.metadata or {}).get(_FORMAT, b"")
    if not found.isdigit():
        hint = "give a file that `iosfarm db export` wrote"
        raise UsageError("this Parquet file is no export of a latency database", where=where, hint=hint)
    if int(found) > VERSION:
        what = f"made by a newer iosfarm (format {int(found)}; this one reads {VERSION})"
        raise UsageError(what, where=where, hint="upgrade iosfarm")
    missing = [name for name in _schema().names if name not in schema.names]
    if missing:
        raise UsageError(f"the column {missing[0]} is missing", where=where)


class _Reader:
    """A row is a device, an environment, a stage and a measurement: of what comes again only the number is given."""

    def __init__(self, importer: Importer) -> None:
        self._importer = importer
        self._numbers: dict[tuple[Any, ...], int] = {}
        self._stage = ""

    def take(self, row: dict[str, Any], number: int) -> None:
        try:
            device = self._number("device", _DEVICE, row)
            environment = self._number("environment", _ENVIRONMENT, row)
            if row["stage_key"] != self._stage:
                self._importer.take(check_line({"type": "stage", **_read("stage", _STAGE, row)}), number)
                self._stage = row["stage_key"]
            values = {"type": "measurement", "stage": row["stage_key"], "device": device, "environment": environment}
            self._importer.take(check_line({**values, **_read("", _MEASUREMENT, row)}), number)
        except (ValueError, RecursionError) as error:
            self._importer.result.reject(number, str(error))

    def _number(self, kind: str, names: tuple[str, ...], row: dict[str, Any]) -> int:
        texts = (kind, *(row[f"{kind}_{name}"] for name in names))
        if texts not in self._numbers:
            number = len(self._numbers)
            self._importer.take(check_line({"type": kind, kind: number, **_read(kind, names, row)}), 0)
            self._numbers[texts] = number
        return self._numbers[texts]


def _read(prefix: str, names: tuple[str, ...], row: dict[str, Any]) -> dict[str, Any]:
    found = {}
    for name in names:
        value = row[f"{prefix}_{name}" if prefix else name]
        found[name] = json.loads(value) if name in _JSON and isinstance(value, str) else value
    return found
