"""torch modules and exported programs."""

from iosfarm.frontends.torch.importer import import_module

__all__ = ["import_module"]
