"""ONNX files, opset 7 and later."""

from iosfarm.frontends.onnx.importer import import_file

__all__ = ["import_file"]
