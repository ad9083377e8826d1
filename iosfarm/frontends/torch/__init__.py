"""torch modules and exported programs."""

from iosfarm.frontends.torch.archived import import_archive
from iosfarm.frontends.torch.importer import import_module

__all__ = ["import_archive", "import_module"]
