"""`replay:SOURCE`: a device that answers from recorded measurements, and refuses what was not recorded."""

from iosfarm.kernels.replay.runtime import NotRecorded, ReplayExecutable, ReplayRuntime

__all__ = ["NotRecorded", "ReplayExecutable", "ReplayRuntime"]
