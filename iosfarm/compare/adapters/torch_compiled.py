"""torch.compile with its own backend, inductor, in the mode that tries most."""

from __future__ import annotations

import torch

from iosfarm.compare.adapter import Prepared
from iosfarm.compare.adapters.torch_eager import arrays, caller, module_and_inputs, profiled
from iosfarm.compare.problem import Problem


def prepare(problem: Problem, _: str) -> Prepared:
    """See `iosfarm.compare.adapter`. Freezing makes weights constants, as every other framework here has them."""
    import torch._inductor.config as settings

    settings.freezing = True
    module, inputs = module_and_inputs(problem)
    call = caller(torch.compile(module, fullgraph=True), inputs)
    return Prepared(torch.__version__, call, arrays, lambda: profiled(call), "inductor, freezing, channels last")
