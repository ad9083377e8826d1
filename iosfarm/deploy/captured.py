"""What `torch.compile` captures, made fit for import: parameters and buffers become constants of the module.

Since torch 2.5 the captured graph gets them as inputs, beside those of the user.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn


class NotOurs(Exception):  # noqa: N818 - not an error: torch runs it instead
    """Why a captured graph is left to torch; a hint for its author comes after a semicolon."""


@dataclass(frozen=True)
class Captured:
    """module: the graph with its constants. inputs: places of the user's tensors among the arguments; constants: places
    of the others, and what was found there.
    """

    module: fx.GraphModule
    inputs: tuple[int, ...]
    constants: tuple[tuple[int, Tensor], ...]


def is_fixed(examples: Sequence[Any]) -> bool:
    """Whether all sizes are numbers, and not names of numbers that are known when the graph is called."""
    return not any(_is_number(e) or any(type(size) is not int for size in e.shape) for e in examples)


def sizes(arguments: Sequence[Any]) -> tuple[Any, ...]:
    """What a graph that is not fixed is made for: the shapes of tensors, and numbers."""
    return tuple([a.item() if _is_scalar(a) else tuple(a.shape) if isinstance(a, Tensor) else a for a in arguments])


def _is_number(example: Any) -> bool:
    return not isinstance(example, Tensor) or _is_scalar(example)


def _is_scalar(example: Any) -> bool:
    """torch passes floats that may change, such as the rate of a dropout, as tensors of rank 0."""
    return isinstance(example, Tensor) and example.dim() == 0 and example.dtype == torch.float64


def captured(graph: fx.GraphModule, examples: Sequence[Any]) -> Captured:
    """A captured graph for inference on the CPU, with the sizes of these examples.

    Raises:
        NotOurs: a gradient may be asked for, a layer is in training mode, …
    """
    _check(graph, examples)
    code = fx.Graph()
    copies: dict[fx.Node, Any] = {}
    attributes: dict[str, Any] = {}
    inputs: list[int] = []
    constants: list[tuple[int, Tensor]] = []
    place = 0
    for node in graph.graph.nodes:
        if node.op == "placeholder":
            example = examples[place]
            if _is_number(example):
                copies[node] = example if type(example) is int else example.item()
            elif _is_constant(node, example):
                attributes[node.name] = example.detach()
                copies[node] = code.get_attr(node.name)
                constants.append((place, example))
            else:
                copies[node] = code.node_copy(node)
                inputs.append(place)
            place += 1
            continue
        if node.op == "call_method" and node.target == "item" and not isinstance(copies[node.args[0]], fx.Node):
            copies[node] = copies[node.args[0]]
            continue
        if node.op in ("get_attr", "call_module"):
            attributes[str(node.target)] = _attribute(graph, str(node.target))
        copies[node] = code.node_copy(node, lambda argument: copies[argument])
    if not inputs:
        raise NotOurs("it reads no tensor of the caller's")
    _check_dtypes(graph, [examples[place] for place in inputs], [tensor for _, tensor in constants])
    return Captured(fx.GraphModule(attributes, code, "captured"), tuple(inputs), tuple(constants))


def tried(graph: fx.GraphModule, examples: Sequence[Any], inputs: Sequence[int]) -> Sequence[Any]:
    """What torch makes of copies of the inputs at these places.

    Raises:
        NotOurs: it changes one of them, which a graph of ours would not.
    """
    arguments = list(examples)
    # Only outside of inference mode do tensors count their changes.
    with torch.inference_mode(False), torch.no_grad():
        for place in inputs:
            arguments[place] = examples[place].clone()
        before = [arguments[place]._version for place in inputs]
        results: Sequence[Any] = graph.forward(*arguments)
        if [arguments[place]._version for place in inputs] != before:
            raise NotOurs("it changes an input in place")
    return results


def _is_constant(node: fx.Node, example: Tensor) -> bool:
    """Whether an input is a parameter or a buffer of a module, and not what the user passes."""
    if isinstance(example, nn.Parameter):
        return True
    origin = getattr(getattr(node, "_dynamo_source", None), "guard_source", None)
    return origin is not None and (origin.is_unspecialized_nn_module() or origin.is_specialized_nn_module())


def _attribute(module: fx.GraphModule, target: str) -> Any:
    found: Any = module
    for name in target.split("."):
        found = getattr(found, name)
    return found


def _check(graph: fx.GraphModule, examples: Sequence[Any]) -> None:
    for example in examples:
        if not isinstance(example, Tensor):
            if type(example) is int:
                continue
            raise NotOurs(f"it reads a {type(example).__name__}")
        if example.device.type != "cpu":
            raise NotOurs(f"a tensor is on {example.device}; move the model to the CPU")
    if torch.is_grad_enabled() and any(e.requires_grad for e in examples if isinstance(e, Tensor)):
        raise NotOurs("a gradient may be asked for; call the model under torch.no_grad() or torch.inference_mode()")
    if torch.is_autocast_enabled("cpu"):
        raise NotOurs("autocast is on; convert the model with .to(torch.bfloat16) instead")
    for node in graph.graph.nodes:
        if node.op == "call_function" and _trains(node):
            raise NotOurs(f"{node.name} is in training mode; call .eval() on the model")


def _check_dtypes(graph: fx.GraphModule, inputs: Sequence[Tensor], constants: Sequence[Tensor]) -> None:
    """A graph of ours has one dtype; mixed ones, and results that are no such numbers, are torch's."""
    dtype = inputs[0].dtype
    (output,) = graph.graph.find_nodes(op="output")
    results = [node.meta.get("example_value") for node in output.all_input_nodes]
    numbers = [tensor for tensor in constants if tensor.is_floating_point()]
    for what, tensors in (("an input", inputs), ("a weight", numbers), ("a result", results)):
        for tensor in tensors:
            if isinstance(tensor, Tensor) and tensor.dtype != dtype:
                raise NotOurs(f"{what} is {tensor.dtype}, and the first input {dtype}")


def _trains(node: fx.Node) -> bool:
    """Whether a call does what it does in training only: random dropout, statistics of the batch."""
    target = node.target
    named = dict(node.kwargs)
    try:
        assert callable(target)
        named |= inspect.signature(target).bind(*node.args, **node.kwargs).arguments
    except (TypeError, ValueError):  # a builtin, which does not tell the names of its arguments
        schema = _schema(target)
        named |= dict(zip(schema, node.args, strict=False))
    return any(bool(named.get(name)) for name in ("training", "train", "use_input_stats"))


def _schema(target: object) -> list[str]:
    """Names of the arguments of torch's builtin functions, such as `torch.dropout`."""
    name = getattr(target, "__name__", "")
    packet = getattr(torch.ops.aten, name, None)
    if packet is None or not packet.overloads():
        return []
    return [argument.name for argument in getattr(packet, packet.overloads()[0])._schema.arguments]
