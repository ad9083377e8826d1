"""See `iosfarm.db`."""

if not __name__.startswith("iosfarm."):
    raise ImportError("import iosfarm.db, not db: a second copy of every module would be loaded")
