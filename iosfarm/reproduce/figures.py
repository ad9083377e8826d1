"""The registry: every figure and table of the paper, and every experiment of its repository, with our command."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from iosfarm.reproduce import (
    batches,
    blocks,
    counting,
    example,
    frameworks,
    latencies,
    pruning,
    specialisation,
    utilisation,
)
from iosfarm.reproduce.lab import Lab
from iosfarm.reproduce.result import Column, Draft


@dataclass(frozen=True)
class Figure:
    """One figure or table. make: fills a draft. needs_device: whether it depends on one. covers: in the paper.
    experiments: in the paper's repository, under `experiments/`.
    """

    name: str
    title: str
    columns: tuple[Column, ...]
    make: Callable[[Draft, Lab], None]
    covers: tuple[str, ...] = ()
    experiments: tuple[str, ...] = ()
    needs_device: bool = True

    @property
    def help(self) -> str:
        """What the figure shows."""
        return (_HELP.get(self.name) or self.make.__doc__ or self.title).strip()


def _without_device(make: Callable[[Draft], None]) -> Callable[[Draft, Lab], None]:
    def with_lab(draft: Draft, _: Lab) -> None:
        make(draft)

    with_lab.__doc__ = make.__doc__
    return with_lab


def _table1(draft: Draft, lab: Lab) -> None:
    counting.largest_blocks(draft, lab.randwire_graphs)


_HELP = {
    "table1": """Size of the search space of each network's largest block, without pruning.

    units: n. width: d, the most units of which none waits for another. bound: C(n/d + 2, 2)^d. transitions: pairs of a
    state and the next, with the paper's endings. A row that does not match says so; the exit code is 0 all the same.
    """
}

FIGURES: Mapping[str, Figure] = {
    figure.name: figure
    for figure in (
        Figure(
            "trend",
            "Operators of networks against the peak of devices",
            counting.TREND_COLUMNS,
            _without_device(counting.trend),
            covers=("Figure 1",),
            needs_device=False,
        ),
        Figure(
            "example",
            "The motivating example under three schedules",
            example.COLUMNS,
            example.three_schedules,
            covers=("Figure 2",),
        ),
        Figure(
            "table1",
            "Table 1: search space of the largest block",
            counting.TABLE_1_COLUMNS,
            _table1,
            covers=("Table 1",),
            needs_device=False,
        ),
        Figure(
            "table2",
            "Table 2: units of each network",
            counting.TABLE_2_COLUMNS,
            _without_device(counting.units),
            covers=("Table 2",),
            needs_device=False,
        ),
        Figure(
            "complexity",
            "Transitions of chains side by side, and the bound",
            counting.COMPLEXITY_COLUMNS,
            _without_device(counting.complexity),
            covers=("Appendix A: where the bound is reached",),
            needs_device=False,
        ),
        Figure(
            "schedules",
            "Five schedules of four networks",
            latencies.SCHEDULES_COLUMNS,
            latencies.five_schedules,
            covers=("Figure 6", "Appendix B: schedules on another GPU"),
            experiments=("latency/main.py", "latency/run_all.sh", "latency/run_expr_schedules.sh"),
        ),
        Figure(
            "search-cost",
            "What the searches cost",
            latencies.COST_COLUMNS,
            latencies.search_cost,
            covers=("Section 6.1",),
        ),
        Figure(
            "frameworks",
            "Other frameworks beside IOS-Both",
            frameworks.FRAMEWORKS_COLUMNS,
            frameworks.frameworks,
            covers=("Figure 7", "Appendix B: frameworks on another GPU"),
            experiments=(
                "latency/run_expr_frameworks.sh",
                "tests/tvm_cudnn/main.py",
            ),
        ),
        Figure(
            "utilisation",
            "Utilisation over time",
            utilisation.COLUMNS,
            utilisation.utilisation,
            covers=("Figure 8",),
            experiments=("utilization/main.py", "utilization/draw_curve.py", "utilization/run_expr_utilization.sh"),
        ),
        Figure(
            "pruning",
            "Pruning: latency against the cost of the search",
            pruning.COLUMNS,
            pruning.pruning,
            covers=("Figure 9",),
            experiments=("prune/main.py", "prune/run_expr_prune.sh", "latency/run_expr_prune.sh"),
        ),
        Figure(
            "specialisation",
            "Table 3: optimised for and executed on",
            specialisation.COLUMNS,
            specialisation.table3,
            covers=("Table 3",),
            experiments=(
                "specialization/main.py",
                "specialization/run_expr_spec_batchsize.sh",
                "specialization/run_expr_spec_device.sh",
            ),
        ),
        Figure(
            "last-block",
            "The last block of Inception V3 for batch 1 and batch 32",
            specialisation.BLOCK_COLUMNS,
            specialisation.last_block,
            covers=("Figure 10",),
        ),
        Figure(
            "batch-sizes",
            "Inception V3 for batches of 1 to 128",
            batches.COLUMNS,
            batches.batch_sizes,
            covers=("Figure 11",),
            experiments=("latency/run_expr_batchsize.sh", "tests/taso_inceptionv3_bs/main.py"),
        ),
        Figure(
            "intra-inter",
            "Parallelism inside of operators and between them",
            frameworks.INTRA_COLUMNS,
            frameworks.intra_inter,
            covers=("Figure 12",),
            experiments=("latency/run_expr_autotvm.sh",),
        ),
        Figure(
            "blocks",
            "Speed-ups of the blocks of Inception V3",
            blocks.COLUMNS,
            blocks.blockwise,
            covers=("Appendix C: block-wise speed-up",),
        ),
        Figure(
            "resnet-vgg",
            "Networks with next to nothing to gain",
            latencies.PLAIN_COLUMNS,
            latencies.nothing_to_gain,
            covers=("Section 5",),
            experiments=("tests/resnet/main.py",),
        ),
        Figure(
            "part-sizes",
            "Parts of the random network of 320 units",
            counting.PART_SIZES_COLUMNS,
            _without_device(counting.part_sizes),
            experiments=("tests/graph_dp_summary/graph_dp_summary.py",),
            needs_device=False,
        ),
        Figure(
            "random-320",
            "A random network of 320 units",
            latencies.PLAIN_COLUMNS,
            latencies.random_320,
            experiments=("tests/large_graph/main.py",),
        ),
    )
}
