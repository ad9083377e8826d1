"""The process that holds workers: a Ray actor of one device, or of several simulated ones."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from iosfarm.farm.executors.executor import MEASURES_AHEAD, DeviceInfo, Outcome, Task, describe, perform
from iosfarm.farm.executors.ray_cluster import Connection, Node
from iosfarm.kernels.sim.faults import WORKER_PROCESS

if TYPE_CHECKING:
    from iosfarm.workers.worker import Worker

PROCESSES = 8
"""Processes of simulated devices on one machine: more devices share them, each with a thread of its own."""


@dataclass
class Host:
    """One actor, and the devices it holds, by name with their specs. number: among those of its kind on its machine.
    failures: starts in a row that have failed.
    """

    node: Node
    specs: dict[str, str]
    selector: str
    number: int = 0
    gpus: int = 0
    actor: Any = None
    starting: dict[Any, str] = field(default_factory=dict)  # reference of a description -> device
    failures: int = 0


def start(connection: Connection, host: Host) -> None:
    """Start the actor; `host.starting` then has a reference for each device's description."""
    ray, several = connection.ray, len(host.specs) > 1
    environment = {WORKER_PROCESS: "1"}
    if host.node.cores:
        environment["OMP_NUM_THREADS"] = str(int(host.node.cores))
    told = {name: value for name, value in environment.items() if connection.environment.get(name) != value}
    # An actor is not restarted behind our back. It asks Ray for no cores, or devices beyond the number of cores would
    # wait for ever; and it stays on its machine, whose device it stands for.
    affinity = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(host.node.id, soft=False)
    host.actor = (
        ray.remote(DeviceHost)
        .options(
            num_cpus=0,
            num_gpus=host.gpus,
            max_restarts=0,
            max_concurrency=len(host.specs) * MEASURES_AHEAD if several else 1,
            scheduling_strategy=affinity,
            **({"runtime_env": {"env_vars": told}} if told else {}),
        )
        .remote(host.specs, host.node.name)
    )
    host.starting = {host.actor.describe.remote(name): name for name in host.specs}


class DeviceHost:
    """Workers in a process of their own. They are made at the first call: what fails there, unlike in a constructor,
    reaches the caller as the error that it is.
    """

    def __init__(self, specs: Mapping[str, str], node: str) -> None:
        self._specs = dict(specs)
        self._node = node
        self._workers: dict[str, Worker] = {}
        self._turns = {name: threading.Lock() for name in specs}

    def _worker(self, name: str) -> Worker:
        if name not in self._workers:
            from iosfarm.workers.worker import Worker

            self._workers[name] = Worker(self._specs[name])
        return self._workers[name]

    def describe(self, name: str) -> DeviceInfo:
        """The device, with what tells it from others like it."""
        with self._turns[name]:
            info = describe(self._worker(name), name, self._node)
        instance = {"node": self._node, "device": name, **info.device.instance}
        return replace(info, device=replace(info.device, instance=instance))

    def perform(self, name: str, number: int, task: Task) -> Outcome:
        """Do a task; one at a time for each device."""
        with self._turns[name]:
            return perform(self._worker(name), task, number, name)

    def process(self) -> int:
        """Its number on its machine."""
        return os.getpid()
