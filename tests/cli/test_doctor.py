"""`iosfarm doctor` on the machine that runs the tests, and its judgements of machines that it is not."""

from __future__ import annotations

import json
import shutil
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from iosfarm.cli import doctor, main
from iosfarm.cli.checks import Check, cuda, storage, system
from iosfarm.db import LatencyDatabase
from iosfarm.kernels.cuda.device import probe


def test_every_check_of_this_machine() -> None:
    checks = {check.name: check for check in doctor.examine()}
    assert [name for name, check in checks.items() if check.required and check.status != "ok"] == []
    assert {"python", "torch", "numba", "ray", "sqlite", "cores", "memory", "cuda driver"} <= set(checks)
    assert all(check.todo for check in checks.values() if check.status not in ("ok", "unused"))


def test_json_is_the_report(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["doctor", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["cpu_path_works"] is True
    assert {"name", "status", "detail", "todo", "required"} == set(document["checks"][0])


def test_table_is_the_report(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["doctor"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.splitlines()[-1] == "The CPU path works."


def test_broken_library_fails_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken() -> Check:
        raise OSError("libtorch_cpu.so: undefined symbol")

    monkeypatch.setattr(system, "torch", broken)
    assert main.run(["doctor", "--json"]) == 1
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert document["cpu_path_works"] is False
    (row,) = [check for check in document["checks"] if check["status"] == "problem" and check["required"]]
    assert row["name"] == "torch"
    assert row["detail"] == "OSError: libtorch_cpu.so: undefined symbol"
    assert err == ""


def cgroup(root: Path, lines: str, files: dict[str, str]) -> Path:
    for name, text in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    own = root / "own"
    own.write_text(lines)
    return own


def test_quota_is_the_tightest_on_the_way_up(tmp_path: Path) -> None:
    own = cgroup(
        tmp_path,
        "0::/farm/job\n",
        {"farm/cpu.max": "150000 100000\n", "farm/job/cpu.max": "400000 100000\n", "cpu.max": "max 100000\n"},
    )
    assert system.cgroup_cores(tmp_path, own) == 1.5


def test_limits_of_cgroup_version_1(tmp_path: Path) -> None:
    own = cgroup(
        tmp_path,
        "4:memory:/job\n2:cpu,cpuacct:/job\n",
        {
            "cpu,cpuacct/job/cpu.cfs_quota_us": "250000\n",
            "cpu,cpuacct/job/cpu.cfs_period_us": "100000\n",
            "cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
            "cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            "memory/job/memory.limit_in_bytes": "1073741824\n",
        },
    )
    assert system.cgroup_cores(tmp_path, own) == 2.5
    assert system.cgroup_memory(tmp_path, own) == system.GIB


def test_container_that_sees_its_own_cgroup_as_the_root(tmp_path: Path) -> None:
    own = cgroup(tmp_path, "0::/host/path/of/it\n", {"cpu.max": "200000 100000", "memory.max": "max"})
    assert system.cgroup_cores(tmp_path, own) == 2.0
    assert system.cgroup_memory(tmp_path, own) is None


def test_no_cgroups(tmp_path: Path) -> None:
    assert system.cgroup_cores(tmp_path, tmp_path / "none") is None
    assert system.cgroup_memory(tmp_path, tmp_path / "none") is None


def test_quota_below_the_cores_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "affinity", lambda: 8)
    monkeypatch.setattr(system, "cgroup_cores", lambda: 2.5)
    check = system.cores()
    assert (check.status, check.required) == ("problem", False)
    assert "8 cores, of which the control group grants 2.5" in check.detail
    assert "taskset --cpu-list 0-1" in check.todo


def test_little_memory_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "cgroup_memory", lambda: system.GIB)
    assert (system.memory().status, system.memory().detail) == ("problem", "1.0 GiB")


def found(driver: probe.Driver | None, *packages: str, cudnn: str = "libcudnn.so.9") -> probe.Findings:
    problem = "" if driver else "CUDA needs NVIDIA's driver, and libcuda.so.1 was not found"
    return probe.Findings(driver, problem, dict.fromkeys(packages, "1.2"), cudnn, dict.fromkeys((12, 13), "libcudart"))


H200 = probe.Driver((13, 2), ("NVIDIA H200 (sm_90)",))


def test_machine_without_a_gpu_has_nothing_to_mend() -> None:
    for driver in (None, probe.Driver((13, 2), ())):
        checks = [check(found(driver, cudnn="")) for check in (cuda.driver, cuda.packages, cuda.usable)]
        assert [(check.status, check.todo, check.required) for check in checks] == [("unused", "", False)] * 3


def test_gpu_with_all_that_it_needs() -> None:
    complete = found(H200, "cupy-cuda13x", "nvidia-cudnn-cu13", "nvidia-cudnn-frontend")
    assert cuda.driver(complete).detail == "CUDA 13.2, NVIDIA H200 (sm_90)"
    assert cuda.packages(complete).detail.startswith("cupy-cuda13x 1.2, nvidia-cudnn-cu13 1.2")
    assert cuda.usable(complete).status == "ok"


def test_gpu_without_cupy_says_what_to_install() -> None:
    check = cuda.usable(found(H200))
    assert (check.status, check.required) == ("problem", False)
    assert check.todo.startswith("pip install 'iosfarm[cuda13]'")


FAKE_DRIVER = r"""
#include <string.h>
int cuDriverGetVersion(int *number) { *number = 13020; return 0; }
int cuInit(unsigned flags) { return flags == 0 ? INIT : 1; }
int cuDeviceGetCount(int *count) { *count = GPUS; return 0; }
int cuDeviceGet(int *device, int index) { *device = 40 + index; return 0; }
int cuDeviceGetName(char *name, int length, int device) {
    strncpy(name, device == 40 ? "NVIDIA H200" : "NVIDIA L4", length); return 0;
}
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    *value = device == 40 ? (attribute == 75 ? 9 : 0) : (attribute == 75 ? 8 : 9); return 0;
}
"""


@pytest.fixture
def build_library(tmp_path: Path) -> Callable[[int, int], str]:
    """Compiles a stand-in for libcuda: GPUs shown, what cuInit returns -> path."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler to build a stand-in for the driver with")

    def build(gpus: int, init: int) -> str:
        source, library = tmp_path / "fake.c", tmp_path / f"libfake-{gpus}-{init}.so"
        source.write_text(FAKE_DRIVER)
        flags = ["-shared", "-fPIC", f"-DGPUS={gpus}", f"-DINIT={init}"]
        subprocess.run([compiler, *flags, "-o", str(library), str(source)], check=True)
        return str(library)

    return build


def test_driver_with_two_gpus(build_library: Callable[[int, int], str]) -> None:
    driver = probe.probe_driver(build_library(2, 0))
    assert driver == probe.Driver((13, 2), ("NVIDIA H200 (sm_90)", "NVIDIA L4 (sm_89)"))


def test_driver_without_a_gpu(build_library: Callable[[int, int], str]) -> None:
    for gpus, init in ((0, 0), (1, probe.NO_DEVICE)):
        assert probe.probe_driver(build_library(gpus, init)) == probe.Driver((13, 2), ())


def test_driver_that_does_not_start(build_library: Callable[[int, int], str]) -> None:
    with pytest.raises(RuntimeError, match="cuInit returned error 999"):
        probe.probe_driver(build_library(1, 999))


def test_library_that_is_not_the_driver() -> None:
    with pytest.raises(RuntimeError, match="it is not NVIDIA's"):
        probe.probe_driver("libc.so.6")
    with pytest.raises(OSError, match="no-such"):
        probe.probe_driver("libthere-is-no-such.so.1")


def test_no_database_yet_is_fine(tmp_path: Path) -> None:
    file = tmp_path / "data" / "iosfarm" / "latency.db"
    assert storage.database(None) == Check("database", "ok", f"{file}: none yet, the first search makes it")
    assert storage.data_directory(None).status == "ok"
    assert not file.parent.exists()  # to look changes nothing


def test_database_that_is_there(tmp_path: Path) -> None:
    file = tmp_path / "latency.db"
    LatencyDatabase(str(file)).close()
    check = storage.database(str(file))
    assert (check.status, check.detail) == ("ok", f"{file}: 0 measurements of 0 stages")


def test_database_file_that_is_none(tmp_path: Path) -> None:
    file = tmp_path / "latency.db"
    file.write_bytes(b"not a database, but long enough to be taken for one" * 100)
    check = storage.database(str(file))
    assert check.status == "problem"
    assert check.detail == f"{file}: the file is not a database"
    assert "--db" in check.todo


def test_server_that_does_not_answer(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["doctor", "--json", "--db", "postgresql://user:secret@127.0.0.1:1/latency"]) == 1
    out = capsys.readouterr().out
    assert "secret" not in out
    (row,) = [check for check in json.loads(out)["checks"] if check["name"] == "database"]
    assert row["status"] == "problem"
    assert row["todo"]


def test_malformed_database_url_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["doctor", "--db", "mysql://host/latency"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: iosfarm does not run on mysql; ")


def test_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "MIN_DISK", 2**60)
    check = storage.data_directory(str(tmp_path / "latency.db"))
    assert check.status == "problem"
    assert str(tmp_path) in check.detail


def test_directory_that_is_not_there(tmp_path: Path) -> None:
    check = storage.data_directory(str(tmp_path / "none" / "latency.db"))
    assert check.status == "missing"
    assert check.todo == f"mkdir -p {tmp_path / 'none'}"


def test_data_directory_that_cannot_be_made(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    for place in ("/proc/x", str(tmp_path / "file" / "x")):
        monkeypatch.setenv("XDG_DATA_HOME", place)
        assert main.run(["doctor", "--json"]) == 1
        rows = {check["name"]: check for check in json.loads(capsys.readouterr().out)["checks"]}
        for name in ("data directory", "database"):
            assert rows[name]["status"] == "problem", place
            assert "--db" in rows[name]["todo"]


def test_malformed_iosfarm_db_is_a_problem(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("IOSFARM_DB", "mysql://user:secret@host/latency")
    assert main.run(["doctor", "--json"]) == 1
    out, err = capsys.readouterr()
    rows = {check["name"]: check for check in json.loads(out)["checks"]}
    for name in ("data directory", "database"):
        assert (rows[name]["status"], rows[name]["detail"]) == ("problem", "IOSFARM_DB: iosfarm does not run on mysql")
        assert rows[name]["todo"]
    assert "secret" not in out + err


def test_database_in_memory_is_fine() -> None:
    assert [storage.data_directory(":memory:").status, storage.database(":memory:").status] == ["ok", "ok"]


def test_what_doctor_asks_for_is_what_the_project_declares(root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    for check in ("torch", "numba", "ray"):
        (declared,) = [item for item in project["dependencies"] if item.startswith(f"{check}>=")]
        assert system.WANTED[check] == declared
