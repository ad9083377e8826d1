"""Exported lines (`portable.py`), each checked for itself and made ready to be stored: all that needs no database."""

from __future__ import annotations

from typing import Any, NamedTuple

from iosfarm.db.encoding import Place, encode, place_of
from iosfarm.db.exchange.exchange import Rejected
from iosfarm.db.exchange.portable import (
    AnyLine,
    DeviceLine,
    EndLine,
    EnvironmentLine,
    MeasurementLine,
    PlanLine,
    RunLine,
    ScheduleLine,
    SearchLine,
    StageLine,
)
from iosfarm.db.plans import FoundPlan
from iosfarm.ir.device import Device, Environment
from iosfarm.ir.summary import StageSummary

Row = tuple[Any, ...]
"""A measurement: its line, its stage's key, the numbers that lines before give to its device, environment and search
(None: of none), then its `Columns`. A plain tuple, for an import holds many: the garbage collector leaves those alone.
"""


class NewDevice(NamedTuple):
    """A device, and its number in the export."""

    number: int
    device: Device


class NewEnvironment(NamedTuple):
    """An environment, and its number in the export."""

    number: int
    environment: Environment


class Whole(NamedTuple):
    """A line that is stored as it is."""

    line: int
    content: RunLine | SearchLine | ScheduleLine | EndLine


Entry = Row | StageSummary | NewDevice | NewEnvironment | FoundPlan | Whole | Rejected


class Checker:
    """Takes lines one by one, in their order: a measurement's identity needs the device and environment before it."""

    def __init__(self) -> None:
        self._devices: dict[int, Device] = {}
        self._environments: dict[int, Environment] = {}
        self._places: dict[tuple[int, int], Place] = {}
        self._ended = False

    def check(self, line: AnyLine, number: int) -> Entry:
        """What to store of a line; lines that refer to a device or environment that was rejected are rejected."""
        try:
            return self._check(line, number)
        except ValueError as error:
            return Rejected(number, str(error))

    def _check(self, line: AnyLine, number: int) -> Entry:
        if self._ended:
            raise ValueError("a line after the end")
        if isinstance(line, MeasurementLine):
            columns = encode(line.value(), self._place(line.device, line.environment))
            return number, line.stage, line.device, line.environment, line.search, *columns
        if isinstance(line, (StageLine, PlanLine)):
            return line.value()
        if isinstance(line, DeviceLine):
            self._places.clear()
            device = self._devices[line.device] = line.value()
            return NewDevice(line.device, device)
        if isinstance(line, EnvironmentLine):
            self._places.clear()
            environment = self._environments[line.environment] = line.value()
            return NewEnvironment(line.environment, environment)
        if isinstance(line, ScheduleLine):
            self._place(line.device, line.environment)
        self._ended |= isinstance(line, EndLine)
        return Whole(number, line)

    def _place(self, device: int, environment: int) -> Place:
        place = self._places.get((device, environment))
        if place is None:
            if device not in self._devices:
                raise ValueError(f"there is no device {device}")
            if environment not in self._environments:
                raise ValueError(f"there is no environment {environment}")
            place = place_of(self._devices[device], self._environments[environment])
            self._places[device, environment] = place
        return place
