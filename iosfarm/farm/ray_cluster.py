"""Ray itself: a local one or a cluster, and the machines in it."""

from __future__ import annotations

import importlib.util
import os
import platform
import signal
import socket
import threading
from dataclasses import dataclass
from typing import Any

from iosfarm.ir.errors import IosfarmError, UsageError

ANSWER_TIMEOUT = 5.0
"""Seconds that a cluster may take to answer."""


class RayError(IosfarmError):
    """Ray did not start, or a worker's process died."""


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


def connect(address: str | None, metrics_port: int | None = None) -> tuple[Any, bool]:
    """The `ray` module, connected, and whether it is ours to shut down. None: a local Ray that only this machine hears.

    Raises:
        UsageError: not an address. RayError: no Ray there, or it did not start.
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

    if ray.is_initialized():
        return ray, False
    handler = signal.getsignal(signal.SIGTERM)
    local: dict[str, Any] = {"_node_ip_address": "127.0.0.1", "include_dashboard": False}
    if metrics_port is not None:
        if any(importlib.util.find_spec(name) is None for name in ("aiohttp", "opencensus", "prometheus_client")):
            raise RayError(
                "Ray cannot serve metrics here", where="--metrics-port", hint="pip install 'iosfarm[metrics]'"
            )
        local["_metrics_export_port"] = metrics_port
    try:
        ray.init(
            address=address or "local",
            **({} if address else local),
            log_to_driver=False,
            configure_logging=True,
            logging_level="error",
            runtime_env={"env_vars": {"OMP_NUM_THREADS": str(os.cpu_count() or 1)}},
        )
    except (OSError, RuntimeError, ConnectionError, ValueError) as error:
        what = f"Ray did not start: {' '.join(str(error).split())[:200]}"
        raise RayError(what, hint="try --executor inline") from error
    _quieten(ray)
    if callable(handler) and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)  # Ray has put its own in place of ours
    return ray, True


def _quieten(ray: Any) -> None:
    """Ray prints to the driver's stdout when a worker dies, whatever its settings are. We tell of that ourselves, and
    stdout is for results.
    """
    worker: Any = getattr(getattr(ray, "_private", None), "worker", None)
    if hasattr(worker, "print_to_stdstream"):
        worker.print_to_stdstream = lambda *_, **__: None


def alive_nodes(ray: Any) -> list[Node]:
    """The machines that are there, this one first."""
    nodes = []
    for entry in ray.nodes():
        if entry["Alive"]:
            resources = entry["Resources"]
            names = (entry["NodeManagerHostname"], entry["NodeName"], entry["NodeManagerAddress"], entry["NodeID"])
            cores, gpus = float(resources.get("CPU", 0)), int(resources.get("GPU", 0))
            nodes.append(Node(entry["NodeID"], names, cores, gpus))
    return sorted(nodes, key=lambda node: (node.name != platform.node(), node.names))


def check_address(address: str) -> None:
    """Ray itself would try for minutes, and write to the terminal meanwhile.

    Raises:
        UsageError: not an address. RayError: nobody answers there.
    """
    hint = "give host:port as `ray start --head` prints it, or auto"
    if address == "auto":
        return
    if address.startswith("ray://") and importlib.util.find_spec("grpc") is None:
        raise RayError("a ray:// address needs Ray's client", where=address, hint="pip install 'ray[client]'")
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise UsageError("not the address of a Ray cluster", where=address or "--ray-address", hint=hint)
    try:
        with socket.create_connection((host, int(port)), timeout=ANSWER_TIMEOUT):
            pass
    except OSError as error:
        raise RayError(f"no Ray cluster answers: {error.strerror or error}", where=address, hint=hint) from error
