"""See `iosfarm.workers`."""

if not __name__.startswith("iosfarm."):
    raise ImportError("import iosfarm.workers, not workers: a second copy of every module would be loaded")
