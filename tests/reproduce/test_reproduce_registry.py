"""The registry against the paper and its repository: nothing is without a command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from iosfarm.cli import main, reproduce
from iosfarm.reproduce import paper, plots
from iosfarm.reproduce.figures import FIGURES

REFERENCE = Path(__file__).parents[3] / "shared" / "reference" / "paper.json"
needs_reference = pytest.mark.skipif(not REFERENCE.is_file(), reason=f"the reference figures are not at {REFERENCE}")

# Figures 3 to 5 explain the method: there is nothing to measure.
PAPER = {
    *(f"Figure {number}" for number in (1, 2, 6, 7, 8, 9, 10, 11, 12)),
    *(f"Table {number}" for number in (1, 2, 3)),
    "Appendix A: where the bound is reached",
    "Appendix B: schedules on another GPU",
    "Appendix B: frameworks on another GPU",
    "Appendix C: block-wise speed-up",
}

# Every script and program under `experiments/` of github.com/mit-han-lab/inter-operator-scheduler.
EXPERIMENTS = {
    "latency/main.py",
    "latency/run_all.sh",
    "latency/run_expr_autotvm.sh",
    "latency/run_expr_batchsize.sh",
    "latency/run_expr_frameworks.sh",
    "latency/run_expr_prune.sh",
    "latency/run_expr_schedules.sh",
    "prune/main.py",
    "prune/run_expr_prune.sh",
    "specialization/main.py",
    "specialization/run_expr_spec_batchsize.sh",
    "specialization/run_expr_spec_device.sh",
    "tests/graph_dp_summary/graph_dp_summary.py",
    "tests/large_graph/main.py",
    "tests/resnet/main.py",
    "tests/taso_inceptionv3_bs/main.py",
    "tests/tvm_cudnn/main.py",
    "utilization/draw_curve.py",
    "utilization/main.py",
    "utilization/run_expr_utilization.sh",
}

# Which figure shows each section of the published figures.
SECTIONS = {
    "table1": "table1",
    "table2": "table2",
    "latency_ms_v100_batch1": "schedules",
    "search_seconds_one_v100": "search-cost",
    "pruning_latency_ms": "pruning",
    "specialisation_ms": "specialisation",
    "batch_throughput_latency_ms": "batch-sizes",
    "active_warps_ratio_ios_over_sequential": "utilisation",
}


def test_every_figure_and_table_of_the_paper_has_a_command() -> None:
    assert {item for figure in FIGURES.values() for item in figure.covers} >= PAPER


def test_every_experiment_of_the_repository_has_a_command() -> None:
    assert {item for figure in FIGURES.values() for item in figure.experiments} == EXPERIMENTS


def test_every_figure_is_a_command_with_help_and_a_plot(capsys: pytest.CaptureFixture[str]) -> None:
    assert set(reproduce.NAMES) == {*FIGURES, "all"}
    assert set(plots.DRAWINGS) == set(FIGURES)
    for name in reproduce.NAMES:
        assert main.run(["reproduce", name, "--help"]) == 0
        assert f"Example: iosfarm reproduce {name}" in capsys.readouterr().out
        says = "no device needed" in reproduce.NAMES[name]
        assert name == "all" or says is not FIGURES[name].needs_device


@needs_reference
def test_every_section_of_the_published_figures_is_shown() -> None:
    assert json.loads(REFERENCE.read_text()).keys() - {"source"} == SECTIONS.keys()
    assert set(SECTIONS.values()) <= FIGURES.keys()


@needs_reference
def test_figures_are_the_reference_s() -> None:
    reference = json.loads(REFERENCE.read_text())
    keys = ("n", "d", "bound", "transitions", "schedules")
    for name, row in paper.TABLE_1.items():
        assert tuple(vars(row).values()) == tuple(reference["table1"][name][key] for key in keys)
    assert {name: reference["table2"][name] for name in paper.TABLE_2} == paper.TABLE_2
    latencies = reference["latency_ms_v100_batch1"]
    assert latencies["columns"] == [*paper.SCHEDULES, *paper.FRAMEWORKS]
    for network, values in paper.LATENCIES.items():
        assert milliseconds(values, latencies["columns"]) == latencies[network]
    assert reference["search_seconds_one_v100"] == paper.SEARCH_SECONDS
    for network, pruned in paper.PRUNING.items():
        assert {f"r{r}s{s}": ms for (r, s), ms in pruned.items()} == reference["pruning_latency_ms"][network]
        assert paper.PRUNING_SEARCH_SECONDS[network].keys() == pruned.keys()
    for sort in ("batch", "device"):
        table = reference["specialisation_ms"][sort]
        for row in table["columns"]:
            assert milliseconds(paper.SPECIALISATION[row], table["columns"]) == table[str(row)]
    batches = reference["batch_throughput_latency_ms"]
    for batch, values in paper.BATCH_SIZES.items():
        assert milliseconds(values, batches["columns"]) == batches[str(batch)]
    assert reference["active_warps_ratio_ios_over_sequential"] == paper.ACTIVE_WARPS_RATIO


def milliseconds(values: Any, columns: list[object]) -> list[float]:
    return [round(values[column] * 1e3, 6) for column in columns]
