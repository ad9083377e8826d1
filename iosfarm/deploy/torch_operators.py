"""The operators of image networks as torch layers and functions; the others are in `torch_tensors.py`."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import cast

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor, fx, nn

from iosfarm.deploy.torch_writer import ModuleWriter, Writer, integer, ints, number, pair, plain
from iosfarm.ir.graph import Operator


def _conv2d(w: ModuleWriter, o: Operator, sources: Sequence[fx.Node]) -> fx.Node:
    with torch.device("meta"):
        layer = nn.Conv2d(
            w.graph.shape(o.inputs[0])[1],
            integer(o, "out_channels"),
            pair(o, "kernel"),
            pair(o, "stride"),
            pair(o, "padding"),
            pair(o, "dilation"),
            integer(o, "groups"),
            bool(o.attributes["bias"]),
        )
    return w.layer(o, layer, sources[0])


def _linear(w: ModuleWriter, o: Operator, sources: Sequence[fx.Node]) -> fx.Node:
    with torch.device("meta"):
        layer = nn.Linear(w.graph.shape(o.inputs[0])[-1], integer(o, "out_features"), bool(o.attributes["bias"]))
    return w.layer(o, layer, sources[0])


def _batch_norm(w: ModuleWriter, o: Operator, sources: Sequence[fx.Node]) -> fx.Node:
    layer = nn.BatchNorm2d(w.graph.shape(o.inputs[0])[1], eps=number(o, "eps"), device="meta")
    layer.num_batches_tracked = None  # it counts in training only, and would be the one tensor without a value
    return w.layer(o, layer, sources[0])


def _max_pool(w: ModuleWriter, o: Operator, sources: Sequence[fx.Node]) -> fx.Node:
    ceil = bool(o.attributes["ceil_mode"])
    window = ints(o, "kernel"), ints(o, "stride"), ints(o, "padding")
    return w.call(F.max_pool2d, sources[0], *window, ceil_mode=ceil)


def _avg_pool(w: ModuleWriter, o: Operator, sources: Sequence[fx.Node]) -> fx.Node:
    flags = bool(o.attributes["ceil_mode"]), bool(o.attributes["count_include_pad"])
    return w.call(F.avg_pool2d, sources[0], ints(o, "kernel"), ints(o, "stride"), ints(o, "padding"), *flags)


def _adaptive(function: Callable[..., Tensor]) -> Writer:
    return lambda w, o, sources: w.call(function, sources[0], ints(o, "output_size"))


def _chain(function: Callable[..., Tensor]) -> Writer:
    def write(w: ModuleWriter, _: Operator, sources: Sequence[fx.Node]) -> fx.Node:
        result = sources[0]
        for other in sources[1:]:
            result = w.call(function, result, other)
        return result

    return write


def _pad(w: ModuleWriter, o: Operator, sources: Sequence[fx.Node]) -> fx.Node:
    amounts, mode = cast("tuple[int, ...]", o.attributes["padding"]), str(o.attributes["mode"])
    if mode == "constant":
        return w.call(F.pad, sources[0], amounts, value=number(o, "value"))
    # torch crops by negative amounts in constant mode only. Growing comes first: what is cropped may be reflected.
    grown = w.call(F.pad, sources[0], tuple(max(0, amount) for amount in amounts), mode=mode)
    return grown if min(amounts) >= 0 else w.call(F.pad, grown, tuple(min(0, amount) for amount in amounts))


def _resize(w: ModuleWriter, o: Operator, sources: Sequence[fx.Node]) -> fx.Node:
    corners = bool(o.attributes["align_corners"]) if o.attributes["mode"] == "bilinear" else None
    return w.call(F.interpolate, sources[0], ints(o, "size"), mode=o.attributes["mode"], align_corners=corners)


def _slice(w: ModuleWriter, o: Operator, sources: Sequence[fx.Node]) -> fx.Node:
    axis, step = cast("int", o.attributes.get("axis", 1)), cast("int", o.attributes.get("step", 1))
    part = slice(integer(o, "start"), integer(o, "stop"), step)
    before = axis % len(w.graph.shape(o.inputs[0]))
    return w.call(operator.getitem, sources[0], (*[slice(None)] * before, part))


ACTIVATIONS: dict[str, Callable[..., Tensor]] = {
    "relu": F.relu,
    "relu6": F.relu6,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "silu": F.silu,
    "gelu": F.gelu,
    "hard_sigmoid": F.hardsigmoid,
    "hard_swish": F.hardswish,
}

WRITERS: dict[str, Writer] = {
    "conv2d": _conv2d,
    "linear": _linear,
    "batch_norm": _batch_norm,
    "max_pool": _max_pool,
    "avg_pool": _avg_pool,
    "global_avg_pool": lambda w, _, sources: w.call(F.adaptive_avg_pool2d, sources[0], 1),
    "global_max_pool": lambda w, _, sources: w.call(F.adaptive_max_pool2d, sources[0], 1),
    "adaptive_avg_pool": _adaptive(F.adaptive_avg_pool2d),
    "adaptive_max_pool": _adaptive(F.adaptive_max_pool2d),
    "add": _chain(torch.add),
    "mul": _chain(torch.mul),
    **{kind: plain(function) for kind, function in ACTIVATIONS.items()},
    "leaky_relu": lambda w, o, sources: w.call(F.leaky_relu, sources[0], number(o, "negative_slope")),
    "elu": lambda w, o, sources: w.call(F.elu, sources[0], number(o, "alpha")),
    "softmax": lambda w, o, sources: w.call(torch.softmax, sources[0], integer(o, "axis")),
    "dropout": lambda _, __, sources: sources[0],
    "concat": lambda w, o, sources: w.call(torch.cat, list(sources), o.attributes.get("axis", 1)),
    "slice": _slice,
    "flatten": lambda w, _, sources: w.call(torch.flatten, sources[0], 1),
    "pad": _pad,
    "resize": _resize,
}
