"""Our CUDA kernels on this machine's GPU: memory-bound ones against a copy, convolutions against cuDNN.

    python benchmarks/cuda_kernels.py [--device cuda:0] [--batch 32] [--rounds 15] [--dtypes float32 float16]
                                      [--seconds 60] [--json]

Bandwidth: bytes that a kernel has to move (each input, weight and output once) in the median time, as a share of what
copying as many bytes on the device reaches. Tensors are much larger than the L2 cache at the default batch.
Convolutions: the median of our implicit matrix product and of cuDNN's fastest plan, both in strict float32 (no TF32),
bias and ReLU included; the ratio is cuDNN's time over ours. Losses are printed like wins.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import pairwise

from iosfarm.ir.errors import IosfarmError
from iosfarm.ir.operators import Attribute, Shape, spec
from iosfarm.ir.plan import PlanScope
from iosfarm.kernels.cuda.device.gpu import Gpu
from iosfarm.kernels.cuda.program.steps import Call, Lane
from iosfarm.kernels.cuda.providers.convolution import Convolution, Provider, convolution_of
from iosfarm.kernels.cuda.providers.own_kernels import operator_call
from iosfarm.kernels.cuda.providers.own_provider import OwnProvider
from iosfarm.kernels.cuda.providers.plan_cache import PlanCache
from iosfarm.kernels.cuda.providers.trials import Trials, tensor_bytes

ROUNDS = 15
_SHORTEST = 1e-3  # seconds of one replay: an event's resolution is about a microsecond
_MOST_COPIES = 64

_DEPTHWISE: dict[str, Attribute] = {"out_channels": 256, "groups": 256}
MOVERS: list[tuple[str, str, dict[str, Attribute], int]] = [
    ("depthwise 3x3", "conv2d", {**_DEPTHWISE, "kernel": (3, 3), "padding": (1, 1)}, 1),
    ("depthwise 5x5", "conv2d", {**_DEPTHWISE, "kernel": (5, 5), "padding": (2, 2)}, 1),
    ("depthwise 3x3 stride 2", "conv2d", {**_DEPTHWISE, "kernel": (3, 3), "padding": (1, 1), "stride": (2, 2)}, 1),
    ("max_pool 3x3", "max_pool", {"kernel": (3, 3), "padding": (1, 1)}, 1),
    ("max_pool 3x3 stride 2", "max_pool", {"kernel": (3, 3), "padding": (1, 1), "stride": (2, 2)}, 1),
    ("avg_pool 3x3", "avg_pool", {"kernel": (3, 3), "padding": (1, 1)}, 1),
    ("global_avg_pool", "global_avg_pool", {}, 1),
    ("add of 2", "add", {"activation": "relu"}, 2),
    ("add of 4", "add", {"activation": "relu"}, 4),
    ("concat of 2", "concat", {}, 2),
    ("concat of 4", "concat", {}, 4),
    ("relu", "relu", {}, 1),
]
"""(name, kind, attributes, inputs): each input is 256 channels of 112 x 112 pixels."""

CONVOLUTIONS: list[tuple[int, int, int, int, int, int]] = [
    (64, 56, 64, 3, 1, 1),
    (64, 56, 256, 1, 1, 0),
    (128, 28, 128, 3, 1, 1),
    (256, 14, 256, 3, 1, 1),
    (512, 7, 512, 3, 1, 1),
    (192, 35, 64, 1, 1, 0),
    (96, 35, 96, 3, 1, 1),
    (288, 35, 384, 3, 2, 0),
    (768, 17, 192, 1, 1, 0),
    (2048, 8, 320, 1, 1, 0),
    (384, 8, 384, 3, 1, 1),
    (3, 224, 64, 7, 2, 3),
]
"""(in channels, pixels of a side, out channels, kernel, stride, padding), from ResNet-50 and Inception V3."""


@dataclass(frozen=True)
class Bandwidth:
    """seconds: median. share: of what a copy of as many bytes reaches."""

    kernel: str
    dtype: str
    bytes_moved: int
    seconds: float
    share: float


@dataclass(frozen=True)
class Product:
    """Medians in seconds, cuDNN's None where it is missing. ratio: cuDNN's over ours: above 1, we are faster."""

    convolution: str
    batch: int
    ours: float
    tiling: str
    cudnn: float | None
    ratio: float | None
    share_of_peak: float | None


@dataclass(frozen=True)
class Report:
    """All of it. left_out: what there was no time for."""

    gpu: str
    bandwidth: tuple[Bandwidth, ...]
    products: tuple[Product, ...]
    left_out: int


def measure(
    gpu: Gpu,
    lane: Lane,
    provider: Provider | None = None,
    *,
    batch: int = 32,
    dtypes: Sequence[str] = ("float32", "float16"),
    movers: Sequence[tuple[str, str, dict[str, Attribute], int]] = MOVERS,
    convolutions: Sequence[tuple[int, int, int, int, int, int]] = CONVOLUTIONS,
    size: int = 112,
    rounds: int = ROUNDS,
    seconds: float = math.inf,
    progress: Callable[[str], None] = lambda _: None,
) -> Report:
    """Everything, on a GPU that nothing else uses. provider: cuDNN's; None leaves its column empty.

    batch: of the memory-bound kernels; convolutions are measured at batch 1 and 16 (at most `batch`). seconds: after
    which nothing more is begun.
    """
    bandwidth, products = [], []
    deadline, left_out = time.monotonic() + seconds, 0
    for dtype in dtypes:
        for name, kind, attributes, inputs in movers:
            if time.monotonic() > deadline:
                left_out += 1
                continue
            progress(f"{name} {dtype}")
            shapes: list[Shape] = [(batch, 256, size, size)] * inputs
            bandwidth.append(_bandwidth(gpu, lane, name, kind, attributes, shapes, dtype, rounds))
    for images in sorted({1, min(batch, 16)}):
        for shape in convolutions:
            if time.monotonic() > deadline:
                left_out += 1
                continue
            wanted = _convolution(images, *shape)
            progress(_words(wanted))
            products.append(_product(gpu, lane, provider, wanted, rounds))
    return Report(gpu.facts.name, tuple(bandwidth), tuple(products), left_out)


def _bandwidth(
    gpu: Gpu,
    lane: Lane,
    name: str,
    kind: str,
    attributes: dict[str, Attribute],
    shapes: list[Shape],
    dtype: str,
    rounds: int,
) -> Bandwidth:
    full = spec(kind).normalise(attributes, kind)
    output = spec(kind).infer(full, shapes)
    call = operator_call(gpu, kind, full, shapes, dtype)
    reads, result = [tensor_bytes(shape, dtype) for shape in shapes], tensor_bytes(output, dtype)
    moved = sum(reads) + result + call.parameters.size
    trials = Trials(gpu, lane, PlanCache(None, PlanScope("")), 1)
    with trials.memory(call, reads, [result]) as t:
        ours = _samples(gpu, lane, lambda: call.enqueue(lane, t.reads, t.writes, t.parameters, t.workspace), rounds)
    half = moved // 2
    source, target = gpu.allocate(half), gpu.allocate(half)
    try:
        copied = _samples(gpu, lane, lambda: gpu.copy(target, source, half, lane.stream), rounds)
    finally:
        gpu.release(source)
        gpu.release(target)
    seconds = statistics.median(ours)
    return Bandwidth(name, dtype, moved, seconds, statistics.median(copied) / seconds)


def _convolution(batch: int, channels: int, side: int, out: int, kernel: int, stride: int, padding: int) -> Convolution:
    given: dict[str, Attribute] = {
        "out_channels": out,
        "kernel": (kernel, kernel),
        "stride": (stride, stride),
        "padding": (padding, padding),
        "activation": "relu",
    }
    attributes = spec("conv2d").normalise(given, "conv2d")
    shape = (batch, channels, side, side)
    return convolution_of(attributes, shape, spec("conv2d").infer(attributes, [shape]), "float32")


def _words(wanted: Convolution) -> str:
    _, channels, height, width = wanted.input
    kernel = "x".join(map(str, wanted.kernel))
    stride = f"/{wanted.stride[0]}" if wanted.stride != (1, 1) else ""
    return f"{kernel}{stride} {channels}→{wanted.output[1]} at {height}x{width}, batch {wanted.input[0]}"


def _product(gpu: Gpu, lane: Lane, provider: Provider | None, wanted: Convolution, rounds: int) -> Product:
    trials = Trials(gpu, lane, PlanCache(None, PlanScope("")), 6)
    own = OwnProvider(gpu, trials, "ieee").convolution(wanted)
    ours = _call_seconds(gpu, lane, trials, own, wanted, rounds)
    other = provider.convolution(wanted) if provider else None
    cudnn = _call_seconds(gpu, lane, trials, other, wanted, rounds) if other else None
    flops = 2 * math.prod(wanted.output) * math.prod(wanted.weight[1:])
    peak = _peak(gpu)
    return Product(
        _words(wanted),
        wanted.input[0],
        ours,
        own.name,
        cudnn,
        cudnn / ours if cudnn else None,
        flops / ours / peak if peak else None,
    )


_CORES = {(7, 5): 64, (8, 0): 64, (8, 6): 128, (8, 7): 128, (8, 9): 128, (9, 0): 128, (10, 0): 128, (12, 0): 128}
_CLOCKS = {"NVIDIA H200": 1.98e9, "NVIDIA H100 80GB HBM3": 1.98e9, "NVIDIA A100-SXM4-80GB": 1.41e9}


def _peak(gpu: Gpu) -> float | None:
    """float32 operations a second at the boost clock (NVIDIA's data sheets), for GPUs that are listed."""
    cores, clock = _CORES.get(gpu.facts.capability), _CLOCKS.get(gpu.facts.name)
    return 2 * cores * gpu.facts.sms * clock if cores and clock else None


def _call_seconds(gpu: Gpu, lane: Lane, trials: Trials, call: Call, wanted: Convolution, rounds: int) -> float:
    reads, writes = [tensor_bytes(wanted.input, "float32")], [tensor_bytes(wanted.output, "float32")]
    with trials.memory(call, reads, writes) as t:
        return statistics.median(
            _samples(gpu, lane, lambda: call.enqueue(lane, t.reads, t.writes, t.parameters, t.workspace), rounds)
        )


def _samples(gpu: Gpu, lane: Lane, enqueue: Callable[[], None], rounds: int) -> list[float]:
    """Seconds of one execution, `rounds` times: replays of a graph that holds enough copies for the clock."""
    enqueue()
    gpu.synchronize(lane.stream)
    one = min(_replays(gpu, lane, enqueue, 1, 3))
    copies = max(1, min(_MOST_COPIES, math.ceil(_SHORTEST / max(one, 1e-9))))
    return [seconds / copies for seconds in _replays(gpu, lane, enqueue, copies, rounds)]


def _replays(gpu: Gpu, lane: Lane, enqueue: Callable[[], None], copies: int, rounds: int) -> Iterator[float]:
    gpu.begin_capture(lane.stream)
    try:
        for _ in range(copies):
            enqueue()
        graph = gpu.end_capture(lane.stream)
    except BaseException:
        gpu.abort_capture(lane.stream)
        raise
    gpu.launch_graph(graph, lane.stream)
    events = [gpu.event(timing=True) for _ in range(rounds + 1)]
    gpu.record(events[0], lane.stream)
    for event in events[1:]:
        gpu.launch_graph(graph, lane.stream)
        gpu.record(event, lane.stream)
    gpu.synchronize(lane.stream)
    return (gpu.elapsed(first, last) for first, last in pairwise(events))


def lines(report: Report) -> Iterator[str]:
    """The report as a table of text."""
    yield f"{report.gpu}: memory-bound kernels, share of a copy's bandwidth"
    for row in report.bandwidth:
        rate = row.bytes_moved / row.seconds / 1e9
        yield f"  {row.kernel:24} {row.dtype:9} {row.seconds * 1e6:10.1f} us {rate:8.0f} GB/s {row.share:7.0%}"
    yield "convolutions, float32 (no TF32): ours, cuDNN, cuDNN's time over ours"
    for product in report.products:
        cudnn = (
            f"{product.cudnn * 1e6:9.1f} us {product.ratio:5.2f}x" if product.cudnn and product.ratio else "   no cuDNN"
        )
        peak = f"{product.share_of_peak:5.0%} of peak" if product.share_of_peak else ""
        yield f"  {product.convolution:42} {product.ours * 1e6:9.1f} us {cudnn} {peak}"
    if report.left_out:
        yield f"no time for {report.left_out} more"
    ratios = [product.ratio for product in report.products if product.ratio]
    if ratios:
        yield f"cuDNN's time over ours: median {statistics.median(ratios):.2f}, least {min(ratios):.2f}"


def main() -> int:
    """Open the device, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--dtypes", nargs="+", default=["float32", "float16"])
    parser.add_argument("--seconds", type=float, default=math.inf, help="begin nothing more after so long")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of a table")
    given = parser.parse_args()
    try:
        from iosfarm.kernels.cuda.opening import open_parts

        gpu, lanes, provider, _, _ = open_parts(given.device)
    except IosfarmError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    with closing(gpu), closing(lanes):
        report = measure(
            gpu,
            lanes.home,
            provider,
            batch=given.batch,
            dtypes=given.dtypes,
            rounds=given.rounds,
            seconds=given.seconds,
            progress=lambda what: print(what, file=sys.stderr),
        )
    print(json.dumps(asdict(report)) if given.json else "\n".join(lines(report)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
