"""`torch.compile(model, backend="iosfarm")`: inference under a schedule of the latency database.

torch finds it by the entry point `torch_dynamo_backends`. What it captures is imported, the database is asked for a
schedule of the same network (under whatever names it was searched), and where there is one, it is what runs. In every
other case torch runs what it captured as it would without a backend, and a warning says why, once for each reason.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from iosfarm.deploy.captured import Captured, NotOurs, captured, is_fixed, sizes, tried
from iosfarm.deploy.compiling import compile_source
from iosfarm.deploy.model import CompiledModel
from iosfarm.deploy.signatures import GraphSignature
from iosfarm.deploy.sources import Source
from iosfarm.ir.errors import IosfarmError, UsageError
from iosfarm.workers.evaluating import TOLERANCES

OPTIONS = ("database", "device", "budget")
MOST_RENEWALS = 8
"""How often weights may change before torch takes over: a model that is being trained changes them all the time."""

MOST_SHAPES = 16
"""For how many shapes of its inputs a graph is made."""

MARGIN = 10
"""Times the tolerance against float64: torch's own numbers are not exact either."""

_said: set[str] = set()
_saying = threading.Lock()


class IosfarmFallback(UserWarning):
    """torch runs a graph that was compiled for iosfarm; the message says why."""


def backend(
    graph: fx.GraphModule, examples: Sequence[Any], *, options: Mapping[str, Any] | None = None, **_: Any
) -> Callable[..., Any]:
    """What `torch.compile` calls with each graph that it has captured.

    options, as in `torch.compile(model, backend="iosfarm", options={"budget": "1m"})`: `database` and `device` as
    `iosfarm.compile` takes them; `budget`: search for a schedule within it where there is none (default: do not).

    Raises:
        UsageError: an unknown option.
    """
    options = dict(options or {})
    unknown = [name for name in options if name not in OPTIONS]
    if unknown:
        raise UsageError(f"unknown option {unknown[0]!r} of the backend iosfarm", hint=f"it has {', '.join(OPTIONS)}")
    if not is_fixed(examples):
        return _Compiled(graph, options)  # sizes are known when it is called
    try:
        state = _State(graph, examples, options)
    except (NotOurs, IosfarmError, MemoryError) as reason:
        _say(str(reason))
        return graph.forward
    return _Compiled(graph, options, state)


class _Compiled:
    """A captured graph under a schedule; one for each shape of its inputs where these are not fixed, and made anew when
    the module's weights have changed.
    """

    def __init__(self, graph: fx.GraphModule, options: Mapping[str, Any], fixed: _State | None = None) -> None:
        self._graph = graph
        self._options = options
        self._lock = threading.Lock()
        self._renewals = 0
        self._fixed = fixed is not None
        self._states: dict[Hashable, _State | None] = {None: fixed} if fixed is not None else {}

    def __call__(self, *arguments: Any) -> Any:
        """The outputs for what torch passes: the user's tensors, parameters, buffers and sizes."""
        key = None if self._fixed else sizes(arguments)
        state = self._states.get(key)
        if state is None or not state.holds(arguments):
            state = self._made(key, arguments)
        return self._graph.forward(*arguments) if state is None else state.run(arguments)

    def _made(self, key: Hashable, arguments: Sequence[Any]) -> _State | None:
        """The state for these arguments, which is new, None where torch has to do it."""
        with self._lock:
            before = self._states.get(key)
            if key in self._states and (before is None or before.holds(arguments)):
                return before  # torch's, or made by another thread meanwhile
            if before is None and len(self._states) == MOST_SHAPES:
                _say(f"its inputs have had {MOST_SHAPES} different shapes; compile it for each of a few")
                return None
            if before is not None and self._renewals == MOST_RENEWALS:
                _say("the weights keep changing; compile the model when they are final")
                return None
            self._renewals += before is not None
            try:
                self._states[key] = _State(self._graph, arguments, self._options)
            except (NotOurs, IosfarmError, MemoryError) as reason:
                _say(str(reason))
                self._states[key] = None
            return self._states[key]


class _State:
    """The model that was made of certain weights."""

    def __init__(self, graph: fx.GraphModule, examples: Sequence[Any], options: Mapping[str, Any]) -> None:
        # torch's own compilation is under way here, and what is exported inside must not become a part of it.
        with torch._guards.tracing(None):
            inner = captured(graph, examples)
            self._model, self._signature = _compiled(inner, examples, options)
            self._inputs = [inner.inputs[place] for place in self._signature.inputs]
            self._constants = [(place, tensor, _version(tensor)) for place, tensor in inner.constants]
            _check(self.run(examples), tried(graph, examples, inner.inputs))

    def holds(self, arguments: Sequence[Any]) -> bool:
        """Whether these are the parameters and buffers that the model was made of, unchanged."""
        return all(
            arguments[place] is tensor and _version(tensor) == version for place, tensor, version in self._constants
        )

    def run(self, arguments: Sequence[Any]) -> list[Any]:
        """The outputs as the captured graph returns them."""
        outputs = self._model.run_tensors([arguments[place] for place in self._inputs])
        return [outputs[place] if isinstance(place, int) else place[0] for place in self._signature.outputs]


def _compiled(graph: Captured, examples: Sequence[Any], options: Mapping[str, Any]) -> tuple[CompiledModel, Any]:
    """The model of a captured graph under the database's schedule.

    Raises:
        IosfarmError: it cannot be imported, there is no schedule, or the device cannot run it.
    """
    from iosfarm.frontends.torch import import_module

    given = [examples[place] for place in graph.inputs]
    imported = import_module(graph.module, given, name="captured", check=False)
    budget = options.get("budget")
    model = compile_source(
        Source(imported.graph, imported.weights, GraphSignature(imported.graph)),
        device=options.get("device", "auto"),
        batch_size=given[0].shape[0],
        dtype=str(given[0].dtype).removeprefix("torch."),
        database=options.get("database"),
        budget=budget,
        searching=budget is not None,
    )
    return model, imported.signature


def _check(actual: Sequence[Any], expected: Sequence[Any]) -> None:
    """Numbers are torch's, once: what was captured may do what an import cannot see.

    Raises:
        NotOurs: they are not.
    """
    for ours, theirs in zip(actual, expected, strict=True):
        if isinstance(theirs, Tensor) and theirs.numel() and bool(theirs.isfinite().all()):
            tolerance = MARGIN * TOLERANCES[str(theirs.dtype).removeprefix("torch.")]
            scale = float(theirs.abs().max()) or 1.0
            error = float((ours - theirs).abs().max()) / scale if ours.shape == theirs.shape else float("inf")
            if not error <= tolerance:
                raise NotOurs(f"its numbers differ by {error:.0e} of the largest, more than {tolerance:.0e}")


def _version(tensor: Tensor) -> int:
    # Inference tensors do not count their changes: they cannot be changed outside of inference mode.
    return 0 if tensor.is_inference() else tensor._version


def _say(reason: str) -> None:
    with _saying:
        if reason in _said:
            return
        _said.add(reason)
    warnings.warn(f"torch runs this graph, not iosfarm: {reason}", IosfarmFallback, stacklevel=2)
