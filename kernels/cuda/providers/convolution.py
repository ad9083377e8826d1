"""What a convolution is, apart from its weights, and who can compute it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Protocol

from iosfarm.ir.device import Fact, canonical_json
from iosfarm.ir.operators import Attribute, Attributes, Shape
from iosfarm.kernels.cuda.catalogue.part import Part
from iosfarm.kernels.cuda.program.steps import Call


@dataclass(frozen=True)
class Convolution:
    """A convolution with what is fused into it: `activation(conv(x) + bias + residual)`.

    input, output: NCHW shapes; in memory all is NHWC, and weights are [out, height, width, in / groups]. residual: a
    tensor of the output's shape is added before the activation. part: channels of a larger image that the result is
    written to; the residual is dense all the same.
    """

    input: Shape
    output: Shape
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    bias: bool
    activation: str
    residual: bool
    dtype: str
    part: Part | None = None

    @property
    def weight(self) -> Shape:
        """Shape of the weights as the graph has them: [out, in / groups, height, width]."""
        return (self.output[1], self.input[1] // self.groups, *self.kernel)

    @property
    def attributes(self) -> dict[str, Attribute]:
        """As a conv2d operator has them."""
        names = ("kernel", "stride", "padding", "dilation", "groups", "bias", "activation")
        return {"out_channels": self.output[1], **{name: getattr(self, name) for name in names}}

    @property
    def written(self) -> Shape:
        """Shape of the tensor that it writes to."""
        batch, channels, *size = self.output
        return (batch, channels if self.part is None else self.part.pitch, *size)

    @property
    def text(self) -> str:
        """Canonical JSON: equal for equal convolutions, and for no others."""
        return canonical_json(asdict(self))


def convolution_of(attributes: Attributes, source: Shape, output: Shape, dtype: str) -> Convolution:
    """The convolution of a conv2d operator, with nothing added."""
    kernel, stride, padding, dilation = [_pair(attributes[n]) for n in ("kernel", "stride", "padding", "dilation")]
    groups, bias = attributes["groups"], attributes["bias"]
    assert isinstance(groups, int)
    assert isinstance(bias, bool)
    return Convolution(
        source, output, kernel, stride, padding, dilation, groups, bias, str(attributes["activation"]), False, dtype,
    )  # fmt: skip


class Provider(Protocol):
    """Computes convolutions. A cost table comes from one provider: its name and facts are part of the environment."""

    @property
    def name(self) -> str: ...

    def facts(self) -> tuple[dict[str, Fact], dict[str, Fact]]:
        """(hard, soft) fields of the environment."""
        ...

    def convolution(self, wanted: Convolution, sms: int | None = None) -> Call | None:
        """A call that reads (x, or x and the residual) and writes (y); its parameters are the weights, then, at the
        next multiple of the alignment, the bias. None: it cannot. sms: plan for so many of the device's processors.

        Raises:
            MemoryError: no room to try plans just now.
        """
        ...

    def close(self) -> None:
        """Give everything back."""
        ...


def _pair(value: object) -> tuple[int, int]:
    assert isinstance(value, tuple)
    return value[0], value[1]
