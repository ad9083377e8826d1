"""What executors on this machine alone have in common: which devices a selector means here."""

from __future__ import annotations

import platform
from abc import ABC, abstractmethod
from dataclasses import replace

from iosfarm.farm.executor import Change, DeviceInfo, Turn
from iosfarm.ir.errors import IosfarmError, UsageError
from iosfarm.zoo.device_selector import Selector

NODE = "localhost"


class LocalExecutor(ABC):
    """Devices of this machine, opened one by one, each with a worker."""

    def __init__(self) -> None:
        self._infos: dict[str, DeviceInfo] = {}
        self._opened: dict[str, list[str]] = {}
        self._changes: list[Change] = []

    @abstractmethod
    def _start(self, name: str, spec: str) -> DeviceInfo:
        """Start a worker; IosfarmError where that fails."""

    @abstractmethod
    def _stop(self, name: str) -> None:
        """End a worker, whatever it does."""

    @abstractmethod
    def _lose(self, name: str, reason: str) -> None:
        """What the device had to do fails as `LOST`."""

    def open(self, selector: str) -> list[DeviceInfo]:
        """See `Executor`."""
        if selector not in self._opened:
            chosen = Selector.parse(selector)
            if not chosen.takes_node(NODE, platform.node()):
                raise UsageError("this machine is another node", where=selector, hint="leave node out, or use Ray")
            names = chosen.names if chosen.simulated else [chosen.worker]
            for name in [name for name in names if name not in self._infos]:
                info = self._start(name, chosen.worker)
                if len(names) > 1:
                    info = replace(info, device=replace(info.device, instance={"device": name}))
                if not chosen.takes_model(info.device.model):
                    self._stop(name)
                    hint = f"there is {info.device.model}"
                    raise UsageError("no device of that model here", where=selector, hint=hint)
                self._infos[name] = info
            self._opened[selector] = names
        return [self._infos[name] for name in self._opened[selector] if name in self._infos]

    def changes(self) -> list[Change]:
        """See `Executor`."""
        changes, self._changes = self._changes, []
        return changes

    def drop(self, device: str) -> None:
        """See `Executor`."""
        if device in self._infos:
            del self._infos[device]
            self._lose(device, "the device was dropped")
            self._stop(device)

    def _replace(self, device: str, reason: str) -> None:
        """Another worker in the place of one that has ended, or is to end; where none starts, the device has left."""
        info = self._infos[device]
        self._changes.append(Change(Turn.LOST, info, reason=reason))
        self._stop(device)
        try:
            self._start(device, info.spec)
        except IosfarmError as error:
            del self._infos[device]
            self._lose(device, str(error))
            self._changes.append(Change(Turn.LEFT, info, reason=str(error)))
        else:
            self._changes.append(Change(Turn.RESTORED, info, reason=reason))
