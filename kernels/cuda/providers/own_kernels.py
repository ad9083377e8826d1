"""Calls of our own kernels, from what the catalogue says of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from iosfarm.ir.operators import Attributes, Shape, spec
from iosfarm.kernels.cuda import catalogue
from iosfarm.kernels.cuda.catalogue import Launch, Part
from iosfarm.kernels.cuda.device.gpu import Gpu
from iosfarm.kernels.cuda.program.parameters import Block, block_of
from iosfarm.kernels.cuda.providers.convolution import Convolution
from iosfarm.kernels.cuda.providers.kernel_call import KernelCall, kernel_call


@dataclass(frozen=True)
class Operator:
    """An operator by itself, as the catalogue takes it."""

    kind: str
    attributes: Attributes


def operator_call(gpu: Gpu, kind: str, attributes: Attributes, shapes: Sequence[Shape], dtype: str) -> KernelCall:
    """Any operator of the catalogue.

    Raises:
        Infeasible: our kernels cannot compute it.
    """
    operator = Operator(kind, attributes)
    launches = catalogue.launches(operator, shapes, dtype)
    return kernel_call(gpu, kind, launches, _block(operator, shapes, dtype))


def operator_call_into(
    gpu: Gpu, kind: str, attributes: Attributes, shapes: Sequence[Shape], dtype: str, part: Part
) -> KernelCall | None:
    """The same, writing to a part of a larger image; None where it cannot."""
    operator = Operator(kind, attributes)
    launches = catalogue.into(operator, shapes, dtype, part)
    return None if launches is None else kernel_call(gpu, kind, launches, _block(operator, shapes, dtype))


def concat_some_call(gpu: Gpu, shapes: Sequence[Shape], firsts: Sequence[int], output: Shape, dtype: str) -> KernelCall:
    """Copies images to channels of a larger one; see the catalogue's."""
    return kernel_call(gpu, "concat", catalogue.concat_some(shapes, firsts, output, dtype))


def own_convolutions(gpu: Gpu, wanted: Convolution, most: int, tensor: bool = False) -> list[KernelCall]:
    """Up to `most` ways to compute a convolution, the most promising first; with tensor cores as many again.

    Raises:
        Infeasible: our kernels cannot compute it.
    """
    operator = Operator("conv2d", wanted.attributes)
    ways = catalogue.alternatives(
        operator, [wanted.input], wanted.dtype, residual=wanted.residual, most=most, tensor=tensor, part=wanted.part
    )
    block = convolution_block(wanted)
    return [kernel_call(gpu, _name(launches), launches, block, residual=wanted.residual) for launches in ways]


def _name(launches: Sequence[Launch]) -> str:
    """What tells one way from another, whatever others there are."""
    kept = ("-DTILE_M", "-DTILE_N", "-DTENSOR_CORE")
    first = launches[0]
    cut = [option.removeprefix("-D") for option in first.options if option.startswith(kept)]
    return " ".join([first.kernel, *cut, f"GRID_Z={first.grid[2]}"])


def convolution_block(wanted: Convolution) -> Block:
    """The weights of a convolution as our kernels and cuDNN (NHWC) read them."""
    return _block(Operator("conv2d", wanted.attributes), [wanted.input], wanted.dtype)


def separable_call(
    gpu: Gpu, first: Convolution, second: Convolution, before: str, tensor: bool = False
) -> KernelCall | None:
    """An activation, a depthwise and a pointwise convolution as one kernel, with tensor cores or without; None where
    they are not that.
    """
    depthwise, pointwise = Operator("conv2d", first.attributes), Operator("conv2d", second.attributes)
    launches = catalogue.separable(
        depthwise, pointwise, first.input, first.dtype, before=before, tensor=tensor, part=second.part
    )
    if launches is None:
        return None
    shapes: dict[str, Shape] = {}
    axes: dict[str, tuple[int, ...]] = {}
    for role, operator, source in (("depthwise", depthwise, first.input), ("pointwise", pointwise, second.input)):
        for name, shape in spec("conv2d").parameters(operator.attributes, [source]).items():
            shapes[f"{role}.{name}"] = shape
        for name, order in catalogue.parameter_axes(operator, [source]).items():
            axes[f"{role}.{name}"] = order
    return kernel_call(
        gpu, "separable tensor" if tensor else "separable", launches, block_of(shapes, axes, first.dtype)
    )


def epilogue_call(gpu: Gpu, wanted: Convolution, bias: bool) -> KernelCall:
    """What is left of a convolution after its products: the bias, if it is left too, the residual, the activation.

    Reads the bare result, then the bias as a tensor, then the residual, as far as there are such.
    """
    shapes = [wanted.output]
    if bias and wanted.bias:
        shapes.append((1, wanted.output[1], 1, 1))
    if wanted.residual:
        shapes.append(wanted.output)
    return operator_call(gpu, "add", {"activation": wanted.activation}, shapes, wanted.dtype)


def _block(operator: Operator, shapes: Sequence[Shape], dtype: str) -> Block:
    parameters = spec(operator.kind).parameters(operator.attributes, shapes)
    return block_of(parameters, catalogue.parameter_axes(operator, shapes), dtype)
