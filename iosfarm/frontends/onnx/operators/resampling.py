"""Other sizes of images: resampling, and blocks of pixels as channels."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from iosfarm.frontends.errors import CannotImport
from iosfarm.frontends.onnx.emitting import Value
from iosfarm.frontends.onnx.operators.node import OnnxNode, translation


@translation("Upsample", "Resize")
def resize(node: OnnxNode) -> Any:
    x, shape = node.input(0), node.shape()
    scales, sizes = _sizes(node, shape)
    mode = node.attribute("mode", "nearest")
    place = node.attribute("coordinate_transformation_mode", "half_pixel" if node.opset >= 11 else "asymmetric")
    if node.kind == "Upsample" or node.opset < 11:
        place = "asymmetric"
    if sizes[:2] != list(shape[:2]) or len(shape) != 4:
        raise CannotImport("resampling of other axes than height and width")
    if sizes == list(shape):
        return node.call("clone.default", x)
    if place == "half_pixel_symmetric":
        # The same as half_pixel where nothing of a pixel is cut off at the end.
        if any(factor is not None for factor in _factors(scales, sizes, shape)):
            raise CannotImport("resampling by half_pixel_symmetric to a part of a pixel")
        place = "half_pixel"
    whole = all(new % old == 0 for new, old in zip(sizes[2:], shape[2:], strict=True))
    if node.attribute("antialias", 0) or node.attribute("exclude_outside", 0) or place == "tf_crop_and_resize":
        raise CannotImport("resampling with antialiasing or cropping")
    if mode == "nearest":
        rounding = node.attribute("nearest_mode", "round_prefer_floor" if node.opset >= 11 else "floor")
        floored = place == "asymmetric" and rounding == "floor"
        # With a whole factor the centre of a pixel lies in the pixel that it comes from.
        centred = place in ("half_pixel", "pytorch_half_pixel") and whole and "round" in rounding
        if floored or centred:
            return node.call("upsample_nearest2d.default", x, sizes[2:], *_factors(scales, sizes, shape))
        return _gathered(node, x, sizes, scales, place, rounding)
    if mode in ("linear", "bilinear", "cubic"):
        kind = "upsample_bicubic2d.default" if mode == "cubic" else "upsample_bilinear2d.default"
        if mode == "cubic" and abs(node.attribute("cubic_coeff_a", -0.75) + 0.75) > 1e-6:
            raise CannotImport("cubic resampling with another coefficient than -0.75")
        if place == "align_corners":
            return node.call(kind, x, sizes[2:], True)
        halves = ("half_pixel", *(("pytorch_half_pixel",) if min(sizes[2:]) > 1 else ()))
        if place in halves:
            return node.call(kind, x, sizes[2:], False, *_factors(scales, sizes, shape))
    raise CannotImport(f"resampling by {mode} with coordinates {place}")


def _sizes(node: OnnxNode, shape: tuple[int, ...]) -> tuple[list[float] | None, list[int]]:
    """Factors, if they are given, and sizes of all axes."""
    at = 1 if node.kind == "Upsample" or node.opset < 11 else 2
    axes = node.attribute("axes") or list(range(len(shape)))
    stated = node.optional(at)
    factors: list[float] | None = None
    if isinstance(stated, Tensor) and stated.numel():
        factors = [float(f) for f in stated.tolist()]
    elif node.attribute("scales"):
        factors = [float(f) for f in node.attribute("scales")]
    if factors is not None:
        full = [1.0] * len(shape)
        for axis, factor in zip(axes, factors, strict=True):
            full[axis] = factor
        return full, [math.floor(size * f + 1e-9) for size, f in zip(shape, full, strict=True)]
    if node.attribute("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise CannotImport("resampling that keeps the aspect ratio")
    given = node.integers(3, "sizes")
    if given is None:
        raise CannotImport(f"{node.kind} has neither factors nor sizes")
    sizes = list(shape)
    for axis, size in zip(axes, given, strict=True):
        sizes[axis] = size
    return None, sizes


def _factors(scales: list[float] | None, sizes: list[int], shape: tuple[int, ...]) -> list[float | None]:
    """Factors as torch wants them; None where the sizes say the same."""
    if scales is None:
        return [None, None]
    return [None if math.isclose(shape[i] * scales[i], sizes[i]) else scales[i] for i in (2, 3)]


def _gathered(
    node: OnnxNode, x: Value, sizes: list[int], scales: list[float] | None, place: str, rounding: str
) -> Value:
    """Nearest neighbours by their indices, which no factor of torch's gives."""
    for axis in (2, 3):
        old, new = node.shape()[axis], sizes[axis]
        factor = scales[axis] if scales is not None else new / old
        at = torch.arange(new, dtype=torch.float64)
        if place in ("half_pixel", "pytorch_half_pixel"):
            at = (at + 0.5) / factor - 0.5 if new > 1 or place != "pytorch_half_pixel" else at * 0
        elif place == "align_corners":
            at = at * ((old - 1) / max(1, new - 1))
        else:
            at = at / factor
        if rounding == "floor":
            at = torch.floor(at)
        elif rounding == "ceil":
            at = torch.ceil(at)
        elif rounding == "round_prefer_ceil":
            at = torch.floor(at + 0.5)
        else:
            at = torch.ceil(at - 0.5)
        x = node.call("index_select.default", x, axis, at.long().clamp(0, old - 1))
    return x


@translation("DepthToSpace")
def depth_to_space(node: OnnxNode) -> Any:
    r = node.attribute("blocksize")
    n, c, h, w = node.shape()
    if node.attribute("mode", "DCR") == "CRD":
        return node.call("pixel_shuffle.default", node.input(0), r)
    apart = node.call("reshape.default", node.input(0), [n, r, r, c // (r * r), h, w])
    moved = node.call("permute.default", apart, [0, 3, 4, 1, 5, 2])
    return node.call("reshape.default", moved, [n, c // (r * r), h * r, w * r])


@translation("SpaceToDepth")
def space_to_depth(node: OnnxNode) -> Any:
    r = node.attribute("blocksize")
    n, c, h, w = node.shape()
    apart = node.call("reshape.default", node.input(0), [n, c, h // r, r, w // r, r])
    columns = node.attribute("mode", "DCR") == "CRD"  # of opset 27
    moved = node.call("permute.default", apart, [0, 1, 3, 5, 2, 4] if columns else [0, 3, 5, 1, 2, 4])
    return node.call("reshape.default", moved, [n, c * r * r, h // r, w // r])


@translation("GridSample")
def grid_sample(node: OnnxNode) -> Any:
    if len(node.shape()) != 4:
        raise CannotImport("sampling of other tensors than images")
    modes = {"bilinear": 0, "linear": 0, "nearest": 1, "bicubic": 2, "cubic": 2}
    paddings = {"zeros": 0, "border": 1, "reflection": 2}
    mode, padding = modes[node.attribute("mode", "linear")], paddings[node.attribute("padding_mode", "zeros")]
    aligned = bool(node.attribute("align_corners", 0))
    return node.call("grid_sampler.default", node.input(0), node.input(1), mode, padding, aligned)
