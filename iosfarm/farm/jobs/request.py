"""`Request`: a stage that a job wants to know, and how well."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from iosfarm.ir.stage import Stage
from iosfarm.ir.stage_summary import summarise
from iosfarm.ir.summary import StageSummary
from iosfarm.workers.settings import Effort


@dataclass(frozen=True)
class Request:
    """key, text: of the stage, `Stage.key` and `Stage.canonical`. Most requests are sent on as they are, so the stage
    is only made where it is looked at.
    """

    key: str
    text: str
    effort: Effort

    @classmethod
    def of(cls, stage: Stage, effort: Effort) -> Request:
        """For a stage that is there already."""
        request = cls(stage.key, stage.canonical, effort)
        request.__dict__["stage"] = stage
        return request

    @cached_property
    def stage(self) -> Stage:
        """The stage itself."""
        return Stage.from_json(self.text)

    @property
    def summary(self) -> StageSummary:
        """What the latency database keeps of it."""
        return summarise(self.key, self.text)

    @property
    def size(self) -> float:
        """Grows with the stage's latency: its work in operations, or bytes where there is more of these."""
        summary = self.summary
        return float(max(summary.flops, summary.bytes_moved))
