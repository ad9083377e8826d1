"""Operators on tensors of any rank as torch layers and functions: products, norms, arithmetic, reshaping."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor, fx, nn

from iosfarm.deploy.torch_writer import ModuleWriter, Writer, integer, ints, number, pair, plain
from iosfarm.ir.graph import Operator
from iosfarm.ir.operators.elementwise import UNBOUNDED
from iosfarm.kernels.torch_operators import UNARY_FUNCTIONS, bind


def _conv_transpose2d(w: ModuleWriter, o: Operator, sources: Sequence[fx.Node]) -> fx.Node:
    with torch.device("meta"):
        layer = nn.ConvTranspose2d(
            w.graph.shape(o.inputs[0])[1],
            integer(o, "out_channels"),
            pair(o, "kernel"),
            pair(o, "stride"),
            pair(o, "padding"),
            pair(o, "output_padding"),
            integer(o, "groups"),
            bool(o.attributes["bias"]),
            pair(o, "dilation"),
        )
    return w.layer(o, layer, *sources)


def _layer_norm(w: ModuleWriter, o: Operator, sources: Sequence[fx.Node]) -> fx.Node:
    return w.layer(o, nn.LayerNorm(list(ints(o, "shape")), number(o, "eps"), device="meta"), *sources)


def _group_norm(w: ModuleWriter, o: Operator, sources: Sequence[fx.Node]) -> fx.Node:
    channels = w.graph.shape(o.inputs[0])[1]
    return w.layer(o, nn.GroupNorm(integer(o, "groups"), channels, number(o, "eps"), device="meta"), *sources)


def _prelu(w: ModuleWriter, o: Operator, sources: Sequence[fx.Node]) -> fx.Node:
    return w.layer(o, nn.PReLU(w.graph.shape(o.inputs[0])[1], device="meta"), *sources)


def _local_response_norm(w: ModuleWriter, o: Operator, sources: Sequence[fx.Node]) -> fx.Node:
    numbers = number(o, "alpha"), number(o, "beta"), number(o, "k")
    return w.call(F.local_response_norm, sources[0], integer(o, "size"), *numbers)


def _attention(w: ModuleWriter, o: Operator, sources: Sequence[fx.Node]) -> fx.Node:
    scale, causal = number(o, "scale") or None, bool(o.attributes["causal"])
    return w.call(F.scaled_dot_product_attention, *sources, is_causal=causal, scale=scale)


def _with_weight(function: Callable[..., Tensor]) -> Writer:
    return lambda w, o, sources: w.call(function, sources[0], w.weight(o))


def _constant(w: ModuleWriter, o: Operator, _: Sequence[fx.Node]) -> fx.Node:
    return w.call(Tensor.expand, w.weight(o), list(w.graph.shape(o.name)))


def _affine(w: ModuleWriter, o: Operator, sources: Sequence[fx.Node]) -> fx.Node:
    return w.call(torch.add, w.call(torch.mul, sources[0], number(o, "scale")), number(o, "offset"))


def _clamp(w: ModuleWriter, o: Operator, sources: Sequence[fx.Node]) -> fx.Node:
    bounds = [bound if abs(bound) < UNBOUNDED else None for bound in (number(o, "min"), number(o, "max"))]
    return sources[0] if bounds == [None, None] else w.call(torch.clamp, sources[0], *bounds)


def _unary(w: ModuleWriter, o: Operator, sources: Sequence[fx.Node]) -> fx.Node:
    function = str(o.attributes["function"])
    if function == "gelu_tanh":
        return w.call(F.gelu, sources[0], approximate="tanh")
    return w.call(UNARY_FUNCTIONS[function], sources[0])


def _reduce(w: ModuleWriter, o: Operator, sources: Sequence[fx.Node]) -> fx.Node:
    axes, keep = list(ints(o, "axes")), bool(o.attributes["keepdims"])
    if o.attributes["function"] == "norm":
        return w.call(torch.linalg.vector_norm, sources[0], 2, axes, keep)
    functions: dict[str, Callable[..., Tensor]] = {
        "mean": torch.mean,
        "sum": torch.sum,
        "max": torch.amax,
        "min": torch.amin,
    }
    return w.call(functions[str(o.attributes["function"])], sources[0], axes, keep)


class _Bound(nn.Module):
    """A program of torch operators that the network's author wrote, with its parameters."""

    def __init__(self, operator: Operator) -> None:
        super().__init__()
        self._operator = operator

    def forward(self, *inputs: Tensor) -> Tensor:
        return bind(self._operator.kind, self._operator.attributes, dict(self.named_parameters()))(*inputs)


def _opaque(w: ModuleWriter, o: Operator, sources: Sequence[fx.Node]) -> fx.Node:
    return w.layer(o, _Bound(o), *sources)


WRITERS: dict[str, Writer] = {
    "conv_transpose2d": _conv_transpose2d,
    "layer_norm": _layer_norm,
    "group_norm": _group_norm,
    "local_response_norm": _local_response_norm,
    "scale": _with_weight(torch.mul),
    "shift": _with_weight(torch.add),
    "prelu": _prelu,
    "constant": _constant,
    "matmul": plain(torch.matmul),
    "attention": _attention,
    "sub": plain(torch.sub),
    "div": plain(torch.div),
    "affine": _affine,
    "clamp": _clamp,
    "power": lambda w, o, sources: w.call(torch.pow, sources[0], number(o, "exponent")),
    "log_softmax": lambda w, o, sources: w.call(torch.log_softmax, sources[0], integer(o, "axis")),
    "unary": _unary,
    "reduce": _reduce,
    "reshape": lambda w, o, sources: w.call(torch.reshape, sources[0], list(w.graph.shape(o.name))),
    "transpose": lambda w, o, sources: w.call(torch.permute, sources[0], list(ints(o, "axes"))),
    "opaque": _opaque,
}
