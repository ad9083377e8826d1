"""A comparison of several networks as JSON and as Markdown."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from iosfarm.compare.rows import Row

if TYPE_CHECKING:
    from iosfarm.farm.executors.executor import DeviceInfo
    from iosfarm.ir.graph import Graph

FORMAT, VERSION = "iosfarm-comparison", 1

REFERENCE = "ios"
"""The row that the others are set against."""
OWN = ("ios", "taso_style")
"""Rows that iosfarm executes itself."""

COLUMNS = (
    "framework", "version", "ms", "MAD ms", "/ IOS", "error", "convolutions ms", "other ms", "kernels", "what else",
)  # fmt: skip


@dataclass(frozen=True)
class NetworkRows:
    """One network's rows. complete: every framework has had its turns."""

    network: str
    batch: int
    dtype: str
    graph_hash: str
    rows: tuple[Row, ...]
    complete: bool

    @classmethod
    def of(cls, graph: Graph, rows: Sequence[Row], complete: bool) -> NetworkRows:
        """The rows of a graph."""
        return cls(graph.name, graph.batch, graph.dtype, graph.content_hash, tuple(rows), complete)

    @property
    def reference(self) -> float | None:
        """Seconds of iosfarm's own schedule, where it ran."""
        return next((row.seconds for row in self.rows if row.framework == REFERENCE), None)

    def verdict(self) -> str:
        """How iosfarm's own schedule stands to the fastest of the others, and where the difference is; may be empty."""
        ours = next((row for row in self.rows if row.framework == REFERENCE), None)
        others = [row for row in self.rows if row.seconds and not row.framework.startswith(OWN)]
        if ours is None or ours.seconds is None or not others:
            return ""
        best = min(others, key=lambda row: row.seconds or 0.0)
        assert best.seconds is not None
        wins = ours.seconds <= best.seconds
        factor = max(ours.seconds, best.seconds) / min(ours.seconds, best.seconds)
        text = f"IOS is {factor:.2f}x {'faster' if wins else 'slower'} than {best.title}, the fastest of the others"
        mine, theirs = ours.profile, best.profile
        if mine is None or theirs is None or not (mine.seconds and theirs.seconds):
            return text
        pairs = [
            f"{name} {own * 1e3:.3g} ms against {other * 1e3:.3g} ms"
            for name, own, other in (
                ("convolutions", mine.seconds.get("convolution", 0.0), theirs.seconds.get("convolution", 0.0)),
                ("all else", mine.other, theirs.other),
            )
        ]
        shares = ", ".join([*pairs, f"{mine.kernels} kernels against {theirs.kernels}"])
        return f"{text}; under the profilers, which add up what runs side by side: {shares}"

    def cells(self) -> Iterator[list[object]]:
        """A line for each row, as `COLUMNS` say."""
        for row in self.rows:
            seconds, reference = row.seconds, self.reference
            ratio = seconds / reference if seconds and reference else None
            profile = row.profile
            convolutions = other = None
            if profile is not None and profile.seconds:
                convolutions, other = profile.seconds.get("convolution", 0.0), profile.other
            what = f"{row.status}: {row.reason}" if row.reason else row.note
            yield [
                row.title,
                row.version or None,
                _ms(seconds),
                _ms(row.mad),
                f"{ratio:.2f}x" if ratio else None,
                None if row.error is None else f"{row.error:.0e}",
                _ms(convolutions),
                _ms(other),
                None if profile is None else profile.kernels,
                what or None,
            ]


@dataclass
class Comparison:
    """Several networks on one device."""

    device: DeviceInfo
    networks: list[NetworkRows] = field(default_factory=list)
    interrupted: bool = False
    created: datetime = field(default_factory=lambda: datetime.now(UTC))

    def document(self) -> dict[str, object]:
        """As JSON."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "created": self.created.isoformat(timespec="seconds"),
            "interrupted": self.interrupted,
            "device": {
                "model": self.device.device.model,
                "environment": dict(self.device.environment.hard),
            },
            "networks": [
                {
                    "network": item.network,
                    "batch": item.batch,
                    "dtype": item.dtype,
                    "graph_hash": item.graph_hash,
                    "complete": item.complete,
                    "verdict": item.verdict(),
                    "rows": [row.document() for row in item.rows],
                }
                for item in self.networks
            ],
        }

    def markdown(self) -> str:
        """A table for each network."""
        lines = [f"{self.device.device.model}, {self.created:%Y-%m-%d}" + (", interrupted" if self.interrupted else "")]
        for item in self.networks:
            partial = "" if item.complete else ", partial"
            lines += ["", f"### {item.network}, batch {item.batch}, {item.dtype}{partial}", ""]
            lines += ["| " + " | ".join(COLUMNS) + " |", "| --- | --- |" + " ---: |" * 7 + " --- |"]
            for cells in item.cells():
                lines.append("| " + " | ".join(_cell(value) for value in cells) + " |")
            if verdict := item.verdict():
                lines += ["", f"{verdict}."]
        return "\n".join(lines)

    def write(self, folder: Path) -> list[Path]:
        """Write both into a folder, over what an earlier call for this comparison wrote.

        Raises:
            OutputError: it cannot be written.
        """
        from iosfarm.farm.output_files import write_whole

        paths = [folder / "comparison.json", folder / "comparison.md"]
        write_whole(json.dumps(self.document(), indent=1) + "\n", paths[0], what="the comparison")
        write_whole(self.markdown() + "\n", paths[1], what="the comparison")
        return paths


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1e3


def _cell(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}"
    return " ".join(str(value).replace("|", "\\|").split())
