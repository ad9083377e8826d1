"""What torch itself makes of an operator: smaller ones, written down as they run on tensors without data."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from iosfarm.frontends.errors import NoCounterpart
from iosfarm.frontends.lowering import Constant, Deferred, Lowering, Value
from iosfarm.frontends.program import Node, Ref, TensorType, replaced
from iosfarm.frontends.rules.registry import operator


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Writes down every operator that runs, on tensors without data."""

    def __init__(self, node: Node) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._node = node
        self.names: dict[int, Ref] = {}
        self.kept: list[Any] = []  # identities are of live tensors
        self.nodes: list[Node] = []

    def know(self, tensor: Tensor, ref: Ref) -> None:
        self.names[id(tensor)] = ref
        self.kept.append(tensor)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        name = f"{self._node.name}/{len(self.nodes)}"
        many = isinstance(result, (list, tuple))
        if func._schema.is_mutable or not (many or isinstance(result, Tensor)):
            raise NoCounterpart(f"torch decomposes it into {func}")
        kinds = [TensorType.of(t) if isinstance(t, Tensor) else None for t in result] if many else TensorType.of(result)
        self.nodes.append(
            Node(
                name, str(func), tuple(replaced(args, self._ref)),
                {key: replaced(value, self._ref) for key, value in kwargs.items()}, kinds, self._node.where,
                self._node.label,
            )
        )  # fmt: skip
        for item, tensor in enumerate(result if many else [result]):
            if isinstance(tensor, Tensor):
                self.know(tensor, Ref(name, item if many else None))
        return result

    def _ref(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            if id(value) not in self.names:
                raise NoCounterpart("torch decomposes it with tensors of its own")
            return self.names[id(value)]
        return value


def decomposed(lowering: Lowering, node: Node) -> tuple[list[Node], Any]:
    """The operators that torch makes of one, and the reference, or the list of them, of its result.

    Raises:
        NoCounterpart: torch has nothing to offer.
    """
    function = operator(node.kind)
    table = torch._decomp.core_aten_decompositions()
    composite = torch._C._dispatch_has_kernel_for_dispatch_key(function.name(), "CompositeImplicitAutograd")
    if not composite and function not in table:
        raise NoCounterpart("we have no such operator")
    recorder = _Recorder(node)

    def plain(value: Any) -> Any:
        if not isinstance(value, Ref):
            return value
        found = lowering.value(value)
        if isinstance(found, Constant) and found.batched:
            raise NoCounterpart("a constant of the batch's size")
        if isinstance(found, Deferred):
            raise NoCounterpart("it reads what is kept whole")
        dtype = torch.float32 if isinstance(found, Value) else found.tensor.dtype
        shape = found.shape if isinstance(found, Value) else found.tensor.shape
        tensor = torch.empty(tuple(shape), dtype=dtype, device="meta")
        recorder.know(tensor, value)
        return tensor

    arguments = replaced(node.arguments, plain)
    keywords = {k: replaced(v, plain) for k, v in node.keywords.items() if k != "device"}
    try:
        with recorder, torch.no_grad():
            result = (
                function.decompose(*arguments, **keywords) if composite else table[function](*arguments, **keywords)
            )
    except NoCounterpart:
        raise
    except Exception as error:  # whatever a decomposition trips over, the operator stays whole
        raise NoCounterpart(
            f"torch's decomposition fails: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
        ) from None
    if result is NotImplemented or any(part.kind == node.kind for part in recorder.nodes):
        raise NoCounterpart("torch does not decompose it")
    return recorder.nodes, replaced(result, recorder._ref) if isinstance(result, (list, tuple)) else recorder._ref(
        result
    )
