"""One rule for each torch operator that ours can say; `RULES` holds them all."""

from iosfarm.frontends.rules import convolution, elementwise, layout, pooling, products
from iosfarm.frontends.rules.registry import RULES, Call

__all__ = ["RULES", "Call", "convolution", "elementwise", "layout", "pooling", "products"]
