"""Networks of other packages by name: a factory of one's own, torchvision's and timm's models."""

from __future__ import annotations

import difflib
import importlib
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from iosfarm.frontends.errors import CannotImport
from iosfarm.frontends.imported import Imported
from iosfarm.frontends.torch.importer import import_module

LIBRARIES = ("torch", "torchvision", "timm")
"""Where a network can come from by name; `torch` is a `package.module:factory` of one's own."""

IMAGE = (3, 224, 224)
"""The input unless something else is said, without the batch."""


def import_named(
    library: str,
    name: str,
    *,
    arguments: Mapping[str, Any] | None = None,
    inputs: Sequence[Sequence[int]] | None = None,
    state: Path | None = None,
    strict: bool = False,
    folder: Path | None = None,
    label: str | None = None,
) -> Imported:
    """Make a network and import it. Weights are what its factory gives it: random ones, unless `state` has others.

    arguments: of the factory. inputs: shapes without the batch. state: a `.pt` or `.pth` file of a state dict, read
    with `weights_only=True`, or a `.safetensors` file. folder: where a package of one's own may be, besides the usual
    places.

    Raises:
        CannotImport: the library is not installed, there is no such network, it cannot be made, or the state does not
            fit; and what `import_module` raises.
    """
    given = dict(arguments or {})
    where = f"{library} {name}"
    # Random weights are the same each time: a network that is loaded again is the same network.
    with torch.random.fork_rng(devices=[]), _importable(library == "torch", folder):
        torch.manual_seed(0)
        makers: dict[str, Callable[[], Any]] = {
            "torch": lambda: _own(name, where)(**given),
            "torchvision": lambda: _torchvision(name, given, where),
            "timm": lambda: _timm(name, given, where),
        }
        try:
            module = makers[library]()
        except CannotImport:
            raise
        except (Exception, SystemExit) as error:  # the factory is the user's: whatever it raises is told
            raise CannotImport(
                f"the network cannot be made: {type(error).__name__}: {_line(error)}", where=where,
                hint="arguments and downloads are the usual reasons",
            ) from error  # fmt: skip
    if not isinstance(module, torch.nn.Module):
        raise CannotImport(f"it makes a {type(module).__name__}, not a torch module", where=where)
    if state is not None:
        load_state(module, state)
    try:
        examples = [torch.zeros(1, *shape) for shape in inputs or _usual_inputs(module)]
    except RuntimeError as error:
        raise CannotImport(f"these inputs do not fit into memory: {_line(error)}", where=where) from None
    return import_module(module, examples, strict=strict, name=label or name.rsplit(":", 1)[-1].replace("/", "_"))


def load_state(module: torch.nn.Module, path: Path) -> None:
    """Give a module the weights of a file.

    Raises:
        CannotImport: the file cannot be read as weights alone, or does not fit; the line names what does not.
    """
    where = str(path)
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state: Any = load_file(where)
        else:
            state = torch.load(where, map_location="cpu", weights_only=True)
    except OSError as error:
        raise CannotImport(f"cannot read these weights: {error.strerror or error}", where=where) from None
    except Exception as error:  # pickle and zip have many
        raise CannotImport(
            f"not a file of weights alone: {type(error).__name__}: {_line(error)}", where=where,
            hint="save it with torch.save(module.state_dict(), path)",
        ) from None  # fmt: skip
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    if not isinstance(state, Mapping) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise CannotImport("not a state dict", where=where, hint="save it with torch.save(module.state_dict(), path)")
    try:
        module.load_state_dict(dict(state))
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()]
        raise CannotImport(f"these weights do not fit: {' '.join(lines[1:4])}", where=where) from None


def _usual_inputs(module: torch.nn.Module) -> list[tuple[int, ...]]:
    """timm's models say what they take; all others are taken to read an image."""
    config = getattr(module, "default_cfg", None)
    size = config.get("input_size") if isinstance(config, Mapping) else None
    return [tuple(size)] if isinstance(size, (tuple, list)) else [IMAGE]


def _own(name: str, where: str) -> Callable[..., Any]:
    module_name, _, attribute = name.partition(":")
    if not module_name or not attribute:
        raise CannotImport(f"{name!r} is no factory", where=where, hint="write package.module:factory")
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise CannotImport(
            f"there is no module {error.name!r}", where=where, hint="is it installed, or beside the file?"
        ) from None
    for part in attribute.split("."):
        if not hasattr(found, part):
            hint = _nearest(part, [n for n in dir(found) if not n.startswith("_")])
            raise CannotImport(f"{module_name} has no {part!r}", where=where, hint=hint)
        found = getattr(found, part)
    if not callable(found):
        raise CannotImport(f"{name} is no factory but a {type(found).__name__}", where=where)
    return found  # type: ignore[no-any-return]


def _torchvision(name: str, arguments: dict[str, Any], where: str) -> Any:
    try:
        import torchvision
    except ImportError:
        raise CannotImport("torchvision is not installed", where=where, hint="pip install torchvision") from None
    except RuntimeError as error:
        # A torchvision for another build of torch fails when it registers its operators.
        what = f"torchvision does not fit this torch: {_line(error)}"
        raise CannotImport(what, where=where, hint=_same_build()) from None
    known = torchvision.models.list_models()
    if name not in known:
        raise CannotImport(f"torchvision has no model {name!r}", where=where, hint=_nearest(name, known))
    if name in ("googlenet", "inception_v3"):
        arguments.setdefault("init_weights", True)  # it warns otherwise
    if "weights_backbone" in inspect.signature(torchvision.models.get_model_builder(name)).parameters:
        arguments.setdefault("weights_backbone", None)  # it downloads some otherwise
    return torchvision.models.get_model(name, **{"weights": None, **arguments})


def _timm(name: str, arguments: dict[str, Any], where: str) -> Any:
    try:
        import timm
    except ImportError:
        raise CannotImport("timm is not installed", where=where, hint="pip install timm") from None
    except RuntimeError as error:
        what = f"timm's torchvision does not fit this torch: {_line(error)}"
        raise CannotImport(what, where=where, hint=_same_build()) from None
    known = timm.list_models()
    if name.split(".")[0] not in known:
        raise CannotImport(f"timm has no model {name!r}", where=where, hint=_nearest(name, known))
    return timm.create_model(name, **{"pretrained": False, **arguments})


def _same_build() -> str:
    """Where to find the torchvision that was built for this torch."""
    build = torch.__version__.partition("+")[2] or "cpu"
    return f"pip install --force-reinstall --no-deps torchvision --index-url https://download.pytorch.org/whl/{build}"


@contextmanager
def _importable(own: bool, folder: Path | None) -> Iterator[None]:
    """Python finds packages of one's own in a folder, and in the current one, as it does for a script."""
    added = [str(path.resolve()) for path in (folder, Path()) if own and path is not None]
    before = list(sys.path)
    sys.path[:0] = [path for path in added if path not in before]
    try:
        yield
    finally:
        sys.path[:] = before


def _nearest(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f"did you mean {near[0]}?" if near else ""


def _line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "")
