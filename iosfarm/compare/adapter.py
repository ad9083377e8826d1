"""The contract of an adapter: one module, one function `prepare(problem, variant) -> Prepared`.

It runs in the framework's own process. What the framework lacks on this device or for this network raises `CannotRun`;
a missing package may raise its ModuleNotFoundError; any other exception is the framework's crash.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from iosfarm.compare.problem import Array
from iosfarm.compare.rows import Profile


class CannotRun(Exception):  # noqa: N818 - a verdict about a framework here, no failure
    """The framework cannot run this network on this device; the text says why."""


@dataclass(frozen=True)
class Prepared:
    """A network that is ready to run.

    call: execute once, on inputs that are in place already, and wait for the end; returns the framework's own outputs.
    outputs: these as NumPy arrays, NCHW, in the order of the graph. profile: see `Profile`; None: it has no profiler.
    """

    version: str
    call: Callable[[], object]
    outputs: Callable[[object], Sequence[Array]]
    profile: Callable[[], Profile] | None = None
    note: str = ""


def as_sequence(outputs: object) -> list[object]:
    """One output or several, as a list."""
    return list(outputs) if isinstance(outputs, list | tuple) else [outputs]


def as_arrays(outputs: object) -> list[Array]:
    """Outputs of a framework whose tensors NumPy can read."""
    return [np.asarray(output) for output in as_sequence(outputs)]
