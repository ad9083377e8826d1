"""What cuDNN can do on this GPU: layouts, slices of a concatenation, shares of the processors, strict precision."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

from iosfarm.farm.gpu_check.context import Context

if TYPE_CHECKING:
    from iosfarm.kernels.cuda.program.steps import Lane
    from iosfarm.kernels.cuda.providers.convolution import Convolution
    from iosfarm.kernels.cuda.providers.trials import Trials

SHAPES = (
    # channels, size, out channels, kernel: of SqueezeNet, Inception V3 and RandWire.
    (64, 55, 16, 1), (16, 55, 64, 3), (192, 35, 64, 1), (48, 35, 64, 5), (768, 17, 192, 1), (384, 8, 384, 3),
    (154, 28, 154, 1),
)  # fmt: skip


def run(context: Context) -> None:
    """One row for each question and shape: supported or not, plans, seconds."""
    from iosfarm.kernels.cuda.opening import open_parts
    from iosfarm.kernels.cuda.providers.convolution import Convolution

    gpu, lanes, provider, trials, _ = open_parts(context.spec(provider="cudnn"))
    with closing(gpu), closing(lanes):
        context.rows.add(provider=provider.name if provider else "iosfarm", sms=gpu.facts.sms, l2=gpu.facts.l2)
        for dtype in ("float32", "float16"):
            for channels, size, out, kernel in SHAPES:
                if context.left < 2:
                    return
                same = (kernel // 2, kernel // 2)
                wanted = Convolution(
                    (1, channels, size, size), (1, out, size, size), (kernel, kernel), (1, 1), same, (1, 1), 1, True,
                    "relu", False, dtype,
                )  # fmt: skip
                _questions(context, wanted, lanes.home, trials, gpu.facts.sms)


def _questions(context: Context, wanted: Convolution, lane: Lane, trials: Trials, sms: int) -> None:
    from iosfarm.kernels.cuda.catalogue import Part
    from iosfarm.kernels.cuda.providers.cudnn_graph import fusions

    _, channels, size, _ = wanted.input
    what = f"{wanted.dtype} {wanted.kernel[0]}x{wanted.kernel[1]} {channels}→{wanted.output[1]} at {size}"
    precisions = ("ieee", "tf32") if wanted.dtype == "float32" else ("ieee",)
    for precision in precisions:
        for fused in fusions(wanted):
            _ask(context, f"{fused} fused", what, wanted, lane, trials, precision, fused)
    precision = precisions[-1]
    _ask(context, "nchw", what, wanted, lane, trials, precision, "all", layout="nchw")
    strided = replace(wanted, part=Part(4 * wanted.output[1], wanted.output[1]))
    _ask(context, "strided output", what, strided, lane, trials, precision, "all")
    for share in (sms // 2, sms // 4):
        _ask(context, f"sm_count {share}", what, wanted, lane, trials, precision, "all", sms=share)


def _ask(
    context: Context,
    question: str,
    what: str,
    wanted: Convolution,
    lane: Lane,
    trials: Trials,
    precision: str,
    fused: str,
    *,
    layout: str = "nhwc",
    sms: int | None = None,
) -> None:
    from iosfarm.kernels.cuda.providers.cudnn_graph import ConvolutionGraph, NotSupported
    from iosfarm.kernels.cuda.providers.cudnn_provider import WORKSPACE, CudnnCall
    from iosfarm.kernels.cuda.providers.own_kernels import convolution_block
    from iosfarm.kernels.cuda.providers.trials import tensor_bytes

    names, best = 0, None
    try:
        graph = ConvolutionGraph(lane.cudnn, wanted, fused, precision, sms=sms, workspace=WORKSPACE, layout=layout)
        for index, name in list(graph.plans())[: trials.most]:
            scratch = graph.build(index)
            if scratch is None:
                continue
            names += 1
            # Without the epilogue that a lesser fusion leaves: what cuDNN itself takes.
            call = CudnnCall(graph, index, name, wanted, fused, convolution_block(wanted), scratch, None)
            found = trials.fastest(
                [call],
                [tensor_bytes(wanted.input, wanted.dtype)],
                [tensor_bytes(wanted.written, wanted.dtype)],
            )
            if found is not None and (best is None or found[1] < best[1]):
                best = name, found[1]
    except NotSupported as error:
        reason = " ".join(str(error).split())[:120]
        context.rows.add(question=question, shape=what, precision=precision, supported=False, reason=reason)
        return
    context.rows.add(
        question=question, shape=what, precision=precision, supported=best is not None, plans=names,
        seconds=best[1] if best else None, plan=best[0] if best else None,
    )  # fmt: skip
