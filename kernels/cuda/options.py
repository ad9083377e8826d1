"""`cuda`, `cuda:1`, `cuda:0?precision=tf32&timing=streams`: how a user writes a GPU."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import parse_qsl

from iosfarm.ir.errors import UsageError

PRECISIONS = ("ieee", "tf32")
"""Of float32 convolutions: exact products, or products of numbers that are rounded to 10 bits of mantissa."""
TIMINGS = ("graph", "streams")
"""Captured as a CUDA graph, or launched on streams one by one."""
INPUTS = ("warm", "cold")
"""What an execution reads first is in the cache, as after the stage before; or nothing is, weights included."""
PROVIDERS = ("cudnn", "iosfarm")
"""Who computes convolutions: cuDNN, and our kernels where it cannot; or our kernels alone."""
SHARES = ("all", "share")
"""Processors that convolutions beside others are planned for: all of the device, or an equal share for each group."""

_CHOICES = {"precision": PRECISIONS, "timing": TIMINGS, "inputs": INPUTS, "provider": PROVIDERS, "sms": SHARES}


@dataclass(frozen=True)
class CudaSpec:
    """See the names in this file. index: which of the devices that CUDA shows."""

    index: int = 0
    precision: str = "ieee"
    timing: str = "graph"
    inputs: str = "warm"
    provider: str = "cudnn"
    sms: str = "all"


def parse_spec(text: str) -> CudaSpec:
    """The device that a user has written.

    Raises:
        UsageError: not a CUDA device, an unknown option, or a value that it does not take.
    """
    place, _, query = text.partition("?")
    kind, _, number = place.partition(":")
    if kind != "cuda" or (":" in place and not (number.isascii() and number.isdigit() and len(number) < 4)):
        raise UsageError(f"{text!r} is not a CUDA device", hint="write cuda, or cuda:1 for the second one")
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError:
        raise UsageError(f"options {query!r}", where=text, hint="write name=value, joined by &") from None
    chosen: dict[str, str] = {}
    for name, value in pairs:
        if name not in _CHOICES:
            raise UsageError(f"unknown option {name!r}", where=text, hint=f"there are {', '.join(_CHOICES)}")
        if value not in _CHOICES[name]:
            raise UsageError(f"{name} is {value!r}", where=text, hint=f"use {' or '.join(_CHOICES[name])}")
        chosen[name] = value
    return CudaSpec(int(number or 0), **chosen)
