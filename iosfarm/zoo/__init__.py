"""Built-in networks, their weights, and `zoo.yaml`."""

from iosfarm.zoo.load import load

__all__ = ["load"]
