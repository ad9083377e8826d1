"""The built-in networks by name, and the check of their arguments."""

from __future__ import annotations

import difflib
import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from iosfarm.ir.errors import UsageError
from iosfarm.ir.graph import Graph
from iosfarm.zoo.alexnet import alexnet
from iosfarm.zoo.googlenet import googlenet
from iosfarm.zoo.inception_v3 import inception_v3
from iosfarm.zoo.nasnet import nasnet_large
from iosfarm.zoo.randwire import randwire
from iosfarm.zoo.resnet import resnet18, resnet34, resnet50
from iosfarm.zoo.sample import sample
from iosfarm.zoo.squeezenet import squeezenet
from iosfarm.zoo.vgg import vgg16


@dataclass(frozen=True)
class Network:
    """A network that can be loaded by name. factory: keyword arguments only, all with a default and a type."""

    name: str
    factory: Callable[..., Graph]
    description: str
    source: str


@dataclass(frozen=True)
class ArgumentMistake:
    """What is wrong with one argument of a factory."""

    argument: str
    what: str
    hint: str


NETWORKS: Mapping[str, Network] = {
    network.name: network
    for network in (
        Network("inception_v3", inception_v3, "eleven blocks of parallel branches", "arXiv 1512.00567"),
        Network("randwire", randwire, "four randomly wired stages of separable convolutions", "arXiv 1904.01569"),
        Network("nasnet_large", nasnet_large, "eighteen searched cells with two inputs each", "arXiv 1707.07012"),
        Network("squeezenet", squeezenet, "eight fire modules with complex bypass", "arXiv 1602.07360"),
        Network("sample", sample, "one block of four convolutions, to try things on", "arXiv 2011.01302"),
        Network("alexnet", alexnet, "a chain of five convolutions", "arXiv 1404.5997"),
        Network("vgg16", vgg16, "a chain of thirteen convolutions", "arXiv 1409.1556"),
        Network("resnet18", resnet18, "eight residual blocks", "arXiv 1512.03385"),
        Network("resnet34", resnet34, "sixteen residual blocks", "arXiv 1512.03385"),
        Network("resnet50", resnet50, "sixteen residual bottlenecks", "arXiv 1512.03385"),
        Network("googlenet", googlenet, "nine inception modules", "arXiv 1409.4842"),
    )
}


def find(name: str) -> Network:
    """The network of that name.

    Raises:
        UsageError: there is none; the line names the nearest.
    """
    network = NETWORKS.get(name)
    if network is None:
        raise UsageError(f"unknown model {name!r}", hint=nearest(name, NETWORKS))
    return network


def nearest(name: str, known: typing.Iterable[str]) -> str:
    """A hint: the nearest known name, or all of them."""
    names = list(known)
    near = difflib.get_close_matches(name.lower(), names, 1, cutoff=0.5)
    return f"did you mean {near[0]}?" if near else f"expected one of {', '.join(names) or 'none'}"


def argument_types(network: Network) -> dict[str, typing.Any]:
    """The keyword arguments of a network's factory and their types."""
    hints = typing.get_type_hints(network.factory)
    return {name: hints[name] for name in inspect.signature(network.factory).parameters}


def check_arguments(network: Network, arguments: Mapping[str, object]) -> list[ArgumentMistake]:
    """Everything that is wrong with the names and types of a factory's arguments; ranges are the factory's own."""
    if not arguments:
        return []
    from pydantic import TypeAdapter, ValidationError

    types = argument_types(network)
    mistakes = []
    for name, value in arguments.items():
        if name not in types:
            mistakes.append(ArgumentMistake(name, f"{network.name} has no argument {name!r}", nearest(name, types)))
            continue
        try:
            TypeAdapter(types[name]).validate_python(value, strict=True)
        except ValidationError as error:
            reason = error.errors()[0]["msg"].removeprefix("Input should be ").replace("a valid integer", "an integer")
            mistakes.append(ArgumentMistake(name, f"{network.name}: {name} is {value!r}", f"expected {reason}"))
    return mistakes


def create(name: str, arguments: Mapping[str, object]) -> Graph:
    """Build a network.

    Raises:
        UsageError: an unknown network or argument, an argument of the wrong type, or a network that cannot be.
    """
    network = find(name)
    for mistake in check_arguments(network, arguments):
        raise UsageError(mistake.what, hint=mistake.hint)
    return network.factory(**arguments)
