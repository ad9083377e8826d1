"""Who computes what: convolutions by the provider, all else, and what it leaves, by our own kernels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from iosfarm.ir.device import canonical_json
from iosfarm.ir.operators import Attributes, Shape
from iosfarm.ir.plan import Plan, plan_key
from iosfarm.kernels.cuda.catalogue.operators import INTO
from iosfarm.kernels.cuda.catalogue.part import Part
from iosfarm.kernels.cuda.device.gpu import Gpu
from iosfarm.kernels.cuda.program.steps import Call, Into
from iosfarm.kernels.cuda.providers.convolution import Convolution, Provider
from iosfarm.kernels.cuda.providers.own_kernels import (
    concat_some_call,
    operator_call,
    operator_call_into,
    separable_call,
)
from iosfarm.kernels.cuda.providers.own_provider import OwnProvider, tensor_cores
from iosfarm.kernels.cuda.providers.trials import Trials, tensor_bytes

APART = "one by one"


@dataclass(frozen=True)
class Separable:
    """An activation, a depthwise and a pointwise convolution, one after the other."""

    before: str
    depthwise: Convolution
    pointwise: Convolution


class Calls:
    """Makes the calls of one runtime.

    provider: of convolutions; None: our own. sms: how many of the device's processors groups that run side by side
    share, each an equal part; None plans each for all of them. precision: of float32.
    """

    def __init__(self, gpu: Gpu, provider: Provider | None, trials: Trials, sms: int | None, precision: str) -> None:
        self._gpu = gpu
        self._provider = provider
        self._own = OwnProvider(gpu, trials, precision)
        self._precision = precision
        self._trials = trials
        self._sms = sms
        self.fallbacks: set[Convolution] = set()
        """What the provider could not compute, so that our kernels do."""

    def convolution(self, wanted: Convolution, groups: int) -> Call:
        """Of a stage with so many groups.

        Raises:
            Infeasible: nobody can compute it.
        """
        if self._provider is None or depthwise(wanted):
            return self._own.convolution(wanted)
        call = self._provider.convolution(wanted, self._share(groups))
        if call is None:
            self.fallbacks.add(wanted)
            call = self._own.convolution(wanted)
        return call

    def convolution_into(self, wanted: Convolution, part: Part, groups: int) -> Call | None:
        """The same by whoever computes it, to a part of a larger image; None where that cannot."""
        parted = replace(wanted, part=part)
        if self._provider is None or depthwise(wanted) or wanted in self.fallbacks:
            return self._own.convolution(parted)
        return self._provider.convolution(parted, self._share(groups))

    def operator(self, kind: str, attributes: Attributes, shapes: Sequence[Shape], dtype: str) -> Call:
        """Of any other operator.

        Raises:
            Infeasible: our kernels cannot compute it.
        """
        return operator_call(self._gpu, kind, attributes, shapes, dtype)

    def operator_into(self, kind: str, attributes: Attributes, shapes: Sequence[Shape], dtype: str) -> Into | None:
        """The same into a part of a larger image; None where no part can be written to."""
        if kind not in INTO:
            return None
        key = canonical_json([kind, dict(attributes), [list(shape) for shape in shapes], dtype])
        return Into(key, lambda part: operator_call_into(self._gpu, kind, attributes, shapes, dtype, part))

    def separable_into(self, wanted: Separable, call: Call) -> Into:
        """As `call`, which `separable` has made, into a part of a larger image."""
        key = canonical_json(["separable", wanted.before, wanted.depthwise.text, wanted.pointwise.text])

        def make(part: Part) -> Call | None:
            parted = replace(wanted, pointwise=replace(wanted.pointwise, part=part))
            return next((one for one in self._together(parted) if one.name == call.name), None)

        return Into(key, make)

    def rest(self, shapes: Sequence[Shape], firsts: Sequence[int], output: Shape, dtype: str) -> Call:
        """Copies what is left of a concatenation to its channels."""
        return concat_some_call(self._gpu, shapes, firsts, output, dtype)

    def seconds(self, key: str, call: Call, reads: Sequence[int], writes: Sequence[int]) -> float | None:
        """Of one execution on tensors of these sizes (bytes); None where it does not run, or nothing is to be timed.

        key: canonical text of what the call computes.
        """
        if self._trials.most == 1:
            return None
        provider = "iosfarm" if self._provider is None else self._provider.name
        key = plan_key(["seconds", key, call.name, provider, self._precision, self._sms or 0])
        known = self._trials.plans.get(key)
        if known is None:
            found = self._trials.fastest([call], reads, writes)
            if found is None:
                return None
            known = Plan(key, call.name, found[1])
            self._trials.plans.put(known)
        return known.seconds

    @property
    def timed(self) -> bool:
        """Whether ways to compute something are tried and timed, or the first one is taken."""
        return self._trials.most > 1

    def separable(self, wanted: Separable, groups: int) -> Call | None:
        """As one call; None where it is not that, or where one by one is faster."""
        first, second = wanted.depthwise, wanted.pointwise
        ways = self._together(wanted)
        if not ways:
            return None
        if self._trials.most == 1:
            return ways[0] if self._provider is None else None
        sizes = [tensor_bytes(s, first.dtype) for s in (first.input, second.input, second.output)]
        key = plan_key(["separable", wanted.before, first.text, second.text, self._provider is None, self._precision])
        known = self._trials.plans.get(key)
        if known is None:
            together = self._trials.fastest(ways, sizes[:1], sizes[2:])
            apart = [self._trials.fastest([one], r, w) for one, r, w in self._apart(wanted, groups, sizes)]
            if together is None or any(one is None for one in apart):
                return None
            seconds = sum(one[1] for one in apart if one is not None)
            known = Plan(key, together[0].name, together[1]) if together[1] < seconds else Plan(key, APART, seconds)
            self._trials.plans.put(known)
        return next((call for call in ways if call.name == known.name), None)

    def _together(self, wanted: Separable) -> list[Call]:
        """The ways to compute it as one call."""
        first, second = wanted.depthwise, wanted.pointwise
        tensor = tensor_cores(self._gpu.facts, first.dtype, self._precision)
        ways = [
            separable_call(self._gpu, first, second, wanted.before, way)
            for way in ((True, False) if tensor else (False,))
        ]
        return [way for way in ways if way is not None]

    def _share(self, groups: int) -> int | None:
        return None if self._sms is None or groups == 1 else max(1, self._sms // groups)

    def _apart(
        self, wanted: Separable, groups: int, sizes: Sequence[int]
    ) -> list[tuple[Call, Sequence[int], Sequence[int]]]:
        """The calls, and the bytes that each reads and writes."""
        source, middle, result = sizes
        first = wanted.depthwise
        calls: list[tuple[Call, Sequence[int], Sequence[int]]] = [
            (self.convolution(first, groups), [source], [middle]),
            (self.convolution(wanted.pointwise, groups), [middle], [result]),
        ]
        if wanted.before != "none":
            calls.append((self.operator(wanted.before, {}, [first.input], first.dtype), [source], [source]))
        return calls


def depthwise(wanted: Convolution) -> bool:
    """One input channel for each output channel: a matter of memory, not of products."""
    return wanted.groups > 1 and wanted.weight[1] == 1
