"""Ray itself: a local one or a cluster, and the machines in it."""

from __future__ import annotations

import importlib.util
import os
import platform
import signal
import threading
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iosfarm.farm.executors.last_words import last_words
from iosfarm.farm.executors.ray_address import RayError, check_address, check_cluster
from iosfarm.kernels.sim.faults import WORKER_PROCESS


@dataclass(frozen=True)
class Node:
    """One machine of the cluster. cores and gpus: that Ray gives out there."""

    id: str
    names: tuple[str, ...]
    cores: float
    gpus: int

    @property
    def name(self) -> str:
        """For people."""
        return self.names[0]


@dataclass(frozen=True)
class Connection:
    """The `ray` module, connected. ours: it is ours to shut down. environment: variables that all its workers have
    without being told.
    """

    ray: Any
    ours: bool
    environment: Mapping[str, str]


def connect(address: str | None, metrics_port: int | None = None) -> Connection:
    """Ray. None: a local one that only this machine hears.

    Raises:
        UsageError: not an address. RayError: no Ray there, one of another version, or it did not start.
    """
    # Ray reports usage to its makers unless told otherwise; and it would set one thread for torch in each worker.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if address is None:
        # Ray's processes end when this one is killed; its agent first tries for so long to tell the dead server.
        os.environ.setdefault("RAY_gcs_rpc_server_reconnect_timeout_s", "5")
        # Ray takes 127.0.0.1 for "the address that others know this machine by", and listens to all of them, unless it
        # is told, by the name of a setting for other systems, that there is to be no cluster.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    else:
        check_address(address)
    import ray

    threads = {"OMP_NUM_THREADS": str(os.cpu_count() or 1)}
    if ray.is_initialized():
        return Connection(ray, False, threads)
    if address is not None:
        check_cluster(address)
    handler = signal.getsignal(signal.SIGTERM)
    local: dict[str, Any] = {"_node_ip_address": "127.0.0.1", "include_dashboard": False}
    if metrics_port is not None:
        if any(importlib.util.find_spec(name) is None for name in ("aiohttp", "opencensus", "prometheus_client")):
            raise RayError(
                "Ray cannot serve metrics here", where="--metrics-port", hint="pip install 'iosfarm[metrics]'"
            )
        local["_metrics_export_port"] = metrics_port
    # Workers of a Ray of our own inherit what its processes begin with. An environment that is asked for takes Ray's
    # agent for environments, which starts last of all, and makes no use of the workers that Ray starts beforehand.
    inherited = {**threads, WORKER_PROCESS: "1"} if address is None else threads
    try:
        with ExitStack() as stack:
            stack.enter_context(warnings.catch_warnings(action="ignore"))
            if address is None:
                stack.enter_context(_secret_token())
                stack.enter_context(_environment(inherited))
            ray.init(
                address=address or "local",
                **({"runtime_env": {"env_vars": threads}} if address else local),
                log_to_driver=False,
                configure_logging=True,
                logging_level="error",
            )
    except Exception as error:  # a machine too busy to start in time is told by a plain one
        what = "Ray did not start" if address is None else "this machine cannot join the cluster"
        hint = "try --executor process" if address is None else "see `ray status` there"
        raise RayError(f"{what}: {_told(error)}", where=address or "", hint=hint) from error
    _quieten(ray)
    if callable(handler) and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)  # Ray has put its own in place of ours
    return Connection(ray, True, inherited)


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """For processes that are started meanwhile."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _secret_token() -> Iterator[None]:
    """A Ray of our own makes `~/.ray/auth_token` where there is none, for everybody to read. Whoever has it can run
    anything as this user.
    """
    try:
        token = Path.home() / ".ray" / "auth_token"
        token.parent.mkdir(mode=0o700, exist_ok=True)
        new = not token.exists()
    except (OSError, RuntimeError):  # no home: Ray will say so, or does not need one
        new = False
    try:
        yield
    finally:
        if new:
            with suppress(OSError):
                token.chmod(0o600)


def _told(error: Exception) -> str:
    """In one line; of another machine's traceback what it ends with."""
    text = str(error)
    return (last_words(text.encode()) if "Traceback" in text else " ".join(text.split()))[:200]


def _quieten(ray: Any) -> None:
    """Ray prints to the driver's stdout when a worker dies, whatever its settings are. We tell of that ourselves, and
    stdout is for results.
    """
    worker: Any = getattr(getattr(ray, "_private", None), "worker", None)
    if hasattr(worker, "print_to_stdstream"):
        worker.print_to_stdstream = lambda *_, **__: None


def alive_nodes(ray: Any) -> list[Node]:
    """The machines that are there, this one first. Each is named by what tells it from the others: its host name, or
    else Ray's name for it, its address, its id.
    """
    alive = [entry for entry in ray.nodes() if entry["Alive"]]
    called = [(e["NodeManagerHostname"], e["NodeName"], e["NodeManagerAddress"], e["NodeID"]) for e in alive]
    known = Counter(name for names in called for name in set(names))
    nodes = []
    for entry, names in zip(alive, called, strict=True):
        resources = entry["Resources"]
        cores, gpus = float(resources.get("CPU", 0)), int(resources.get("GPU", 0))
        own = sorted(names, key=lambda name: known[name] > 1)  # the order is kept otherwise
        nodes.append(Node(entry["NodeID"], tuple(own), cores, gpus))
    here = platform.node()
    return sorted(nodes, key=lambda node: (here not in node.names, node.names))
