"""See `iosfarm.kernels`."""

if not __name__.startswith("iosfarm."):
    raise ImportError("import iosfarm.kernels, not kernels: a second copy of every module would be loaded")
