"""TVM (Relax) from our ONNX export: as it compiles by default, tuned by MetaSchedule, or with cuDNN's convolutions."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import tvm
from tvm import relax
from tvm.relax.frontend.onnx import from_onnx

from iosfarm.compare.adapter import CannotRun, Prepared, as_sequence
from iosfarm.compare.problem import Array, Problem


def prepare(problem: Problem, variant: str) -> Prepared:
    """See `iosfarm.compare.adapter`. variant: `tuned`, `cudnn`, or anything else for neither."""
    if problem.device == "cuda" and not tvm.runtime.enabled("cuda"):
        raise CannotRun(f"this tvm {tvm.__version__} was built without CUDA")
    module = from_onnx(onnx.load(str(problem.onnx)))
    target, device = _target(problem)
    note = "default pipeline"
    with target:
        if variant == "cudnn":
            module = _with_cudnn(module)
            note = "convolutions by cuDNN"
        if variant == "tuned":
            trials = int(str(problem.settings["trials"]))
            note = f"tuned with {trials} trials"
            module = relax.get_pipeline(
                "static_shape_tuning", total_trials=trials, target=target, work_dir=str(problem.folder / "tvm-tuning")
            )(module)
        elif problem.device == "cuda":
            module = _scheduled_for_gpu(module)
        machine = relax.VirtualMachine(tvm.compile(module, target), device)
    dtype = np.dtype(problem.graph.dtype)
    inputs = [tvm.runtime.tensor(array.astype(dtype), device) for array in problem.inputs]

    def call() -> object:
        result = machine["main"](*inputs)
        device.sync()
        return result

    return Prepared(tvm.__version__, call, _arrays, None, note)


def _target(problem: Problem) -> tuple[Any, Any]:
    if problem.device == "cuda":
        return tvm.target.Target.from_device("cuda"), tvm.cuda()
    name = tvm.target.codegen.llvm_get_system_cpu()
    return tvm.target.Target({"kind": "llvm", "mcpu": str(name), "num-cores": problem.threads}), tvm.cpu()


def _with_cudnn(module: Any) -> Any:
    from tvm.relax.backend.cuda.cudnn import partition_for_cudnn

    if tvm.get_global_func("relax.ext.cudnn", allow_missing=True) is None:
        raise CannotRun(f"this tvm {tvm.__version__} was built without cuDNN")
    return relax.transform.RunCodegen()(partition_for_cudnn(module))


def _scheduled_for_gpu(module: Any) -> Any:
    """Loops bound to threads, without which nothing runs on a GPU."""
    from tvm.s_tir import dlight

    lowered = relax.get_pipeline("zero")(module)
    return dlight.ApplyDefaultSchedule(dlight.gpu.Matmul(), dlight.gpu.Reduction(), dlight.gpu.Fallback())(lowered)


def _arrays(outputs: object) -> list[Array]:
    if not isinstance(outputs, list | tuple) and not hasattr(outputs, "numpy"):
        outputs = list(outputs)  # type: ignore[call-overload]
    return [output.numpy() for output in as_sequence(outputs)]  # type: ignore[attr-defined]
