"""Moving data: reshapes, transposes, slices, joins."""

from __future__ import annotations

from iosfarm.frontends.errors import NoCounterpart
from iosfarm.frontends.lowering import Constant, Result, Value
from iosfarm.frontends.rules.registry import Call, integers, rule


@rule(
    "view.default", "reshape.default", "_unsafe_view.default", "flatten.using_ints", "unflatten.int",
    "unsqueeze.default", "squeeze.dim", "squeeze.dims", "squeeze.default", "view_as.default", "reshape_as.default",
)  # fmt: skip
def reshape(call: Call) -> Result:
    return call.lowering.reshape(call.value(), call.type.shape)


@rule("permute.default")
def permute(call: Call) -> Result:
    return call.lowering.transpose(call.value(), integers(call["dims"]))


@rule("transpose.int")
def transpose(call: Call) -> Result:
    x = call.value()
    axes = list(range(x.rank))
    a, b = call["dim0"] % x.rank, call["dim1"] % x.rank
    axes[a], axes[b] = axes[b], axes[a]
    return call.lowering.transpose(x, axes)


@rule("t.default", "numpy_T.default")
def t(call: Call) -> Result:
    x = call.value()
    return call.lowering.transpose(x, tuple(reversed(range(x.rank))))


@rule("movedim.int", "movedim.intlist")
def movedim(call: Call) -> Result:
    x, source, target = call.value(), call["source"], call["destination"]
    sources = [a % x.rank for a in ([source] if isinstance(source, int) else source)]
    targets = [a % x.rank for a in ([target] if isinstance(target, int) else target)]
    axes = [a for a in range(x.rank) if a not in sources]
    for place, axis in sorted(zip(targets, sources, strict=True)):
        axes.insert(place, axis)
    return call.lowering.transpose(x, axes)


@rule("cat.default", "concat.default", "concatenate.default")
def cat(call: Call) -> Result:
    items = call.values("tensors")
    rank = len(call.type.shape)
    axis = call["dim"] % rank
    # torch lets an empty tensor of one axis take part in any join.
    items = [i for i in items if not (isinstance(i, Constant) and tuple(i.tensor.shape) == (0,))]
    values = [call.lowering.materialised(i, rank) if isinstance(i, Constant) else i for i in items]
    plain = [value for value in values if isinstance(value, Value)]
    if len(plain) < len(values) or len({value.axis for value in plain}) > 1 or axis == plain[0].axis:
        raise NoCounterpart("a join along the batch, or of other things than tensors")
    return _concat(call, plain, axis)


def _concat(call: Call, values: list[Value], axis: int) -> Value:
    if len(values) == 1:
        return values[0]
    return call.lowering.add("concat", values, axis=axis)


@rule("stack.default")
def stack(call: Call) -> Result:
    rank = len(call.type.shape)
    axis = call["dim"] % rank
    values = []
    for item in call.values("tensors"):
        if not isinstance(item, Value):
            raise NoCounterpart("a stack of other things than tensors")
        values.append(call.lowering.reshape(item, (*item.shape[:axis], 1, *item.shape[axis:])))
    if len({value.axis for value in values}) > 1:
        raise NoCounterpart("the batch is in different places")
    return _concat(call, values, axis)


def sliced(call: Call, x: Value, axis: int, start: int, stop: int, step: int = 1) -> Value:
    """start..stop-1 of an axis, every `step`-th."""
    if (start, stop, step) == (0, x.shape[axis], 1):
        return x
    if axis == x.axis:
        raise NoCounterpart("a slice of the batch")
    return call.lowering.add("slice", [x], start=start, stop=stop, axis=axis, step=step)


@rule("slice.Tensor")
def slice_(call: Call) -> Result:
    x = call.value()
    axis = call["dim"] % x.rank
    start, stop, _ = slice(call["start"], call["end"], 1).indices(x.shape[axis])
    return sliced(call, x, axis, start, stop, call["step"])


@rule("narrow.default")
def narrow(call: Call) -> Result:
    x = call.value()
    axis = call["dim"] % x.rank
    start = call["start"] % x.shape[axis]
    return sliced(call, x, axis, start, start + call["length"])


@rule("select.int")
def select(call: Call) -> Result:
    x = call.value()
    axis = call["dim"] % x.rank
    index = call["index"] % x.shape[axis]
    piece = sliced(call, x, axis, index, index + 1)
    return call.lowering.reshape(piece, (*x.shape[:axis], *x.shape[axis + 1 :]))


@rule("split.Tensor", "split.sizes", "split_with_sizes.default", "chunk.default", "tensor_split.sections",
      "unsafe_chunk.default", "unsafe_split.Tensor", "unsafe_split_with_sizes.default")  # fmt: skip
def split(call: Call) -> Result:
    x = call.value()
    axis = call["dim"] % x.rank
    start, pieces = 0, []
    assert isinstance(call.node.types, list)
    for kind in call.node.types:
        assert kind is not None
        pieces.append(sliced(call, x, axis, start, start + kind.shape[axis]))
        start += kind.shape[axis]
    return pieces


@rule("unbind.int")
def unbind(call: Call) -> Result:
    x = call.value()
    axis = call["dim"] % x.rank
    rest = (*x.shape[:axis], *x.shape[axis + 1 :])
    return [call.lowering.reshape(sliced(call, x, axis, i, i + 1), rest) for i in range(x.shape[axis])]


@rule("roll.default")
def roll(call: Call) -> Result:
    x = call.value()
    if not call["dims"]:
        raise NoCounterpart("a roll of all elements")
    for shift, dim in zip(integers(call["shifts"]), integers(call["dims"]), strict=True):
        axis, length = dim % x.rank, x.shape[dim]
        if shift % length:
            cut = length - shift % length
            x = _concat(call, [sliced(call, x, axis, cut, length), sliced(call, x, axis, 0, cut)], axis)
    return x


@rule("expand.default", "expand_as.default", "broadcast_to.default")
def expand(call: Call) -> Result:
    x, shape = call.value(), call.type.shape
    if x.shape == shape:
        return x
    name = call.node.name
    readers = call.lowering.users.get(name, [])
    # Arithmetic between tensors expands by itself.
    if len(shape) != x.rank or not readers or any(ref.name == name for ref in call.lowering.outputs):
        raise NoCounterpart("an expanded tensor")
    for reader in readers:
        kinds = ("add.Tensor", "sub.Tensor", "mul.Tensor", "div.Tensor")
        others = [ref for ref in reader.refs() if ref.name != name]
        if reader.kind.removeprefix("aten.") not in kinds or not others:
            raise NoCounterpart("an expanded tensor")
        for other in others:
            found = call.lowering.values.get(other)
            if not isinstance(found, Value) or found.shape != shape:
                raise NoCounterpart("an expanded tensor")
    return x


@rule("pixel_shuffle.default")
def pixel_shuffle(call: Call) -> Result:
    x, r = call.image(), call["upscale_factor"]
    n, c, h, w = x.shape
    apart = call.lowering.reshape(x, (n, c // (r * r), r, r, h, w))
    return call.lowering.reshape(call.lowering.transpose(apart, (0, 1, 4, 2, 5, 3)), (n, c // (r * r), h * r, w * r))


@rule("channel_shuffle.default", "native_channel_shuffle.default")
def channel_shuffle(call: Call) -> Result:
    x, groups = call.image(), call["groups"]
    n, c, h, w = x.shape
    apart = call.lowering.reshape(x, (n, groups, c // groups, h, w))
    return call.lowering.reshape(call.lowering.transpose(apart, (0, 2, 1, 3, 4)), x.shape)
