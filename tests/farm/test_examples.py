"""The example files, as far as they can be tried without their machines."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest
import yaml

from iosfarm.zoo.device_selector import Selector
from iosfarm.zoo.zoo_file import load_zoo

SCRIPTS = ("local.sh", "two-machines.sh", "slurm.sh")


@pytest.fixture
def examples(root: Path) -> Path:
    return root / "examples"


def run(command: list[str], folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    values = {**os.environ, "PATH": path} | environment
    return subprocess.run(command, cwd=folder, env=values, capture_output=True, text=True, timeout=120, check=False)


def program(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/usr/bin/env bash\n{script}\n")
    path.chmod(0o755)


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_can_be_run_and_read(examples: Path, name: str) -> None:
    assert os.access(examples / name, os.X_OK)
    assert run(["bash", "-n", str(examples / name)], examples).returncode == 0


def test_the_zoo_and_the_selectors_that_it_explains(examples: Path) -> None:
    assert load_zoo(examples / "zoo.yaml").jobs()
    explained = re.findall(r"^#   (\S+)", (examples / "zoo.yaml").read_text(), re.MULTILINE)
    assert len(explained) == 4
    for selector in explained:
        Selector.parse(selector)


def test_the_local_farm_searches(examples: Path, tmp_path: Path) -> None:
    arguments = ["--executor", "inline", "--db", "farm.db", "--json"]
    done = run([str(examples / "local.sh"), *arguments], tmp_path)
    assert done.returncode == 0, done.stderr
    (result,) = json.loads(done.stdout)["results"]
    assert result["device"]["simulated"]
    assert (tmp_path / "search.jsonl").exists()


def test_the_two_machines_say_how_they_are_used(examples: Path, tmp_path: Path) -> None:
    done = run([str(examples / "two-machines.sh")], tmp_path)
    assert done.returncode == 2
    assert "two-machines.sh worker FIRST_MACHINE" in done.stderr


def test_the_two_machines_start_what_they_say(examples: Path, tmp_path: Path) -> None:
    for name in ("ray", "iosfarm"):
        program(tmp_path, name, f'echo "$RAY_AUTH_MODE" {name} "$@"')
    script, path = str(examples / "two-machines.sh"), f"{tmp_path}:{os.environ['PATH']}"
    lines = [
        run([script, *arguments], tmp_path, PATH=path, FARM_DB="postgresql://farm").stdout.strip()
        for arguments in (["head"], ["worker", "first"], ["search", "--gap", "0.1"])
    ]
    assert lines[0] == "token ray start --head --port=6379 --include-dashboard=false"
    assert lines[1] == "token ray start --address=first:6379"
    assert lines[2].endswith("--ray-address 127.0.0.1:6379 --db postgresql://farm --gap 0.1")


def test_the_cluster_is_one_that_ray_accepts(examples: Path) -> None:
    document = yaml.safe_load((examples / "cluster.yaml").read_text())
    schema = json.loads((files("ray") / "autoscaler" / "ray-schema.json").read_text())
    jsonschema.validate(document, schema)
    assert document["file_mounts"]["~/zoo.yaml"] == "examples/zoo.yaml"
    assert document["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"


def test_the_kubernetes_job_fits_this_version(examples: Path) -> None:
    document = yaml.safe_load((examples / "kuberay.yaml").read_text())
    assert (document["apiVersion"], document["kind"]) == ("ray.io/v1", "RayJob")
    spec = document["spec"]
    assert spec["rayClusterSpec"]["rayVersion"] == version("ray")
    options = re.findall(r"--[a-z-]+", spec["entrypoint"])
    known = run([sys.executable, "-m", "iosfarm", "search", "--help"], examples, COLUMNS="200").stdout
    assert options
    assert all(option in known for option in options)
    head = spec["rayClusterSpec"]["headGroupSpec"]
    assert head["rayStartParams"]["num-cpus"] == "0"
    (worker,) = spec["rayClusterSpec"]["workerGroupSpecs"]
    (container,) = worker["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"


@pytest.mark.parametrize("code", [0, 130])
def test_the_slurm_job_starts_a_head_and_workers_and_ends_as_the_search(
    examples: Path, tmp_path: Path, code: int
) -> None:
    told = tmp_path / "told"
    program(tmp_path, "scontrol", "printf 'one\\ntwo\\n'")
    program(tmp_path, "srun", f'echo srun "$@" "$RAY_AUTH_MODE" "${{#RAY_AUTH_TOKEN}}" >> {told}')
    program(tmp_path, "ray", f'echo ray "$@" >> {told}')
    program(tmp_path, "iosfarm", f'echo iosfarm "$@" >> {told}; exit {code}')
    settings = {"SLURM_JOB_NODELIST": "[one-two]", "SLURM_JOB_ID": "7", "SLURM_CPUS_PER_TASK": "16"}
    path = f"{tmp_path}:{os.environ['PATH']}"
    script = [str(examples / "slurm.sh"), "--db", "farm.db"]
    done = run(script, tmp_path, PATH=path, IOSFARM_EXAMPLES=str(examples), **settings)
    assert done.returncode == code, done.stderr
    lines = told.read_text().splitlines()
    head, worker = sorted(line for line in lines if line.startswith("srun"))
    assert "--nodelist=one ray start --head --port=6379" in head
    assert worker.endswith("--nodelist=two ray start --address=one:6379 --num-cpus=16 --block token 64")
    (search,) = (line for line in lines if line.startswith("iosfarm"))
    assert search.endswith("--ray-address one:6379 --log search-7.jsonl --db farm.db")
