"""The kinds of failure that a farm tells apart. Each is the infrastructure's fault, and none is a latency."""

from __future__ import annotations

from enum import StrEnum


class Failure(StrEnum):
    """What went wrong with a task, a stage or a device."""

    KILLED = "killed"  # the worker's process ended, or it lost its device
    HUNG = "hung"  # no answer for far longer than expected: the worker was replaced
    OUT_OF_MEMORY = "out_of_memory"  # it would fit, but not into what was free
    RAISED = "raised"  # the runtime raised an exception
    TIMEOUT = "timeout"  # the worker gave a stage up that took too long
    DRIFT = "drift"  # the device's reference stage no longer takes what it took at its start
    DISAGREES = "disagrees"  # the device's canary stages do not take what they take on its peers
    LOST = "lost"  # it waited on a worker that ended before it began
