"""`zoo.yaml`: what it expands to, and every mistake with its line."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

import iosfarm
from iosfarm.ir.errors import UsageError
from iosfarm.kernels.sim import DEVICES
from iosfarm.search.budget import Budget
from iosfarm.zoo.zoo_file import Zoo, ZooError, ZooJob, load_zoo
from iosfarm.zoo.zoo_settings import parse_budget

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str) -> Path:
        path = tmp_path / "zoo.yaml"
        path.write_text(text)
        return path

    return write


def mistakes(path: Path) -> list[str]:
    with pytest.raises(ZooError) as error:
        load_zoo(path)
    found = error.value.mistakes
    lines = [f"{mistake.line or ''}: {mistake}".removeprefix(":") for mistake in found]
    if len(found) == 1:
        told = [f"{path}:{lines[0]}"]
    else:
        told = [f"{path}: {len(found)} mistakes", *(f"  line {line}" for line in lines)]
    assert str(error.value).splitlines() == told
    return lines


def test_zoo_of_the_checkout(root: Path) -> None:
    jobs = load_zoo(root / "zoo.yaml").jobs()
    assert [(job.label, job.batch, job.dtype, job.device) for job in jobs] == [
        ("squeezenet", 1, "float32", "cpu"),
        ("inception_v3", 1, "float32", "cpu"),
    ]
    assert jobs[0].load() == iosfarm.load("squeezenet")


def test_options_that_the_zoo_of_the_checkout_shows(root: Path, write: Write) -> None:
    text = (root / "zoo.yaml").read_text()
    shown = text[text.index("#  - name: randwire") :].replace("#  -", "  -").replace("#    ", "    ")
    path = write(text[: text.index("# A model can")] + shown)
    (path.parent / "weights.safetensors").touch()
    (path.parent / "my_exported.onnx").touch()
    (path.parent / "my_network.json").write_text(json.dumps(iosfarm.load("sample").to_json()))
    jobs = load_zoo(path).jobs()
    assert len(jobs) == 2 + 4 + 1 + 3
    named = {job.label: job for job in jobs}
    assert named["my_network"].load() == iosfarm.load("sample")
    assert (named["randwire-3"].device, named["randwire-3"].batch) == ("sim:v100", 16)
    assert [job.model.source for job in jobs[-3:]] == ["torch", "torchvision", "onnx"]


def test_models_override_defaults(write: Write) -> None:
    path = write(
        """
defaults: {batch_sizes: [1, 2], dtypes: [float32, float16], budget: 10m, seed: 4, method: exhaustive, gap: 0.1}
models:
  - name: sample
  - {name: sample, label: other, batch_sizes: [8], dtypes: [float32], devices: [cpu, sim:v100], budget: 90, seed: 0,
     strategies: [concurrent], endings: paper, max_group_size: 2, max_groups: 5, max_part_size: 20,
     method: certified, gap: 0, certificate: structural, confidence: 0.9,
     arguments: {channels: 16}}
"""
    )
    jobs = load_zoo(path).jobs()
    assert [(j.label, j.device, j.dtype, j.batch, j.seed) for j in jobs] == [
        ("sample", "auto", "float32", 1, 4),
        ("sample", "auto", "float32", 2, 4),
        ("sample", "auto", "float16", 1, 4),
        ("sample", "auto", "float16", 2, 4),
        ("other", "cpu", "float32", 8, 0),
        ("other", "sim:v100", "float32", 8, 0),
    ]
    first, last = jobs[0].settings, jobs[-1].settings
    assert (first.budget, first.method, first.gap, first.max_groups) == (Budget(600.0), "exhaustive", 0.1, None)
    assert (first.certificate, first.confidence) == (None, None)
    assert (last.budget, last.strategies, last.endings) == (Budget(90.0), ("concurrent",), "paper")
    assert (last.method, last.gap, last.certificate, last.confidence) == ("certified", 0, "structural", 0.9)
    assert (last.max_group_size, last.max_groups, last.max_part_size) == (2, 5, 20)
    graph = jobs[-1].load()
    assert (graph.batch, graph.shape("input")[1]) == (8, 16)


def test_paths_are_relative_to_the_file(write: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = write("models:\n  - {name: randwire, arguments: {edge_lists: [a.txt, a.txt, a.txt, a.txt], channels: 8}}\n")
    (path.parent / "a.txt").write_text("2\n1\n0 1\n")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    (job,) = load_zoo(path).jobs()
    assert len(job.load().units) == 1 + 4 * 3 + 3


def test_pickles(write: Write) -> None:
    zoo = load_zoo(write("models: [{name: sample}]"))
    again: Zoo = pickle.loads(pickle.dumps(zoo))
    jobs: list[ZooJob] = again.jobs()
    assert jobs == zoo.jobs()
    error = ZooError(Path("zoo.yaml"), [])
    assert isinstance(pickle.loads(pickle.dumps(error)), ZooError)
    assert isinstance(error, UsageError)


MODEL = "models:\n  - name: sample\n"
NEAR_V100 = f"did you mean sim:v100? known: {', '.join(f'sim:{name}' for name in sorted(DEVICES))}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", [" the file is empty; expected `models:` and a list"]),
        ("# nothing\n", [" the file is empty; expected `models:` and a list"]),
        ("hello", ["1: not a zoo; expected `models:` and a list of models"]),
        ("models:\n", ["1: models has no value; give it one, or remove it",
                       "1: models is missing; expected a list of models, such as `- name: squeezenet`"]),
        ("models: []\n", ["1: models is empty; expected at least one item"]),
        ("models: sample\n", ["1: models is 'sample'; expected a list, such as ['sample']"]),
        ("defaults: 3\n" + MODEL, ["1: defaults is 3; expected a mapping"]),
        ("models:\n  - sample\n", ["2: models[0] is 'sample'; expected a mapping, such as `name: squeezenet`"]),
        ("modles:\n  - name: sample\n",
         ["1: models is missing; expected a list of models, such as `- name: squeezenet`",
          "1: unknown key 'modles'; did you mean models?"]),
        (MODEL + "    batchsizes: [1]\n", ["3: unknown key 'batchsizes'; did you mean batch_sizes?"]),
        ("defaults:\n  name: x\n" + MODEL, ["2: unknown key 'name'; expected one of batch_sizes, dtypes, devices,"
         " method, gap, certificate, confidence, budget, max_group_size, max_groups, strategies, endings,"
         " max_part_size, seed"]),
        (MODEL + "    batch_sizes: 1\n", ["3: models[0].batch_sizes is 1; expected a list, such as [1]"]),
        (MODEL + "    batch_sizes: [1, 0]\n", ["3: models[0].batch_sizes[1] is 0; expected at least 1"]),
        (MODEL + "    batch_sizes:\n      - 1\n      - 1.5\n",
         ["5: models[0].batch_sizes[1] is 1.5; expected an integer"]),
        (MODEL + "    batch_sizes: [1, 1]\n", ["3: models[0].batch_sizes is [1, 1]; expected each value once"]),
        (MODEL + "    batch_sizes: [true]\n", ["3: models[0].batch_sizes[0] is True; expected an integer"]),
        (MODEL + "    dtypes: [float23]\n", ["3: models[0].dtypes[0] is 'float23'; did you mean float32?"]),
        (MODEL + "    devices: [gpu]\n", ["3: models[0].devices[0] is 'gpu'; unknown device 'gpu'; use auto, cpu,"
         " cuda, replay:SOURCE, or a simulated device such as sim:v100"]),
        (MODEL + "    devices: ''\n", ["3: models[0].devices is ''; expected a list, such as [cpu]"]),
        (MODEL + "    devices: {cpu: 1}\n", ["3: models[0].devices is {'cpu': 1}; expected a list, such as [cpu]"]),
        (MODEL + "    devices: ['']\n", ["3: models[0].devices[0] is ''; no device is named; use auto,"
         " cpu, cuda, replay:SOURCE, or a simulated device such as sim:v100"]),
        (MODEL + "    devices: ['sim:']\n", ["3: models[0].devices[0] is 'sim:'; unknown device 'sim:'; use auto,"
         " cpu, cuda, replay:SOURCE, or a simulated device such as sim:v100"]),
        (MODEL + "    devices: [cpu, 'cuda:x']\n", ["3: models[0].devices[1] is 'cuda:x'; 'cuda:x' is not a CUDA"
         " device; write cuda, or cuda:1 for the second one"]),
        (MODEL + "    devices: [sim:v10]\n", ["3: models[0].devices[0] is 'sim:v10';"
         f" unknown simulated device 'sim:v10'; {NEAR_V100}"]),
        (MODEL + "    devices: ['sim:v100?nois=0']\n", ["3: models[0].devices[0] is 'sim:v100?nois=0';"
         " unknown option 'nois'; there are noise and seed, the faults kill, hang, oom, drift, lie, poison, pace,"
         " and count, node and model in a search"]),
        (MODEL + "    method: exhuastive\n", ["3: models[0].method is 'exhuastive'; did you mean exhaustive?"]),
        (MODEL + "    method: fast\n", ["3: models[0].method is 'fast'; expected one of certified, exhaustive"]),
        (MODEL + "    gap: -0.01\n", ["3: models[0].gap is -0.01; expected at least 0"]),
        (MODEL + "    gap: 1%\n", ["3: models[0].gap is '1%'; expected a number"]),
        (MODEL + "    gap: .inf\n", ["3: models[0].gap is inf; expected a finite number"]),
        (MODEL + "    certificate: statistic\n",
         ["3: models[0].certificate is 'statistic'; did you mean statistical?"]),
        (MODEL + "    certificate: none\n",
         ["3: models[0].certificate is 'none'; expected one of statistical, structural"]),
        (MODEL + "    confidence: 99\n", ["3: models[0].confidence is 99; expected less than 1"]),
        (MODEL + "    confidence: 0.4\n", ["3: models[0].confidence is 0.4; expected at least 0.5"]),
        (MODEL + "    confidence: high\n", ["3: models[0].confidence is 'high'; expected a number"]),
        (MODEL + "    budget: soon\n", ["3: models[0].budget is 'soon'; expected a time such as 10m, 300s or 1h30m, a"
         " number of seconds, or a number such as 500 stages"]),
        (MODEL + "    budget: 2.5 stages\n", ["3: models[0].budget is '2.5 stages'; expected a time such as 10m, 300s"
         " or 1h30m, a number of seconds, or a number such as 500 stages"]),
        (MODEL + "    max_part_size: 257\n", ["3: models[0].max_part_size is 257; expected at most 256"]),
        (MODEL + "    max_groups: 0\n", ["3: models[0].max_groups is 0; expected at least 1"]),
        (MODEL + "    max_groups: 65\n", ["3: models[0].max_groups is 65; expected at most 64"]),
        (MODEL + "    max_group_size: 65\n", ["3: models[0].max_group_size is 65; expected at most 64"]),
        (MODEL + f"    batch_sizes: [{10**30}]\n",
         [f"3: models[0].batch_sizes[0] is {10**30}; expected at most 65536"]),
        (MODEL + "    strategies: []\n", ["3: models[0].strategies is empty; expected at least one item"]),
        (MODEL + "    endings: all\n", ["3: models[0].endings is 'all'; expected one of complete, paper"]),
        (MODEL + "    seed: -1\n", ["3: models[0].seed is -1; expected at least 0"]),
        (MODEL + "    label: 1.5\n", ["3: models[0].label is 1.5; expected text; put it in quotes"]),
        (MODEL + "    label: a/b\n", ["3: models[0].label is 'a/b'; expected letters, digits, dots, dashes and"
         " underscores: it becomes a file name"]),
        (MODEL + f"    label: {'a' * 101}\n", [f"3: models[0].label is '{'a' * 58}…; expected at most 100 characters:"
         " it becomes a file name"]),
        (MODEL + "    arguments: {chanels: 3}\n", ["3: sample has no argument 'chanels'; did you mean channels?"]),
        (MODEL + "    arguments: {channels: x}\n", ["3: sample: channels is 'x'; expected an integer"]),
        ("models: [{name: randwire, arguments: {edge_lists: 3}}]\n",
         ["1: randwire: edge_lists is 3; expected a list"]),
        (MODEL + "    arguments: [3]\n", ["3: models[0].arguments is [3]; expected a mapping"]),
        (MODEL + "  - name: sample\n", ["3: two models are called 'sample'; give one a label; the other is in line 2"]),
        ("models:\n  - name: smaple\n", ["2: unknown model 'smaple'; did you mean sample?"]),
        ("models:\n  - label: x\n",
         ["2: there is no network; give one of name, graph, onnx, pt2, torch, torchvision, timm"]),
        (MODEL + "    name: sample\n", ["3: 'name' comes twice; it is also in line 2"]),
        (MODEL + "    dtypes:\n", ["3: dtypes has no value; give it one, or remove it"]),
        (MODEL + "    label: 2024-01-01\n", ["3: '2024-01-01' is a date in YAML; put it in quotes"]),
        (MODEL + "    label: !!python/name:os.system x\n",
         ["3: the tag !!python/name:os.system is not allowed; write plain values"]),
        (MODEL + "    1: x\n", ["3: a key must be a word"]),
        ("x: &x {name: sample}\nmodels:\n  - <<: *x\n    label: y\n",
         ["1: unknown key 'x'; expected one of defaults, models",
          "3: merge keys (<<) are not supported; put what is shared under `defaults:`",
          "3: there is no network; give one of name, graph, onnx, pt2, torch, torchvision, timm"]),
        (MODEL + "  bad: [1\n", ["3: not YAML: expected <block end>, but found '?'"]),
        (MODEL + "\tx: 1\n", ["3: not YAML: found character '\\t' that cannot start any token"]),
        ("models: *x\n", ["1: not YAML: found undefined alias 'x'"]),
        ("a: 1\n---\nb: 2\n", ["2: not YAML: but found another document"]),
        (MODEL + "x: \x01\n", ["3: the character 0x1 is not allowed in YAML"]),
    ],
)  # fmt: skip
def test_mistakes(write: Write, text: str, expected: list[str]) -> None:
    assert mistakes(write(text)) == expected


def test_every_mistake_at_once(write: Write) -> None:
    lines = mistakes(
        write(
            """defaults:
  max_groups: 0
models:
  - name: smaple
    dtypes: [int8]
  - name: randwire
    arguments: {sede: 1, channels: big}
    weights: none.safetensors
  - graph: none.json
    name: vgg16
"""
        )
    )
    assert [int(line.split(":")[0]) for line in lines] == [2, 4, 5, 7, 7, 8, 9, 9]


def test_missing_files_are_named(write: Write) -> None:
    path = write("models:\n  - graph: none.json\n    weights: none.safetensors\n")
    assert mistakes(path) == [
        f"2: graph: there is no file {path.parent / 'none.json'}",
        f"3: weights: there is no file {path.parent / 'none.safetensors'}",
    ]


def test_graph_needs_a_name_for_its_schedule(write: Write) -> None:
    path = write("models:\n  - graph: my net.json\n")
    (path.parent / "my net.json").write_text("{}")
    assert mistakes(path) == ["2: 'my net' cannot name a schedule file; give the model a label"]


def bomb(levels: int) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    "text", [bomb(9), "models: &m [*m]", "[" * 5000, "models: " + "[" * 30 + "]" * 30, "- x\n" * 20_000]
)
def test_too_much(write: Write, text: str) -> None:
    assert mistakes(write(text)) == [
        " more than 10,000 values, or more than 20 levels deep; an alias may repeat too much"
    ]


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "zoo.yaml"
    assert mistakes(path) == [" cannot read it: No such file or directory; expected a zoo.yaml file"]
    assert mistakes(tmp_path) == [" cannot read it: Is a directory; expected a zoo.yaml file"]
    path.write_bytes(b"models:\n\x89PNG\xff")
    assert mistakes(path) == ["2: not UTF-8 text"]
    path.write_bytes(b"#" * (1 << 20) + b"#")
    assert mistakes(path) == [" the file is larger than 1024 KiB"]


def test_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "zoo.yaml"
    path.write_bytes(b"\xef\xbb\xbfmodels: [{name: sample}]")
    assert len(load_zoo(path).jobs()) == 1


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10m", 600), ("300s", 300), ("1h30m", 5400), ("1.5h", 5400), ("90", 90), (12.5, 12.5), (0, 0), ("0s", 0)],
)
def test_budgets(text: object, seconds: float) -> None:
    assert parse_budget(text) == Budget(seconds=seconds)


@pytest.mark.parametrize(("text", "stages"), [("500 stages", 500), ("20stages", 20), ("1 stage", 1), ("0 stages", 0)])
def test_budgets_in_stages(text: str, stages: int) -> None:
    assert parse_budget(text) == Budget(stages=stages)


@pytest.mark.parametrize(
    "text",
    ["", "m", "10 parsecs", "-3", -1, True, None, float("nan"), float("inf"), [], "stages", "-1 stages", "1.5 stages"],
)
def test_budgets_that_are_none(text: object) -> None:
    with pytest.raises(ValueError, match="expected a time"):
        parse_budget(text)
