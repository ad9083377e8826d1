"""`sim:NAME`: an analytic model of a GPU, for tests, for scale runs and for trying the product without one.

What it yields is marked simulated everywhere and never mixed with measurements.
"""

from iosfarm.kernels.sim.devices import DEVICES, SimDevice
from iosfarm.kernels.sim.options import SimSpec, parse_spec
from iosfarm.kernels.sim.runtime import SimExecutable, SimRuntime

__all__ = ["DEVICES", "SimDevice", "SimExecutable", "SimRuntime", "SimSpec", "parse_spec"]
