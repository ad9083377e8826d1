"""Importing networks: seconds, units, opaque operators, and how far the numbers are from the original's.

    python benchmarks/frontends.py                 # torchvision's families, the light networks of onnx, 3,000 operators
    python benchmarks/frontends.py timm:hrnet_w18 torchvision:maxvit_t
    python benchmarks/frontends.py --search        # and search each on sim:v100, and run it on the CPU

Errors are relative to the largest number: of torch's float32 result, or of onnxruntime's. Networks have random
weights, and norms far from the identity.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "frontends"))

from imported_networks import perturbed
from torchvision_operators import declare

import iosfarm
from iosfarm.frontends.imported import Imported
from iosfarm.frontends.onnx import import_file
from iosfarm.frontends.torch import import_module
from iosfarm.kernels import open_runtime
from iosfarm.kernels.reference import run_graph

FAMILIES = (
    "alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "efficientnet_v2_s", "googlenet", "inception_v3",
    "maxvit_t", "mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small", "regnet_y_400mf", "resnet18", "resnext50_32x4d",
    "shufflenet_v2_x0_5", "squeezenet1_1", "swin_t", "swin_v2_t", "vgg11", "vit_b_32", "wide_resnet50_2",
)  # fmt: skip

Expected = list[np.ndarray]


def of_torch(name: str) -> tuple[Imported, float, Expected, list[np.ndarray]]:
    """A network of torchvision or timm, seconds of the import, its outputs and inputs."""
    library, _, model = name.partition(":")
    declare()
    torch.manual_seed(0)
    if library == "timm":
        import timm

        module: nn.Module = timm.create_model(model, pretrained=False)
        shape = module.default_cfg["input_size"]
    else:
        from torchvision import models

        quiet = {"init_weights": False} if model in ("googlenet", "inception_v3") else {}
        module, shape = models.get_model(model, weights=None, **quiet), (3, 224, 224)
    perturbed(module)
    x = torch.randn(1, *shape)
    began = time.perf_counter()
    imported = import_module(module, x, name=model)
    seconds = time.perf_counter() - began
    with torch.inference_mode():
        expected = [leaf.numpy() for leaf in pytree.tree_leaves(module(x)) if isinstance(leaf, Tensor)]
    return imported, seconds, expected, [x.numpy()]


def of_onnx(path: Path) -> tuple[Imported, float, Expected, list[np.ndarray]]:
    """An ONNX file, seconds of the import, what onnxruntime makes of random inputs."""
    import onnxruntime

    began = time.perf_counter()
    imported = import_file(path)
    seconds = time.perf_counter() - began
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    random = np.random.default_rng(0)
    graph = imported.graph
    inputs = [random.standard_normal(graph.shape(item.name)).astype(np.float32) for item in graph.inputs]
    fed = {item.name: array for item, array in zip(session.get_inputs(), inputs, strict=True)}
    return imported, seconds, session.run(None, fed), inputs


def deep() -> tuple[Imported, float, Expected, list[np.ndarray]]:
    """A program of 3,000 operators, already exported."""

    class Deep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(nn.Conv2d(4, 4, 1) for _ in range(1000))

        def forward(self, x: Tensor) -> Tensor:
            for layer in self.layers:
                x = torch.tanh(layer(x)) + x
            return x

    module, x = Deep().eval(), torch.randn(1, 4, 8, 8)
    program = torch.export.export(module, (x,), strict=False)
    began = time.perf_counter()
    imported = import_module(program, name="3000 operators")
    seconds = time.perf_counter() - began
    with torch.inference_mode():
        return imported, seconds, [module(x).numpy()], [x.numpy()]


def error(ours: list[np.ndarray], expected: Expected) -> float:
    """The largest over all outputs."""
    return max(
        float(np.abs(a - b).max()) / (float(np.abs(b).max()) or 1.0) for a, b in zip(ours, expected, strict=True)
    )


def searched(imported: Imported, inputs: list[np.ndarray], expected: Expected) -> str:
    """Search on a simulated V100, run what comes out on the CPU."""
    began = time.perf_counter()
    schedule = iosfarm.search(imported.graph, device="sim:v100", gap=0.05, weights=imported.weights)
    seconds = time.perf_counter() - began
    runtime = open_runtime("cpu")
    try:
        with runtime.prepare_schedule(imported.graph, schedule, imported.weights) as executable:
            off = error(executable.run(*inputs), expected)
    finally:
        runtime.close()
    return f"  searched in {seconds:.0f} s, {len(schedule.stages)} stages, on the CPU off by {off:.0e}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", help="torchvision:NAME, timm:NAME or the path of an .onnx file")
    parser.add_argument("--search", action="store_true", help="search each network on sim:v100 and run it on the CPU")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    names = given.networks or [*(f"torchvision:{name}" for name in FAMILIES), *map(str, light()), "3000"]
    print(f"{'network':32} {'seconds':>8} {'operators':>9} {'units':>6} {'opaque':>6} {'error':>8}")
    for name in names:
        make = deep if name == "3000" else (lambda n=name: of_onnx(Path(n)) if n.endswith(".onnx") else of_torch(n))
        imported, seconds, expected, inputs = make()
        graph = imported.graph
        off = error(run_graph(graph, imported.weights, inputs, dtype=torch.float32), expected)
        print(
            f"{graph.name:32} {seconds:8.1f} {len(graph.operators):9} {len(graph.units):6} {len(imported.opaque):6} "
            f"{off:8.0e}{searched(imported, inputs, expected) if given.search else ''}",
            flush=True,
        )
        for item in imported.opaque:
            print(f"    {item}")


def light() -> Iterator[Path]:
    """The networks that come with onnx."""
    import onnx

    yield from sorted((Path(onnx.__file__).parent / "backend/test/data/light").glob("light_*.onnx"))


if __name__ == "__main__":
    main()
