"""Real frameworks in real processes; those that misbehave are packages of a test's own, run by another interpreter."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from iosfarm import compare
from iosfarm.cli import main
from iosfarm.compare.document import NetworkRows
from iosfarm.compare.registry import FRAMEWORKS, chosen
from iosfarm.compare.remembering import remembered_run
from iosfarm.compare.rows import Profile, Row, Status
from iosfarm.compare.settings import Settings, Watch
from iosfarm.farm.api import open_executor
from iosfarm.ir.builder import GraphBuilder
from iosfarm.ir.errors import UsageError
from iosfarm.ir.graph import Graph
from iosfarm.reproduce import frameworks, paper
from iosfarm.zoo.sample import sample

QUICK = Settings(timeout=120, seconds=0.05, rounds=1, profile=True, budget="20 stages")


@pytest.fixture(autouse=True)
def _patient_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads of a framework that wait busily take minutes on a loaded machine."""
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")


@pytest.fixture
def graph() -> Graph:
    return sample()


@pytest.fixture
def interpreter(tmp_path: Path) -> Callable[[str, str], str]:
    """An interpreter in whose environment a package is what a test wants."""

    def make(package: str, text: str) -> str:
        (tmp_path / "env" / package).mkdir(parents=True)
        (tmp_path / "env" / package / "__init__.py").write_text(text)
        python = tmp_path / "env" / "python"
        python.write_text(f'#!/bin/sh\nPYTHONPATH="{tmp_path / "env"}:$PYTHONPATH" exec {sys.executable} "$@"\n')
        python.chmod(0o755)
        return str(python)

    return make


def test_frameworks_compute_the_same_and_are_timed(graph: Graph) -> None:
    found = compare.run(graph, ["torch", "onnxruntime", "ios", "ios_sequential"], "cpu", settings=QUICK)
    assert [(row.framework, row.status) for row in found] == [
        (name, Status.OK) for name in ("torch", "onnxruntime", "ios", "ios_sequential")
    ]
    for row in found:
        assert row.seconds is not None
        assert row.mad is not None
        assert row.error is not None
        assert 0 < row.error < 1e-5
        assert row.version
        assert row.profile is not None
        assert row.profile.kernels
        assert 0 < (row.profile.convolutions or 0) < 1
        assert Row.read(json.loads(json.dumps(row.document()))) == row


def every_lowering() -> Graph:
    """Each operator that `iosfarm.compare.nhwc` knows, with the attributes that are easily got wrong."""
    b = GraphBuilder("lowerings")
    x = b.input((4, 11, 10))
    y = b.conv2d(x, 8, (3, 5), stride=(2, 1), padding=(1, 2), dilation=(2, 1), groups=2, activation="hard_swish")
    y = b.batch_norm(b.conv2d(y, 16, 3, padding=1, groups=8, bias=False), activation="relu6")
    y = b.depthwise(b.pad(y, (1, -2, 0, 3), value=0.5), 3, padding=1)
    pools = [
        b.max_pool(y, 3, stride=2, padding=1),
        b.avg_pool(y, 3, stride=2, padding=1, count_include_pad=False),
        b.avg_pool(y, (2, 3), stride=2, padding=(0, 1), ceil_mode=True),
        b.max_pool(y, 3, stride=2, padding=(1, 1), ceil_mode=True),
    ]
    height, width = (min(b.shape(p)[axis] for p in pools) for axis in (2, 3))
    same = [b.pad(p, (0, width - b.shape(p)[3], 0, height - b.shape(p)[2])) for p in pools]
    z = b.concat(b.mul(same[0], same[1]), b.add(same[2], same[3], activation="tanh"), b.slice(same[0], 3, 7))
    for kind in ("sigmoid", "silu", "gelu", "hard_sigmoid", "relu", "hard_swish"):
        z = b.activation(z, kind)
    half = b.adaptive_avg_pool(b.pad(z, (0, 6 - width, 0, 6 - height)), (3, 2))
    scores = b.softmax(b.linear(b.dropout(b.flatten(half)), 7), axis=1)
    return b.build(scores, z, b.global_avg_pool(y), b.softmax(half, axis=1))


@pytest.mark.parametrize("name", ["openvino", "jax", "tensorflow", "tensorflow_xla"])
def test_more_frameworks_compute_the_same(name: str) -> None:
    pytest.importorskip(FRAMEWORKS[name].package)
    (row,) = compare.run(every_lowering(), [name], "cpu", settings=QUICK)
    assert (row.status, row.reason) == (Status.OK, "")
    assert row.error is not None
    assert 0 < row.error < 1e-5


def test_inputs_and_outputs_of_onnxruntime_stay_on_a_device(graph: Graph, tmp_path: Path) -> None:
    """As on a GPU, with the CPU for the device."""
    import onnxruntime

    from iosfarm.compare.adapters.onnx_runtime import bound, fetched
    from iosfarm.deploy.onnx_export import save_onnx, to_onnx
    from iosfarm.zoo.weights import random_weights

    save_onnx(to_onnx(graph, random_weights(graph)), tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    names = [item.name for item in session.get_inputs()]
    inputs = {
        name: rng.standard_normal(graph.shape(item.name)).astype(np.float32)
        for name, item in zip(names, graph.inputs, strict=True)
    }
    call = bound(session, inputs, "cpu")
    call()
    for actual, expected in zip(fetched(call()), session.run(None, inputs), strict=True):
        np.testing.assert_array_equal(actual, expected)


def test_on_a_cpu_what_needs_a_gpu_says_so(graph: Graph) -> None:
    found = compare.run(graph, ["tensorrt", "tvm_cudnn", "torch_cuda_graph", "taso"], "cpu")
    assert {(row.status, row.reason) for row in found} == {(Status.NOT_POSSIBLE, "needs a GPU")}
    assert [row.framework for row in found] == ["tensorrt", "tvm_cudnn", "torch_cuda_graph", "taso"]


MISSING = "raise ModuleNotFoundError(\"No module named 'onnxruntime'\", name='onnxruntime')"
ABORTING = "import os\nprint('out of luck', flush=True)\nos.abort()"
RAISING = "raise RuntimeError('a driver from another century')"
HANGING = "import threading\nthreading.Event().wait()"
WRONG = """
import numpy as np
__version__ = "0"
def get_available_providers(): return ["CPUExecutionProvider"]
class SessionOptions: pass
class InferenceSession:
    def __init__(self, path, options, providers): pass
    def get_inputs(self): return [type("Input", (), {"name": "x"})]
    def run(self, names, inputs): return [np.ones(SHAPE, np.float32)]
"""


@pytest.mark.parametrize(
    ("text", "status", "reason"),
    [
        (MISSING, Status.NOT_INSTALLED, "pip install 'iosfarm[compare]' in"),
        (ABORTING, Status.CRASHED, "ended by SIGABRT: out of luck"),
        (RAISING, Status.CRASHED, "RuntimeError: a driver from another century"),
        (WRONG, Status.WRONG, "computes something else: off by "),
    ],
)
def test_a_framework_that_fails_has_a_row_that_says_how(
    graph: Graph, interpreter: Callable[[str, str], str], text: str, status: Status, reason: str
) -> None:
    python = interpreter("onnxruntime", text.replace("SHAPE", str(graph.shape(graph.outputs[0]))))
    settings = Settings(timeout=120, seconds=0.05, rounds=1, pythons={"onnxruntime": python})
    (row,) = compare.run(graph, ["onnxruntime"], "cpu", settings=settings)
    assert (row.status, row.seconds, row.samples) == (status, None, ())
    assert row.reason.startswith(reason)


def test_a_framework_that_hangs_is_ended(graph: Graph, interpreter: Callable[[str, str], str]) -> None:
    settings = Settings(timeout=2, pythons={"onnxruntime": interpreter("onnxruntime", HANGING)})
    (row,) = compare.run(graph, ["onnxruntime"], "cpu", settings=settings)
    assert (row.status, row.reason) == (Status.HUNG, "no answer within 2 s; give it more with --timeout")


def test_a_stop_keeps_what_was_timed_and_gives_every_row(graph: Graph) -> None:
    asked = []

    def stop() -> bool:
        """From the first turn on."""
        return any("samples" in text for text in asked)

    found = compare.run(
        graph,
        ["onnxruntime", "ios_sequential", "tensorrt"],
        "cpu",
        settings=QUICK,
        watch=Watch(asked.append, stop=stop),
    )
    first, second, third = found
    assert (first.status, first.note) == (Status.OK, "interrupted")
    assert first.samples
    assert (second.status, second.reason) == (Status.NOT_RUN, "interrupted")
    assert third.reason == "needs a GPU"


def test_the_paper_s_frameworks_and_all_that_figures_need_have_an_adapter() -> None:
    assert {*paper.FRAMEWORKS, *frameworks.MORE, frameworks.TUNED, frameworks.OURS} <= set(FRAMEWORKS)
    folder = Path(compare.__file__).parent / "adapters"
    assert {item.adapter for item in FRAMEWORKS.values()} == {p.stem for p in folder.glob("[a-z]*.py")}


def test_names_are_told_from_mistakes() -> None:
    assert [item.name for item in chosen(["torch-compile", "torch_compile", "jax"])] == ["torch_compile", "jax"]
    assert [item.name for item in chosen(["all"])] == list(FRAMEWORKS)
    with pytest.raises(UsageError, match="did you mean tensorrt"):
        chosen(["tensort"])
    with pytest.raises(UsageError, match="no framework"):
        chosen([""])


def test_the_verdict_says_who_wins_and_where() -> None:
    def row(name: str, milliseconds: float, convolutions: float) -> Row:
        profile = Profile("p", 7, {"convolution": convolutions / 1e3, "pool": 1e-3})
        return Row(name, name.title(), Status.OK, samples=(milliseconds / 1e3,), profile=profile)

    def verdict(*rows: Row) -> str:
        return NetworkRows("net", 1, "float32", "", rows, complete=True).verdict()

    ours, slow, fast = row("ios", 4.0, 2.0), row("jax", 8.0, 6.0), row("torch", 2.0, 1.0)
    assert verdict(ours, slow).startswith(
        "IOS is 2.00x faster than Jax, the fastest of the others; under the profilers"
    )
    assert verdict(ours, slow, fast, row("ios_sequential", 1.0, 1.0)) == (
        "IOS is 2.00x slower than Torch, the fastest of the others; "
        "under the profilers, which add up what runs side by side: "
        "convolutions 2 ms against 1 ms, all else 1 ms against 1 ms, 7 kernels against 7"
    )
    assert verdict(ours) == verdict(slow) == ""


def test_a_comparison_is_made_once(graph: Graph, tmp_path: Path) -> None:
    with open_executor("inline") as executor:
        (info,) = executor.open("cpu")
    url = str(tmp_path / "latency.db")
    names = ["ios_sequential", "tensorrt"]
    told: list[str] = []
    first = remembered_run(graph, names, info, database=url, settings=QUICK, watch=Watch(told.append))
    assert told
    told.clear()
    again = remembered_run(graph, names, info, database=url, settings=QUICK, watch=Watch(told.append))
    assert (again, told) == (first, [])
    assert remembered_run(graph, names[1:], info, database=url, settings=QUICK) == first[1:]
    (path,) = [p for p in (tmp_path / "compared").iterdir() if "ios_sequential" in p.read_text()]
    path.write_text("{}")
    assert [row.status for row in remembered_run(graph, names, info, database=url, settings=QUICK)] == [
        row.status for row in first
    ]


def test_shares_of_a_profile() -> None:
    assert Profile("p", 3, {"convolution": 3.0, "pool": 1.0}).convolutions == 0.75
    assert Profile("p", 3).convolutions is None


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--frameworks", ""], "no framework"),
        (["--frameworks", "torch,,jax"], "no framework"),
        (["--frameworks", "teano"], "unknown framework 'teano'"),
        (["--device", "sim:v100"], "frameworks do not run on sim:v100"),
        (["--timeout", "0"], "--timeout 0"),
        (["--python", "torch"], "write it as FRAMEWORK=/path/to/python"),
        (["--python", "torch=/nowhere/python"], "there is no interpreter /nowhere/python"),
        (["--dtype", "float13"], "unknown dtype 'float13'"),
    ],
)
def test_wrong_usage_is_one_line(
    arguments: list[str], line: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main.run(["compare", "squeezenet", *arguments]) == 2
    captured = capsys.readouterr()
    assert line in captured.err
    assert captured.err.count("\n") == 1
    assert not list(tmp_path.glob("compared/*"))


def test_the_command_writes_into_a_new_folder_and_prints_one_document(
    graph: Graph, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "net.json"
    path.write_text(json.dumps(graph.to_json()))
    older = tmp_path / "compared" / "cpu-001"
    older.mkdir(parents=True)
    (older / "comparison.md").write_text("kept")
    options = [
        "--frameworks",
        "onnxruntime,tensorrt",
        "--device",
        "cpu",
        "--seconds",
        "0.05",
        "--rounds",
        "1",
        "--json",
    ]
    assert main.run(["compare", str(path), *options, "--out", str(tmp_path / "compared")]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (older / "comparison.md").read_text() == "kept"
    folder = tmp_path / "compared" / "cpu-002"
    assert document["folder"] == str(folder)
    written = json.loads((folder / "comparison.json").read_text())
    assert {**written, "folder": str(folder)} == document
    (network,) = document["networks"]
    assert [row["status"] for row in network["rows"]] == ["ok", "not possible"]
    samples = network["rows"][0]["samples"]
    assert network["rows"][0]["seconds"] == pytest.approx(float(np.median(samples)))
    assert (
        "| TensorRT | – | – | – | – | – | – | – | – | not possible: needs a GPU |"
        in (folder / "comparison.md").read_text()
    )
