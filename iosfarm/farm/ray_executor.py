"""Workers as Ray actors: one for each device, on this machine or on a cluster."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import threading
from typing import TYPE_CHECKING, Any

from iosfarm.farm.executor import DeviceInfo, Outcome, Task, describe, perform
from iosfarm.ir.errors import IosfarmError, UsageError

if TYPE_CHECKING:
    from iosfarm.workers.worker import Worker

ANSWER_TIMEOUT = 5.0
"""Seconds that a cluster may take to answer."""

START_TIMEOUT = 120.0
"""Seconds that a worker may take to start: a first import of torch on a cold disk is slow."""


class RayError(IosfarmError):
    """Ray did not start, or a worker's process died."""


class RayExecutor:
    """See `Executor`. Starts a local Ray unless `address` names a cluster (`auto`, `ray://…`)."""

    def __init__(self, address: str | None = None) -> None:
        # Ray reports usage to its makers unless told otherwise; and it would set one thread for torch in each worker.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        if address is None:
            # Ray's processes end when this one is killed; its agent first tries for so long to tell the dead server.
            os.environ.setdefault("RAY_gcs_rpc_server_reconnect_timeout_s", "5")
        if address is not None:
            _check_address(address)
        import ray

        self._ray: Any = ray
        self._ours = not ray.is_initialized()
        if self._ours:
            handler = signal.getsignal(signal.SIGTERM)
            try:
                ray.init(
                    address=address or "local",
                    # A Ray of our own listens to this machine alone.
                    **({} if address else {"_node_ip_address": "127.0.0.1", "include_dashboard": False}),
                    log_to_driver=False,
                    configure_logging=True,
                    logging_level="error",
                    runtime_env={"env_vars": {"OMP_NUM_THREADS": str(os.cpu_count() or 1)}},
                )
            except (OSError, RuntimeError, ConnectionError, ValueError) as error:
                raise RayError(
                    f"Ray did not start: {' '.join(str(error).split())[:200]}", hint="try --executor inline"
                ) from error
            if callable(handler) and threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, handler)  # Ray has put its own in place of ours
        self._actors: dict[str, Any] = {}
        self._devices: dict[str, DeviceInfo] = {}
        self._running: dict[Any, tuple[int, str, Any]] = {}  # reference -> number, device, actor
        self._submitted = 0

    def open(self, spec: str) -> DeviceInfo:
        """See `Executor`."""
        if spec in self._devices:
            return self._devices[spec]
        actor = self._actor(spec)
        try:
            self._devices[spec] = self._ray.get(actor.describe.remote(), timeout=START_TIMEOUT)
        except (self._ray.exceptions.RayError, self._ray.exceptions.GetTimeoutError) as error:
            del self._actors[spec]
            self._ray.kill(actor)
            cause = getattr(error, "cause", None)
            if isinstance(cause, IosfarmError):
                raise cause from None
            raise RayError(f"the worker of {spec} did not start: {_reason(error)}") from error
        return self._devices[spec]

    def _actor(self, spec: str) -> Any:
        """The process of a device, started if there is none."""
        if spec not in self._actors:
            actor_class = self._ray.remote(_Actor)
            # One actor for a device, and an actor does one call at a time. It is not restarted behind our back. It
            # asks Ray for no cores, or devices beyond the number of cores would wait for ever.
            self._actors[spec] = actor_class.options(num_cpus=0, max_restarts=0, max_concurrency=1).remote(spec)
        return self._actors[spec]

    def submit(self, spec: str, task: Task) -> int:
        """See `Executor`."""
        self._submitted += 1
        actor = self._actor(spec)
        self._running[actor.perform.remote(self._submitted, task)] = (self._submitted, spec, actor)
        return self._submitted

    def pending(self, spec: str) -> int:
        """See `Executor`."""
        return sum(1 for _, running, _ in self._running.values() if running == spec)

    def wait(self, timeout: float) -> list[Outcome]:
        """See `Executor`."""
        return self._wait(1, timeout)

    def drain(self, timeout: float) -> list[Outcome]:
        """See `Executor`."""
        outcomes = self._wait(None, timeout)
        self._running.clear()
        return outcomes

    def _wait(self, count: int | None, timeout: float) -> list[Outcome]:
        """Wait for so many tasks that are under way, None for all of them, one a device."""
        # Only the oldest of each device can be: Ray may tell of two results in another order than they were made in.
        oldest: dict[str, Any] = {}
        for reference, (_, spec, _) in self._running.items():
            oldest.setdefault(spec, reference)
        if not oldest:
            return []
        done, _ = self._ray.wait(list(oldest.values()), num_returns=count or len(oldest), timeout=timeout)
        return [self._collect(reference) for reference in done]

    def _collect(self, reference: Any) -> Outcome:
        number, spec, actor = self._running.pop(reference)
        try:
            return self._ray.get(reference)  # type: ignore[no-any-return]
        except self._ray.exceptions.RayActorError as error:
            # The process is gone, and with it what was queued there; a new one takes what comes next.
            if self._actors.get(spec) is actor:
                del self._actors[spec]
            return Outcome(number, spec, error=f"the worker died: {_reason(error)}")
        except self._ray.exceptions.RayError as error:
            return Outcome(number, spec, error=_reason(error))

    def close(self) -> None:
        """See `Executor`."""
        for actor in self._actors.values():
            self._ray.kill(actor)
        self._actors.clear()
        self._devices.clear()
        self._running.clear()
        if self._ours and self._ray.is_initialized():
            self._ray.shutdown()


def _reason(error: Exception) -> str:
    """One line: what was raised in the worker, or else what Ray says first."""
    raised = getattr(error, "cause", None) or error
    lines = str(raised).strip().splitlines() or [""]
    return f"{type(raised).__name__}: {lines[0][:200]}"


class _Actor:
    """A `Worker` in a Ray process. It is made at the first call: what fails there, unlike in a constructor, reaches
    the caller as the error that it is.
    """

    def __init__(self, spec: str) -> None:
        self._spec = spec
        self._made: Worker | None = None

    def _worker(self) -> Worker:
        if self._made is None:
            from iosfarm.workers.worker import Worker

            self._made = Worker(self._spec)
        return self._made

    def describe(self) -> DeviceInfo:
        return describe(self._worker())

    def perform(self, number: int, task: Task) -> Outcome:
        return perform(self._worker(), task, number, self._spec)


def _check_address(address: str) -> None:
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
