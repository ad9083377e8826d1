"""Which frameworks there are: for each its adapter, what it needs, and how to install it."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from iosfarm.ir.errors import UsageError


@dataclass(frozen=True)
class Framework:
    """One framework.

    adapter: module of `iosfarm.compare.adapters`. package: what has to be importable. install: how to get it. devices:
    kinds that it runs on. reads: the form of the network that it takes, `graph` (ours) or `onnx`. variant: what the
    adapter is told, where one adapter serves several rows.
    """

    name: str
    title: str
    adapter: str
    package: str
    install: str
    devices: tuple[str, ...] = ("cpu", "cuda")
    reads: str = "graph"
    variant: str = ""


_EXTRA = "pip install 'iosfarm[compare]'"
_GPU = ("cuda",)

FRAMEWORKS: dict[str, Framework] = {
    item.name: item
    for item in (
        Framework("ios", "IOS (iosfarm)", "ios", "torch", _EXTRA),
        Framework("ios_sequential", "iosfarm, sequential", "ios", "torch", _EXTRA),
        Framework("taso_style", "TASO-style substitutions", "ios", "torch", _EXTRA),
        Framework("torch", "PyTorch eager", "torch_eager", "torch", _EXTRA),
        Framework("torch_compile", "torch.compile", "torch_compiled", "torch", _EXTRA),
        Framework("torch_cuda_graph", "PyTorch in a CUDA graph", "torch_cuda_graph", "torch", _EXTRA, _GPU),
        Framework("onnxruntime", "ONNX Runtime", "onnx_runtime", "onnxruntime", _EXTRA, reads="onnx"),
        Framework("openvino", "OpenVINO", "openvino_cpu", "openvino", _EXTRA, ("cpu",), "onnx"),
        Framework("jax", "JAX", "jax_jit", "jax", _EXTRA),
        Framework("tensorflow", "TensorFlow", "tensorflow_graph", "tensorflow", _EXTRA),
        Framework("tensorflow_xla", "TensorFlow-XLA", "tensorflow_graph", "tensorflow", _EXTRA, variant="xla"),
        Framework("tvm", "TVM", "tvm_relax", "tvm", _EXTRA, reads="onnx"),
        Framework("tvm_tuned", "TVM, tuned", "tvm_relax", "tvm", _EXTRA, reads="onnx", variant="tuned"),
        Framework("tvm_cudnn", "TVM-cuDNN", "tvm_relax", "tvm", "build TVM with CUDA and cuDNN", _GPU, "onnx", "cudnn"),
        Framework("tensorrt", "TensorRT", "tensor_rt", "tensorrt", "pip install tensorrt", _GPU, "onnx"),
        Framework("taso", "TASO", "taso_real", "taso", "build it from its sources; it has no package", _GPU, "onnx"),
    )
}
"""In the order of the table. TASO's idea without TASO is `taso_style`."""


def chosen(names: Sequence[str]) -> list[Framework]:
    """Frameworks by name, each once; `all` stands for every one.

    Raises:
        UsageError: no name, or one that is not known.
    """
    if not names or any(not name for name in names):
        raise UsageError("no framework", where="--frameworks", hint=f"name some of {', '.join(FRAMEWORKS)}, or all")
    found: dict[str, Framework] = {}
    for name in names:
        if name == "all":
            found |= FRAMEWORKS
            continue
        plain = name.strip().lower().replace("-", "_")
        if plain not in FRAMEWORKS:
            near = difflib.get_close_matches(plain, FRAMEWORKS, 1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(FRAMEWORKS)}, all"
            raise UsageError(f"unknown framework {name!r}", where="--frameworks", hint=hint)
        found[plain] = FRAMEWORKS[plain]
    return list(found.values())
