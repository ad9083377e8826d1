"""`sim:NAME?noise=0&seed=3&kill=0.01`: how a user writes a simulated device."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any
from urllib.parse import parse_qsl

from iosfarm.ir.errors import UsageError
from iosfarm.kernels.sim.devices import device
from iosfarm.kernels.sim.faults import FaultSpec, parse_fault

PREFIX = "sim:"
DEFAULT_NOISE = 0.015
MAX_NOISE = 1.0


@dataclass(frozen=True)
class SimSpec:
    """A device's name in `devices.DEVICES`, and how its samples scatter.

    noise: standard deviation of the logarithm of a sample, 0 for none. seed: of the noise. faults: that it has on
    purpose.
    """

    name: str
    seed: int = 0
    noise: float = DEFAULT_NOISE
    faults: FaultSpec = field(default_factory=FaultSpec)


def parse_spec(text: str) -> SimSpec:
    """`sim:v100`, with options after a question mark.

    Raises:
        UsageError: an unknown device or option, or a value out of range.
    """
    if not text.startswith(PREFIX):
        raise UsageError(f"{text!r} is not a simulated device", hint="write sim:NAME, for instance sim:v100")
    name, _, query = text.removeprefix(PREFIX).partition("?")
    device(name)
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError:
        raise UsageError(f"options {query!r}", where=text, hint="write name=value, joined by &") from None
    seed, noise = 0, DEFAULT_NOISE
    faults: dict[str, Any] = {}
    known = [option.name for option in fields(FaultSpec)]
    for key, value in pairs:
        if key == "seed":
            seed = _seed(value, text)
        elif key == "noise":
            noise = _noise(value, text)
        elif key in known:
            faults[key] = parse_fault(key, value, text)
        else:
            hint = f"there are noise and seed, the faults {', '.join(known)}, and count, node and model in a search"
            raise UsageError(f"unknown option {key!r}", where=text, hint=hint)
    return SimSpec(name, seed, noise, FaultSpec(**faults))


def _seed(value: str, where: str) -> int:
    if not (value.isascii() and value.isdigit() and int(value) < 2**64):
        raise UsageError(f"seed is {value!r}", where=where, hint="use an integer from 0 to 2**64 - 1")
    return int(value)


def _noise(value: str, where: str) -> float:
    try:
        noise = float(value)
    except ValueError:
        noise = math.nan
    if not 0 <= noise <= MAX_NOISE:
        raise UsageError(f"noise is {value!r}", where=where, hint=f"use a number from 0 to {MAX_NOISE:g}")
    return noise
