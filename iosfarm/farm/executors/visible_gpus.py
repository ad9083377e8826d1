"""Which GPUs CUDA shows to this process, and what shows another process one of them alone."""

from __future__ import annotations

import os

VISIBLE = "CUDA_VISIBLE_DEVICES"
"""Numbers, UUIDs or MIG instances, separated by commas; processes that CUDA starts in see these, in this order."""


def visible_gpus() -> list[str]:
    """A value of `CUDA_VISIBLE_DEVICES` for each GPU; none where the driver is missing or does not start."""
    from iosfarm.kernels.cuda.device.probe import probe_driver

    try:
        count = len(probe_driver().gpus)
    except (OSError, RuntimeError):
        return []
    shown = os.environ.get(VISIBLE, "")
    # CUDA stops at the first that is none, so that what it shows are the first of the list.
    listed = [name.strip() for name in shown.split(",")] if shown.strip() else [str(number) for number in range(count)]
    return listed[:count]
