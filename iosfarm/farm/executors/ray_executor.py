"""Workers as Ray actors: one for each device, on this machine or on a cluster."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from time import monotonic
from typing import Any

from iosfarm.farm.executors.executor import Change, DeviceInfo, Outcome, Task, Turn, Unopened
from iosfarm.farm.executors.ray_address import RayError
from iosfarm.farm.executors.ray_cluster import alive_nodes, connect
from iosfarm.farm.executors.ray_host import Host, start
from iosfarm.farm.executors.ray_places import OtherModelError, Slot, places
from iosfarm.ir.errors import IosfarmError, UsageError
from iosfarm.workers.failures import Failure
from iosfarm.zoo.device_selector import Selector

START_TIMEOUT = 120.0
"""Seconds that a worker may take to start: a first import of torch on a cold disk is slow."""

STARTS = 3
"""How often in a row a worker may say that it cannot start."""

KILLED_STARTS = 20
"""How often in a row one may be killed before it is there: somebody else's doing, most likely, and it passes."""

LOOK = 2.0
"""Seconds between two looks at which machines there are."""


class RayExecutor:
    """See `Executor`. Starts a local Ray unless `address` names a cluster (`auto`, `ray://…`). Machines that join the
    cluster are used, those that leave are not waited for. metrics_port: where a local Ray serves metrics.
    """

    def __init__(self, address: str | None = None, *, metrics_port: int | None = None) -> None:
        self._connection = connect(address, metrics_port)
        self._ray = self._connection.ray
        self._hosts: dict[str, Host] = {}  # by device
        self._infos: dict[str, DeviceInfo] = {}
        self._opened: dict[str, Selector] = {}
        self._running: dict[str, dict[Any, int]] = {}  # by device: references and task numbers, in order
        self._ended: list[Outcome] = []
        self._changes: list[Change | Unopened] = []
        self._unfit: set[Slot] = set()  # devices that said so themselves, and those of another model
        self._submitted = 0
        self._looked = monotonic()

    def open(self, selector: str) -> list[DeviceInfo]:
        """See `Executor`."""
        if selector not in self._opened:
            chosen = Selector.parse(selector)
            errors: dict[str, IosfarmError] = {}
            unfit = -1
            while unfit < len(self._unfit):  # another one may take the place of one that is not fit
                unfit = len(self._unfit)
                hosts = self._start(selector, chosen)
                references = [reference for host in hosts for reference in host.starting]
                if references:
                    self._ray.wait(references, num_returns=len(references), timeout=START_TIMEOUT)
                for host in hosts:
                    errors.update(self._describe(host, chosen))
            if not self._of(chosen):
                raise next(iter(errors.values()), UsageError("no such device in the cluster", where=selector))
            told = [(name, error) for name, error in errors.items() if not isinstance(error, OtherModelError)]
            self._changes += [Unopened(name, str(error)) for name, error in told]
            self._opened[selector] = chosen
        return self._of(self._opened[selector])

    def _of(self, chosen: Selector) -> list[DeviceInfo]:
        if chosen.simulated:
            return [self._infos[name] for name in chosen.names if name in self._infos]
        found = []
        for name, info in self._infos.items():
            node, spec = self._hosts[name].node, self._hosts[name].specs[name]
            if spec == chosen.worker and chosen.takes_node(*node.names) and chosen.takes_model(info.device.model):
                found.append(info)
        return found[: chosen.count]

    def _start(self, selector: str, chosen: Selector) -> list[Host]:
        """Actors for the devices of a selector that have none."""
        hosts = places(alive_nodes(self._ray), selector, chosen, self._hosts, self._unfit)
        for host in hosts:
            start(self._connection, host)
            self._hosts.update(dict.fromkeys(host.specs, host))
        return hosts

    def _describe(self, host: Host, chosen: Selector) -> dict[str, IosfarmError]:
        """Take the descriptions of an actor that has just started; what is wrong with it ends it, and is told."""
        errors: dict[str, IosfarmError] = {}
        slot = host.selector, host.node.id, host.number
        for reference, name in list(host.starting.items()):
            try:
                info = self._ray.get(reference, timeout=0)
            except (self._ray.exceptions.RayError, self._ray.exceptions.GetTimeoutError) as error:
                cause = getattr(error, "cause", None)
                late = isinstance(error, self._ray.exceptions.GetTimeoutError)
                why = f"no answer for {START_TIMEOUT:.0f} s: is it free?" if late else _reason(error)
                if isinstance(cause, IosfarmError):
                    self._unfit.add(slot)
                else:
                    cause = RayError(f"the worker of {name} did not start: {why}")
                errors[name] = cause
                continue
            if chosen.takes_model(info.device.model):
                self._infos[name] = info
            else:
                errors[name] = OtherModelError("no device of that model", where=name, hint=f"it is {info.device.model}")
                self._unfit.add(slot)
        host.starting.clear()
        for name in [name for name in host.specs if name not in self._infos]:
            self._forget(name)
        return errors

    # -- tasks ---------------------------------------------------------------------------------------------------

    def submit(self, device: str, task: Task) -> int:
        """See `Executor`."""
        self._submitted += 1
        reference = self._hosts[device].actor.perform.remote(device, self._submitted, task)
        self._running.setdefault(device, {})[reference] = self._submitted
        return self._submitted

    def pending(self, device: str) -> int:
        """See `Executor`."""
        return len(self._running.get(device, ())) + sum(1 for outcome in self._ended if outcome.device == device)

    def wait(self, timeout: float) -> list[Outcome]:
        """See `Executor`."""
        if not self._ended:
            # Only the oldest of each device can be: Ray may tell of two results in another order than they were made.
            oldest = {next(iter(running)): device for device, running in self._running.items() if running}
            starting = [reference for host in self._all_hosts() for reference in host.starting]
            if oldest or starting:
                self._ray.wait([*oldest, *starting], num_returns=1, timeout=timeout)
            self._collect(oldest)
        ended, self._ended = self._ended, []
        return ended

    def drain(self, timeout: float) -> list[Outcome]:
        """See `Executor`."""
        oldest = {next(iter(running)): device for device, running in self._running.items() if running}
        if oldest:
            self._ray.wait(list(oldest), num_returns=len(oldest), timeout=timeout)
            self._collect(oldest)
        self._running.clear()
        ended, self._ended = self._ended, []
        return [outcome for outcome in ended if outcome.failure is not Failure.LOST]

    def _collect(self, references: dict[Any, str]) -> None:
        """Of these, what has ended."""
        if not references:
            return
        done, _ = self._ray.wait(list(references), num_returns=len(references), timeout=0)
        for reference in done:
            device = references[reference]
            number = self._running.get(device, {}).pop(reference, None)
            if number is None:
                continue  # its host has ended, and that is told
            try:
                outcome = self._ray.get(reference)
            except (self._ray.exceptions.RayActorError, self._ray.exceptions.OutOfMemoryError) as error:
                # A machine short of memory has its workers ended by Ray, which tells that by an error of its own.
                self._running[device] = {reference: number, **self._running[device]}
                failure = Failure.KILLED
                if isinstance(error, self._ray.exceptions.OutOfMemoryError):
                    failure = Failure.OUT_OF_MEMORY
                self._end(device, failure, f"the worker died: {_reason(error)}")
            except self._ray.exceptions.RayError as error:
                self._ended.append(Outcome(number, device, error=_reason(error), failure=Failure.RAISED))
            else:
                self._ended.append(outcome)
                if outcome.failure is Failure.KILLED:  # it has lost its device
                    self._end(device, Failure.KILLED, outcome.error)

    # -- devices that come and go --------------------------------------------------------------------------------

    def changes(self) -> list[Change | Unopened]:
        """See `Executor`."""
        now = monotonic()
        if now - self._looked >= LOOK:
            self._looked = now
            self._look()
        for host in list(self._all_hosts()):
            if host.starting:
                done, _ = self._ray.wait(list(host.starting), num_returns=len(host.starting), timeout=0)
                if len(done) == len(host.starting):
                    self._started(host)
        changes, self._changes = self._changes, []
        return changes

    def _look(self) -> None:
        """Machines that have joined, or left without a word."""
        alive = {node.id for node in alive_nodes(self._ray)}
        for name, host in list(self._hosts.items()):
            if host.node.id not in alive and name in self._hosts:
                self._end(name, Failure.KILLED, f"the machine {host.node.name} has left the cluster")
        for selector, chosen in self._opened.items():
            if chosen.count is None or len(self._of(chosen)) < chosen.count:
                with suppress(UsageError):  # all machines that it means are gone: they may come back
                    self._start(selector, chosen)

    def _started(self, host: Host) -> None:
        """An actor has started after its selector was opened, or has not."""
        again = {name: self._infos.get(name) for name in host.specs}
        errors, most = [], KILLED_STARTS
        for reference, name in list(host.starting.items()):
            try:
                info = self._ray.get(reference)
            except self._ray.exceptions.RayError as error:
                errors.append(_reason(error))
                most = most if isinstance(error, self._ray.exceptions.RayActorError) else STARTS
                continue
            known = again[name]
            if known is not None:
                self._changes.append(Change(Turn.RESTORED, known))
            elif self._opened[host.selector].takes_model(info.device.model):
                self._infos[name] = info
                self._changes.append(Change(Turn.JOINED, info, host.selector))
            else:
                self._unfit.add((host.selector, host.node.id, host.number))
                self._forget(name)
        host.starting.clear()
        host.failures = host.failures + 1 if errors else 0
        if errors and self._gone(host):
            for name in list(host.specs):
                self._leave(name, f"the machine {host.node.name} has left the cluster")
        elif errors and host.failures < most:
            self._ray.kill(host.actor)
            start(self._connection, host)
        elif errors:
            for name in list(host.specs):
                self._leave(name, f"its worker did not start {host.failures} times: {errors[0]}")

    def _end(self, device: str, failure: Failure, reason: str) -> None:
        """A host has ended, or is to: what was under way on its devices fails, and another one is started."""
        host = self._hosts[device]
        self._ray.kill(host.actor)
        for name in host.specs:
            for position, number in enumerate(self._running.pop(name, {}).values()):
                kind = Failure.LOST if position else failure if name == device else Failure.KILLED
                self._ended.append(Outcome(number, name, error=reason, failure=kind))
            if name in self._infos and not host.starting:
                self._changes.append(Change(Turn.LOST, self._infos[name], reason=reason))
        if self._gone(host):
            for name in list(host.specs):
                self._leave(name, reason)
        else:
            start(self._connection, host)

    def _gone(self, host: Host) -> bool:
        return host.node.id not in {node.id for node in alive_nodes(self._ray)}

    def _leave(self, name: str, reason: str) -> None:
        info = self._infos.get(name)
        self._forget(name)
        if info is not None:
            self._changes.append(Change(Turn.LEFT, info, reason=reason))

    def restart(self, device: str, failure: Failure, reason: str) -> None:
        """See `Executor`."""
        self._end(device, failure, reason)

    def drop(self, device: str) -> None:
        """See `Executor`."""
        for number in self._running.pop(device, {}).values():
            self._ended.append(Outcome(number, device, error="the device was dropped", failure=Failure.LOST))
        if device in self._hosts:
            self._forget(device)

    def _forget(self, name: str) -> None:
        """A device that is not used; its actor ends with its last one."""
        host = self._hosts.pop(name)
        self._infos.pop(name, None)
        del host.specs[name]
        if not host.specs:
            self._ray.kill(host.actor)

    def _all_hosts(self) -> Iterable[Host]:
        return {id(host): host for host in self._hosts.values()}.values()

    def close(self) -> None:
        """See `Executor`."""
        for host in self._all_hosts():
            self._ray.kill(host.actor)
        for known in (self._hosts, self._infos, self._opened, self._running, self._ended):
            known.clear()
        if self._connection.ours and self._ray.is_initialized():
            self._ray.shutdown()


def _reason(error: Exception) -> str:
    """One line: what was raised in the worker, or else what Ray says first."""
    raised = getattr(error, "cause", None) or error
    lines = str(raised).strip().splitlines() or [""]
    return f"{type(raised).__name__}: {lines[0][:200]}"
