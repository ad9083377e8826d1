"""Workers as Ray actors: one for each device, on this machine or on a cluster."""

from __future__ import annotations

import os
from typing import Any

from iosfarm.farm.executor import DeviceInfo, Outcome, Task, describe, perform
from iosfarm.ir.errors import IosfarmError

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
        import ray

        self._ray: Any = ray
        self._ours = not ray.is_initialized()
        if self._ours:
            try:
                ray.init(
                    address=address or "local",
                    include_dashboard=False if address is None else None,
                    log_to_driver=False,
                    configure_logging=True,
                    logging_level="error",
                    runtime_env={"env_vars": {"OMP_NUM_THREADS": str(os.cpu_count() or 1)}},
                )
            except (OSError, RuntimeError, ConnectionError, ValueError) as error:
                raise RayError(
                    f"Ray did not start: {' '.join(str(error).split())[:200]}", hint="try --executor inline"
                ) from error
        self._actors: dict[str, Any] = {}
        self._running: dict[Any, tuple[int, str, Any]] = {}  # reference -> number, device, actor
        self._submitted = 0

    def open(self, spec: str) -> DeviceInfo:
        """See `Executor`."""
        if spec not in self._actors:
            actor_class = self._ray.remote(_Actor)
            # One actor for a device, and an actor does one call at a time. It is not restarted behind our back.
            self._actors[spec] = actor_class.options(num_cpus=1, max_restarts=0, max_concurrency=1).remote(spec)
        try:
            return self._ray.get(self._actors[spec].describe.remote(), timeout=START_TIMEOUT)  # type: ignore[no-any-return]
        except self._ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, IosfarmError):
                raise error.cause from None
            raise RayError(f"the worker of {spec} did not start: {error.cause}") from None
        except (self._ray.exceptions.RayActorError, self._ray.exceptions.GetTimeoutError) as error:
            cause = getattr(getattr(error, "cause", None), "cause", None)
            if isinstance(cause, IosfarmError):
                raise cause from None
            raise RayError(f"the worker of {spec} did not start: {type(error).__name__}") from error

    def submit(self, spec: str, task: Task) -> int:
        """See `Executor`."""
        self._submitted += 1
        actor = self._actors[spec]
        self._running[actor.perform.remote(self._submitted, task)] = (self._submitted, spec, actor)
        return self._submitted

    def pending(self, spec: str) -> int:
        """See `Executor`."""
        return sum(1 for _, running, _ in self._running.values() if running == spec)

    def wait(self, timeout: float) -> list[Outcome]:
        """See `Executor`."""
        if not self._running:
            return []
        done, _ = self._ray.wait(list(self._running), num_returns=1, timeout=timeout)
        return [self._collect(reference) for reference in done]

    def drain(self, timeout: float) -> list[Outcome]:
        """See `Executor`."""
        first: dict[str, Any] = {}
        for reference, (_, spec, _) in self._running.items():
            first.setdefault(spec, reference)
        if not first:
            return []
        done, _ = self._ray.wait(list(first.values()), num_returns=len(first), timeout=timeout)
        outcomes = [self._collect(reference) for reference in done]
        self._running.clear()
        return outcomes

    def _collect(self, reference: Any) -> Outcome:
        number, spec, actor = self._running.pop(reference)
        try:
            return self._ray.get(reference)  # type: ignore[no-any-return]
        except self._ray.exceptions.RayActorError as error:
            # The process is gone, and with it what was queued there; a new one takes what comes next.
            if self._actors.get(spec) is actor:
                del self._actors[spec]
                self.open(spec)
            return Outcome(number, spec, error=f"the worker died: {type(error).__name__}")
        except self._ray.exceptions.RayError as error:
            return Outcome(number, spec, error=f"{type(error).__name__}: {str(error)[:200]}")

    def close(self) -> None:
        """See `Executor`."""
        for actor in self._actors.values():
            self._ray.kill(actor)
        self._actors.clear()
        self._running.clear()
        if self._ours and self._ray.is_initialized():
            self._ray.shutdown()


class _Actor:
    """A `Worker` in a Ray process."""

    def __init__(self, spec: str) -> None:
        from iosfarm.workers.worker import Worker

        self._worker = Worker(spec)

    def describe(self) -> DeviceInfo:
        return describe(self._worker)

    def perform(self, number: int, task: Task) -> Outcome:
        return perform(self._worker, task, number, self._worker.spec)
