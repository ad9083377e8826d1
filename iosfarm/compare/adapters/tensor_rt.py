"""TensorRT on a GPU, from our ONNX export; torch holds the buffers."""

from __future__ import annotations

from typing import Any

import tensorrt
import torch

from iosfarm.compare.adapter import CannotRun, Prepared
from iosfarm.compare.problem import Array, Problem


def prepare(problem: Problem, _: str) -> Prepared:
    """See `iosfarm.compare.adapter`."""
    if not torch.cuda.is_available():
        raise CannotRun(f"torch {torch.__version__}, which holds the buffers, has no CUDA here")
    logger = tensorrt.Logger(tensorrt.Logger.ERROR)
    engine = _engine(problem, logger)
    context = engine.create_execution_context()
    dtype = getattr(torch, problem.graph.dtype)
    given = iter(problem.inputs)
    outputs: list[torch.Tensor] = []
    held: list[torch.Tensor] = []
    for number in range(engine.num_io_tensors):
        name = engine.get_tensor_name(number)
        if engine.get_tensor_mode(name) == tensorrt.TensorIOMode.INPUT:
            buffer = torch.from_numpy(next(given)).to("cuda", dtype).contiguous()
        else:
            buffer = torch.empty(tuple(engine.get_tensor_shape(name)), dtype=dtype, device="cuda")
            outputs.append(buffer)
        held.append(buffer)
        context.set_tensor_address(name, buffer.data_ptr())
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]

    def call() -> object:
        context.execute_async_v3(stream.cuda_stream)
        stream.synchronize()
        return outputs

    return Prepared(tensorrt.__version__, call, lambda _: _arrays(outputs))


def _engine(problem: Problem, logger: Any) -> Any:
    builder = tensorrt.Builder(logger)
    network = builder.create_network(0)
    parser = tensorrt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(problem.onnx)):
        raise CannotRun(f"TensorRT cannot read the network: {parser.get_error(0)}")
    config = builder.create_builder_config()
    config.clear_flag(tensorrt.BuilderFlag.TF32)  # the same precision for all
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise RuntimeError("TensorRT built no engine")
    return tensorrt.Runtime(logger).deserialize_cuda_engine(plan)


def _arrays(outputs: list[torch.Tensor]) -> list[Array]:
    return [output.float().cpu().numpy() for output in outputs]
