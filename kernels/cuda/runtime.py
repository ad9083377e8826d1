"""`CudaRuntime`: stages and schedules on one NVIDIA GPU, captured as CUDA graphs."""

from __future__ import annotations

import hashlib
import math
import platform
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import NoReturn, Self, TypeVar

from iosfarm.ir.device import Device, Environment, Fact, canonical_json
from iosfarm.ir.errors import UsageError
from iosfarm.ir.graph import Graph
from iosfarm.ir.operators import Attributes
from iosfarm.ir.plan import Plan, PlanScope
from iosfarm.ir.schedule import Schedule
from iosfarm.ir.stage import Stage
from iosfarm.kernels.cuda.calls import Calls
from iosfarm.kernels.cuda.device.gpu import Gpu
from iosfarm.kernels.cuda.device.limits import check_size
from iosfarm.kernels.cuda.device.peak import peak_rate
from iosfarm.kernels.cuda.execution.executable import CudaExecutable, Setup
from iosfarm.kernels.cuda.execution.form import Form, form_of
from iosfarm.kernels.cuda.execution.lane import Lanes
from iosfarm.kernels.cuda.execution.network import CudaNetwork, contents_of
from iosfarm.kernels.cuda.execution.random_values import RandomValues
from iosfarm.kernels.cuda.execution.residency import Residency, WeightsOf
from iosfarm.kernels.cuda.joining import joined
from iosfarm.kernels.cuda.lowering import Lowering
from iosfarm.kernels.cuda.options import CudaSpec
from iosfarm.kernels.cuda.program.dependencies import true_only, with_barriers
from iosfarm.kernels.cuda.program.forms import FORMS, FREE, TUNED, Arranged, in_order, stages
from iosfarm.kernels.cuda.program.steps import Program
from iosfarm.kernels.cuda.program.tuning import Order, order_of, parsed, tuned, written
from iosfarm.kernels.cuda.providers.convolution import Provider
from iosfarm.kernels.cuda.providers.trials import Trials
from iosfarm.kernels.given import given_parameters, given_stage_parameters
from iosfarm.kernels.runtime import Array, Weights

VERSION = 3
"""Raise it whenever a change here changes latencies: measurements of another version are not reused."""

SAMPLES = 7
"""Replays of an order that is tried: the median counts."""

_Made = TypeVar("_Made", bound=CudaExecutable)


class CudaRuntime:
    """See `Runtime`. Computes on `gpu`; convolutions by `provider`, None for our own kernels."""

    layout = "nhwc"
    forms = (*FORMS, TUNED)

    def __init__(self, gpu: Gpu, lanes: Lanes, provider: Provider | None, trials: Trials, spec: CudaSpec) -> None:
        self._gpu = gpu
        self._lanes = lanes
        self._provider = provider
        self._spec = spec
        self._trials = trials
        self._calls = Calls(gpu, provider, trials, gpu.facts.sms if spec.sms == "share" else None, spec.precision)
        self._random: dict[str, RandomValues] = {}
        self._open: set[CudaExecutable] = set()
        self._late: list[Residency] = []
        self._closed = False
        self._fingerprint = self._identify(trials)

    @classmethod
    def from_spec(cls, text: str) -> Self:
        """The runtime of `cuda`, `cuda:1?precision=tf32`, …

        Raises:
            UsageError: there is no such device, or something that it needs is missing.
        """
        from iosfarm.kernels.cuda.opening import open_parts

        return cls(*open_parts(text))

    def fingerprint(self) -> tuple[Device, Environment]:
        """See `Runtime.fingerprint`."""
        return self._fingerprint

    @property
    def fallbacks(self) -> int:
        """Convolutions so far that the provider could not compute, and our kernels do."""
        return len(self._calls.fallbacks)

    def conditions(self) -> dict[str, Fact]:
        """What the GPU tells of its state. `capped`: software keeps it below what it could do; `void`: why what is
        measured in this state does not count.
        """
        from iosfarm.kernels.cuda.device.nvml import capped, read, voided

        found = read(self._gpu.facts.bus, self._gpu.facts.index)
        if capped(found):
            found["capped"] = True
        if reason := voided(found):
            found["void"] = reason
        return found

    @property
    def plan_scope(self) -> PlanScope:
        """See `Planning`."""
        return self._trials.plans.scope

    def tell_plans(self, plans: Iterable[Plan]) -> None:
        """See `Planning`."""
        self._trials.plans.tell(plans)

    def take_plans(self) -> list[Plan]:
        """See `Planning`."""
        return self._trials.plans.take_news()

    # -- preparing -----------------------------------------------------------------------------------------------

    def prepare(self, stage: Stage, weights: Sequence[Mapping[str, Array]] | None = None) -> CudaExecutable:
        """See `Runtime.prepare`."""
        self._check_open()
        if stage.layout != self.layout:
            raise UsageError(f"a stage in {stage.layout}; this runtime has {self.layout}")
        operators = list(stage.operators)
        parameters = [stage.parameters(operator) for operator in operators]
        bound: WeightsOf | None = None
        if weights is not None:
            known = given_stage_parameters(stage, weights)

            def bound(number: int) -> tuple[Attributes, Mapping[str, Array]]:
                return operators[number].attributes, known[number]

        shapes = [*stage.inputs, *(operator.shape for operator in operators)]
        check_size(self._gpu, stage.dtype, [*shapes, *(s for p in parameters for s in p.values())])
        count = len(stage.inputs)
        lowering = Lowering(self._calls, stage.dtype, shapes)
        lowering.stage(stage, 0, lambda r: count + r if r >= 0 else -1 - r, range(len(operators)))
        program = lowering.program(range(count), [count + unit.output for unit in stage.units])
        return self._executable(form_of(program, with_barriers(program.steps)), stage.dtype, bound, CudaExecutable)

    def prepare_schedule(self, graph: Graph, schedule: Schedule, weights: Weights) -> CudaNetwork:
        """See `Runtime.prepare_schedule`."""
        self._check_open()
        placed = schedule.place(graph, self.layout)
        names = [*(item.name for item in graph.inputs), *(operator.name for operator in graph.operators)]
        slot = {name: number for number, name in enumerate(names)}
        first = len(graph.inputs)
        known = [given_parameters(graph.parameters(o), weights, f"{o.name}.") for o in graph.operators]
        parameters = [shape for o in graph.operators for shape in graph.parameters(o).values()]
        largest = max((graph.shape(name) for name in names), key=math.prod)
        check_size(self._gpu, graph.dtype, [largest, *parameters])
        lowering = Lowering(self._calls, graph.dtype, [graph.shape(name) for name in names])
        for number, item in enumerate(placed):
            own = [name for group in item.groups for unit in group for name in graph.units[unit].operators]
            slots = [slot[name] for name in own]
            read = [slot[name] for name in item.inputs]
            lowering.stage(
                item.stage,
                number,
                lambda r, s=slots, i=read: s[r] if r >= 0 else i[-1 - r],  # type: ignore[misc]
                [each - first for each in slots],
            )
        program = lowering.program(range(first), [slot[name] for name in graph.outputs])
        if schedule.form in (*FREE, TUNED):
            program = joined(program, self._calls, graph.dtype)
        if schedule.form == TUNED:
            arranged = self._tuned(program, graph.dtype, [schedule.form, *(item.stage.key for item in placed)])
        else:
            arranged = FORMS.get(schedule.form, stages)(program)
        about = contents_of(graph, placed, peak_rate(self._gpu.facts, graph.dtype, self._spec.precision))
        return self._executable(
            form_of(*arranged),
            graph.dtype,
            lambda number: (graph.operators[number].attributes, known[number]),
            partial(CudaNetwork, about),
        )

    def close(self) -> None:
        """See `Runtime.close`; closes the executables that are still open."""
        if not self._closed:
            self._closed = True
            for executable in list(self._open):
                executable.close()
            self._close_late()
            self._trials.plans.flush()
            for values in self._random.values():
                values.close()
            if self._provider is not None:
                self._provider.close()
            self._lanes.close()
            self._gpu.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError("cannot pickle a runtime: it holds a GPU of this process; open it where it is used")

    # ------------------------------------------------------------------------------------------------------------

    def _executable(self, form: Form, dtype: str, weights: WeightsOf | None, make: Callable[[Setup], _Made]) -> _Made:
        self._close_late()
        lanes = self._lanes.take(form.placement.lanes)
        residency = Residency(self._gpu, lanes, form, dtype, self._random_values(dtype), weights)

        def close(executable: CudaExecutable) -> None:
            self._open.discard(executable)
            self._late.append(residency)
            self._close_late()

        try:
            executable = make(Setup(dtype, self._spec.timing, self._spec.inputs == "cold", residency, close))
        except BaseException:
            residency.close()
            raise
        self._open.add(executable)
        return executable

    def _close_late(self) -> None:
        """Give back what was closed. Not while a graph is captured: what is no longer used may be closed at any moment,
        by the garbage collector, and waiting for a stream would spoil the capture.
        """
        while self._late and not self._gpu.capturing:
            self._late.pop().close()

    def _tuned(self, program: Program, dtype: str, identity: Sequence[str]) -> Arranged:
        """Without barriers, in the fastest order: the one that was found before, or else the one that is found now."""
        steps = program.steps
        needed = true_only(steps)
        starts = [order_of(steps, FORMS[name](program)[0].steps) for name in FREE]
        if self._trials.most == 1:
            return in_order(program, starts[-1])
        sizes = [[*step.reads, *step.writes] for step in steps]
        environment = self._fingerprint[1].hard_key
        text = canonical_json([*identity, environment, sizes])
        key = f"order {hashlib.sha256(text.encode()).hexdigest()}"
        known = self._trials.plans.get(key)
        order = None if known is None else parsed(known.name, needed)
        if order is None:

            def seconds_of(order: Order) -> float:
                with self._executable(form_of(*in_order(program, order)), dtype, None, CudaExecutable) as executable:
                    return statistics.median(executable.time(SAMPLES))

            order, seconds = tuned(starts, needed, seconds_of)
            self._trials.plans.put(Plan(key, written(order), seconds))
        return in_order(program, order)

    def _random_values(self, dtype: str) -> RandomValues:
        if dtype not in self._random:
            self._random[dtype] = RandomValues(self._gpu, dtype)
        return self._random[dtype]

    def _identify(self, trials: Trials) -> tuple[Device, Environment]:
        facts, spec = self._gpu.facts, self._spec
        device = Device(
            "cuda",
            facts.name,
            {
                "architecture": facts.architecture,
                "sms": facts.sms,
                "memory_gib": round(facts.memory / 2**30),
                "l2": facts.l2,
            },
            {"host": platform.node(), "index": facts.index, "uuid": facts.uuid},
        )
        name = "iosfarm" if self._provider is None else self._provider.name
        hard, soft = ({"tilings": trials.most}, {}) if self._provider is None else self._provider.facts()
        return device, Environment(
            {
                "runtime": "cuda",
                "runtime_version": VERSION,
                "provider": name,
                "precision": spec.precision,
                "timing": f"{spec.timing}, {spec.inputs} inputs",
                "sms": spec.sms,
                "cuda": facts.cuda[0],
                **hard,
            },
            {"driver": facts.driver, "cuda_minor": facts.cuda[1], **soft},
        )

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("this runtime is closed")
