"""One translation for each ONNX operator, to operators of torch; `TRANSLATIONS` holds them all."""

from iosfarm.frontends.onnx.operators import arithmetic, images, layout, resampling
from iosfarm.frontends.onnx.operators.node import TRANSLATIONS, OnnxNode

__all__ = ["TRANSLATIONS", "OnnxNode", "arithmetic", "images", "layout", "resampling"]
