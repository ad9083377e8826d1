"""What executors on this machine alone have in common: which devices a selector means here."""

from __future__ import annotations

import platform
from abc import ABC, abstractmethod
from dataclasses import replace

from iosfarm.farm.executors.executor import Change, DeviceInfo, Turn, Unopened
from iosfarm.ir.errors import IosfarmError, UsageError
from iosfarm.zoo.device_selector import Selector

NODE = "localhost"


class LocalExecutor(ABC):
    """Devices of this machine, opened one by one, each with a worker."""

    def __init__(self) -> None:
        self._infos: dict[str, DeviceInfo] = {}
        self._opened: dict[str, list[str]] = {}
        self._changes: list[Change | Unopened] = []

    @abstractmethod
    def _start(self, name: str, spec: str) -> DeviceInfo:
        """Start a worker; IosfarmError where that fails."""

    @abstractmethod
    def _stop(self, name: str) -> None:
        """End a worker, whatever it does."""

    @abstractmethod
    def _lose(self, name: str, reason: str) -> None:
        """What the device had to do fails as `LOST`."""

    def _names(self, chosen: Selector) -> list[str]:
        """Of the devices of this machine that can be meant."""
        return chosen.names if chosen.simulated else [chosen.worker]

    def open(self, selector: str) -> list[DeviceInfo]:
        """See `Executor`."""
        if selector not in self._opened:
            chosen = Selector.parse(selector)
            if not chosen.takes_node(NODE, platform.node()):
                raise UsageError("this machine is another node", where=selector, hint="leave node out, or use Ray")
            self._opened[selector] = self._open(selector, chosen)
        return [self._infos[name] for name in self._opened[selector] if name in self._infos]

    def _open(self, selector: str, chosen: Selector) -> list[str]:
        names = self._names(chosen)
        taken: list[str] = []
        others: list[str] = []  # models
        errors: dict[str, IosfarmError] = {}
        for name in names:
            known = self._infos.get(name)
            try:
                info = known or self._start(name, chosen.worker)
            except IosfarmError as error:
                errors[name] = error
                continue
            if not chosen.takes_model(info.device.model):
                others.append(info.device.model)
                if known is None:
                    self._stop(name)
                continue
            if len(names) > 1:
                info = replace(info, device=replace(info.device, instance={**info.device.instance, "device": name}))
            self._infos[name] = info
            taken.append(name)
            if len(taken) == chosen.count:
                break
        if not taken and errors:
            raise next(iter(errors.values()))
        if not taken:
            hint = f"there is {', '.join(sorted(set(others)))}"
            raise UsageError("no device of that model here", where=selector, hint=hint)
        self._changes += [Unopened(name, str(error)) for name, error in errors.items()]
        return taken

    def changes(self) -> list[Change | Unopened]:
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
