"""`GraphBuilder`: write a network down as Python.

b = GraphBuilder("sample")
x = b.input((3, 224, 224))
x = b.conv2d(x, 64, kernel=3, padding=1, activation="relu")
graph = b.build(x)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from iosfarm.ir.errors import GraphError
from iosfarm.ir.graph import Graph, GraphInput, Operator, Unit, check_input_shape
from iosfarm.ir.operators import ACTIVATIONS, Shape, spec

Value = str
"""A tensor of the graph under construction: the name of the operator or input that makes it."""

IntOrPair = int | tuple[int, int]


def _pair(value: IntOrPair) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


class GraphBuilder:
    """Collects operators; names are made up from the kind (`conv2d_3`) unless given. Shapes are known at once."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._inputs: list[GraphInput] = []
        self._operators: list[Operator] = []
        self._units: list[Unit] = []
        self._shapes: dict[str, Shape] = {}
        self._counts: Counter[str] = Counter()
        self._open_unit: list[str] | None = None

    # -- structure -----------------------------------------------------------------------------------------------

    def input(self, shape: Sequence[int], *, name: str | None = None) -> Value:
        """A tensor to feed, shape without the batch: (channels, height, width).

        Raises:
            GraphError: a shape that cannot be, or a name that is taken.
        """
        name = name or self._fresh("input")
        self._check_free(name)
        check_input_shape(shape, f"{self.name}: input {name!r}")
        self._inputs.append(GraphInput(name, tuple(shape)))
        self._shapes[name] = (1, *shape)
        return name

    @contextmanager
    def unit(self, name: str | None = None) -> Iterator[None]:
        """Operators added inside form one unit, which is scheduled as a whole; the last one is its output."""
        if self._open_unit is not None:
            raise GraphError("units do not nest", where=self.name)
        self._open_unit = []
        try:
            yield
            if not self._open_unit:
                raise GraphError("a unit needs an operator", where=self.name)
            self._units.append(Unit(name or self._open_unit[-1], tuple(self._open_unit)))
        finally:
            self._open_unit = None

    def operator(self, kind: str, inputs: Sequence[Value], *, name: str | None = None, **attributes: object) -> Value:
        """Any operator of `iosfarm.ir.operators`.

        Raises:
            GraphError: unknown kind, attribute or input, or shapes that do not fit.
        """
        name = name or self._fresh(kind)
        where = f"{self.name}: operator {len(self._operators)} {name!r}"
        kind_spec = spec(kind, where)
        normalised = kind_spec.normalise(attributes, where)
        self._check_free(name)
        kind_spec.check_arity(len(inputs), where)
        for value in inputs:
            if value not in self._shapes:
                raise GraphError(f"reads {value!r}, which does not exist", where=where)
        try:
            shape = kind_spec.infer(normalised, [self._shapes[i] for i in inputs])
        except GraphError as error:
            raise GraphError(error.what, where=f"{where} ({kind})", hint=error.hint) from None
        self._shapes[name] = shape
        self._operators.append(Operator(name, kind, tuple(inputs), normalised))
        if self._open_unit is None:
            self._units.append(Unit(name, (name,)))
        else:
            self._open_unit.append(name)
        return name

    def build(self, *outputs: Value) -> Graph:
        """The finished graph, batch 1, float32; use `Graph.bind` for others."""
        return Graph(self.name, self._inputs, self._operators, outputs, units=self._units)

    def shape(self, value: Value) -> Shape:
        """Shape of a value with batch 1."""
        return self._shapes[value]

    def channels(self, value: Value) -> int:
        """Channels of a value."""
        return self._shapes[value][1]

    # -- operators -----------------------------------------------------------------------------------------------

    def conv2d(
        self,
        x: Value,
        out_channels: int,
        kernel: IntOrPair,
        *,
        stride: IntOrPair = 1,
        padding: IntOrPair = 0,
        dilation: IntOrPair = 1,
        groups: int = 1,
        bias: bool = True,
        activation: str = "none",
        name: str | None = None,
    ) -> Value:
        """2-D convolution with a fused activation."""
        return self.operator(
            "conv2d", [x], name=name, out_channels=out_channels, kernel=_pair(kernel), stride=_pair(stride),
            padding=_pair(padding), dilation=_pair(dilation), groups=groups, bias=bias, activation=activation,
        )  # fmt: skip

    def depthwise(
        self,
        x: Value,
        kernel: IntOrPair,
        *,
        stride: IntOrPair = 1,
        padding: IntOrPair = 0,
        bias: bool = False,
    ) -> Value:
        """A convolution of each channel with its own kernel."""
        channels = self.channels(x)
        return self.conv2d(x, channels, kernel, stride=stride, padding=padding, groups=channels, bias=bias)

    def max_pool(
        self,
        x: Value,
        kernel: IntOrPair,
        *,
        stride: IntOrPair = 1,
        padding: IntOrPair = 0,
        ceil_mode: bool = False,
    ) -> Value:
        """Maximum of each window."""
        return self.operator(
            "max_pool",
            [x],
            kernel=_pair(kernel),
            stride=_pair(stride),
            padding=_pair(padding),
            ceil_mode=ceil_mode,
        )

    def avg_pool(
        self,
        x: Value,
        kernel: IntOrPair,
        *,
        stride: IntOrPair = 1,
        padding: IntOrPair = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> Value:
        """Mean of each window."""
        return self.operator(
            "avg_pool", [x], kernel=_pair(kernel), stride=_pair(stride), padding=_pair(padding),
            ceil_mode=ceil_mode, count_include_pad=count_include_pad,
        )  # fmt: skip

    def global_avg_pool(self, x: Value) -> Value:
        """Mean over height and width."""
        return self.operator("global_avg_pool", [x])

    def adaptive_avg_pool(self, x: Value, output_size: IntOrPair) -> Value:
        """Mean over as many windows as the output has elements."""
        return self.operator("adaptive_avg_pool", [x], output_size=_pair(output_size))

    def add(self, *values: Value, activation: str = "none") -> Value:
        """Sum of all values."""
        return self.operator("add", values, activation=activation)

    def mul(self, *values: Value, activation: str = "none") -> Value:
        """Product of all values."""
        return self.operator("mul", values, activation=activation)

    def concat(self, *values: Value) -> Value:
        """Values joined along their channels."""
        return self.operator("concat", values)

    def split(self, x: Value, sizes: Sequence[int]) -> list[Value]:
        """Consecutive slices of the channels; sizes must add up to all of them.

        Raises:
            GraphError: they do not.
        """
        if sum(sizes) != self.channels(x):
            raise GraphError(f"split sizes {list(sizes)} do not add up to {self.channels(x)} channels", where=self.name)
        starts = [sum(sizes[:i]) for i in range(len(sizes))]
        return [self.slice(x, start, start + size) for start, size in zip(starts, sizes, strict=True)]

    def slice(self, x: Value, start: int, stop: int) -> Value:
        """Channels start..stop-1."""
        return self.operator("slice", [x], start=start, stop=stop)

    def activation(self, x: Value, kind: str) -> Value:
        """An activation as an operator of its own.

        Raises:
            GraphError: there is no such activation.
        """
        if kind not in ACTIVATIONS:
            raise GraphError(
                f"unknown activation {kind!r}", where=self.name, hint=f"use one of {', '.join(ACTIVATIONS)}"
            )
        return self.operator(kind, [x])

    def relu(self, x: Value) -> Value:
        """max(x, 0) as an operator of its own."""
        return self.activation(x, "relu")

    def batch_norm(self, x: Value, *, eps: float = 1e-5, activation: str = "none") -> Value:
        """Inference-time normalisation by stored statistics; `simplify` folds it into a convolution before it."""
        return self.operator("batch_norm", [x], eps=eps, activation=activation)

    def linear(self, x: Value, out_features: int, *, bias: bool = True, activation: str = "none") -> Value:
        """Matrix product with a weight of (out_features, in_features)."""
        return self.operator("linear", [x], out_features=out_features, bias=bias, activation=activation)

    def flatten(self, x: Value) -> Value:
        """All but the batch as one axis."""
        return self.operator("flatten", [x])

    def softmax(self, x: Value, *, axis: int = -1) -> Value:
        """Softmax along an axis."""
        return self.operator("softmax", [x], axis=axis)

    def dropout(self, x: Value, rate: float = 0.5) -> Value:
        """The identity at inference; `simplify` removes it."""
        return self.operator("dropout", [x], rate=rate)

    def pad(self, x: Value, padding: tuple[int, int, int, int], *, mode: str = "constant", value: float = 0.0) -> Value:
        """Pad (left, right, top, bottom); negative amounts crop."""
        return self.operator("pad", [x], padding=padding, mode=mode, value=value)

    def resize(self, x: Value, size: tuple[int, int], *, mode: str = "nearest", align_corners: bool = False) -> Value:
        """Resample to a height and width."""
        return self.operator("resize", [x], size=size, mode=mode, align_corners=align_corners)

    def _fresh(self, kind: str) -> str:
        while True:
            self._counts[kind] += 1
            name = f"{kind}_{self._counts[kind]}"
            if name not in self._shapes:
                return name

    def _check_free(self, name: str) -> None:
        if name in self._shapes:
            raise GraphError(f"two tensors are named {name!r}", where=self.name)
