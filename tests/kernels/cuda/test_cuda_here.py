"""Why CUDA cannot be used here: one line each, with what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from iosfarm.ir.errors import UsageError
from iosfarm.kernels import best_device, check_spec, open_runtime
from iosfarm.kernels.cuda import opening
from iosfarm.kernels.cuda.device import probe
from iosfarm.kernels.cuda.device.probe import Driver, Findings, check
from iosfarm.kernels.cuda.options import CudaSpec, parse_spec

NEW = Driver((13, 0), ("NVIDIA H200 (sm_90)",))
OLD = Driver((12, 4), ("NVIDIA L4 (sm_89)", "NVIDIA L4 (sm_89)"))
ALL = ("cupy-cuda13x", "nvidia-cudnn-cu13", "nvidia-cudnn-frontend")


def found(
    driver: Driver | None,
    *packages: str,
    problem: str = "",
    cudnn: str = "/x/libcudnn.so.9",
    cudart: str = "/x/libcudart",
) -> Findings:
    return Findings(driver, problem, dict.fromkeys(packages, "1"), cudnn, dict.fromkeys((12, 13), cudart))


@pytest.mark.parametrize(
    ("findings", "what", "hint"),
    [
        (found(None, *ALL, problem="CUDA needs NVIDIA's driver"), "needs NVIDIA's driver", "--device cpu"),
        (found(None, *ALL, problem="NVIDIA's driver does not start: error 999"), "does not start", "--device cpu"),
        (found(Driver((13, 0), ()), *ALL), "no GPU", "CUDA_VISIBLE_DEVICES"),
        (found(Driver((11, 8), NEW.gpus), *ALL), "runs CUDA 11.8", "driver from 525"),
        (found(OLD, *ALL), "cupy-cuda13x needs CUDA 13; the driver runs CUDA 12.4", "driver from 580"),
        (found(NEW), "CuPy is not installed", "pip install 'iosfarm[cuda13]'"),
        (found(OLD), "CuPy is not installed", "pip install 'iosfarm[cuda12]'"),
        (found(NEW, "cupy-cuda12x", *ALL), "both installed", "pip uninstall cupy-cuda12x"),
        (found(OLD, "cupy-cuda12x", *ALL), "both installed", "pip uninstall cupy-cuda13x"),
        (found(NEW, *ALL[:2]), "nvidia-cudnn-frontend is not installed", "provider=iosfarm"),
        (found(NEW, *ALL, cudnn=""), "cuDNN is not installed", "pip install nvidia-cudnn-cu13"),
        (found(NEW, *ALL, cudart=""), "needs libcudart.so.13", "pip install nvidia-cuda-runtime,"),
        (found(NEW, *ALL, "nvidia-cudnn-cu12"), "both installed", "pip uninstall nvidia-cudnn-cu12"),
        (found(NEW, "cupy-cuda13x", "nvidia-cudnn-cu12", ALL[2]), "does not go with", "nvidia-cudnn-cu13"),
    ],
)
def test_what_is_missing_is_one_line(findings: Findings, what: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        check(findings, where="cuda")
    assert what in caught.value.what
    assert hint in caught.value.hint
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("cuda: ")


def test_all_that_is_needed() -> None:
    check(found(NEW, *ALL))
    check(found(OLD, "cupy-cuda12x", "nvidia-cudnn-cu12", "nvidia-cudnn-frontend"), index=1)
    # A newer driver runs older CUDA, a system's own cuDNN will do, and our own convolutions need none.
    check(found(NEW, "cupy-cuda12x", "nvidia-cudnn-frontend"))
    check(found(NEW, "cupy-cuda13x", cudnn=""), cudnn=False)


def test_a_device_index_that_does_not_exist() -> None:
    with pytest.raises(UsageError, match="there is no GPU 1; there is 1, counted from 0"):
        check(found(NEW, *ALL), index=1)
    with pytest.raises(UsageError, match="there is no GPU 2; there are 2"):
        check(found(OLD, "cupy-cuda12x", "nvidia-cudnn-cu12", "nvidia-cudnn-frontend"), index=2)


def test_auto_takes_the_gpu_only_where_it_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "look", lambda: found(NEW, *ALL))
    assert best_device() == "cuda"
    monkeypatch.setattr(probe, "look", lambda: found(NEW))
    assert best_device() == "cpu"


def test_cupy_that_does_not_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "look", lambda: found(NEW, *ALL))
    monkeypatch.setitem(__import__("sys").modules, "cupy", None)
    with pytest.raises(UsageError, match="CuPy does not load"):
        open_runtime("cuda")


def test_specs() -> None:
    assert parse_spec("cuda") == CudaSpec()
    assert parse_spec("cuda:1?precision=tf32&timing=streams&inputs=cold&sms=share") == CudaSpec(
        1, "tf32", "streams", "cold", "cudnn", "share"
    )
    check_spec("cuda:3")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("cuda:", "not a CUDA device"),
        ("cuda:-1", "not a CUDA device"),
        ("cuda:x", "not a CUDA device"),
        ("cudax", "unknown device"),
        ("cuda?precision=fp8", "use ieee or tf32"),
        ("cuda?speed=1", "unknown option 'speed'"),
        ("cuda?tf32", "name=value"),
    ],
)
def test_specs_that_are_none(text: str, part: str) -> None:
    with pytest.raises(UsageError, match=part):
        check_spec(text)
    with pytest.raises(UsageError, match=part if part != "unknown device" else "not a CUDA device"):
        open_runtime(text)


def test_libraries_of_wheels_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("cudnn/lib/libcudnn.so.9", "cu13/lib/libcudart.so.13", "cuda_runtime/lib/libcudart.so.12")
    compiler = [tmp_path / "nvidia" / "cu13" / "lib" / f"libnvrtc{name}" for name in ("-builtins.so.13.5", ".so.13")]
    files = [tmp_path / "nvidia" / name for name in names]
    for file in (*files, *compiler):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    monkeypatch.delitem(__import__("sys").modules, "nvidia", raising=False)
    assert [probe.find_cudnn(), probe.find_cudart(13), probe.find_cudart(12)] == [str(file) for file in files]
    assert probe.find_cudart(99) == ""
    assert probe.find_nvrtc(13) == [str(file) for file in compiler]
    assert probe.find_nvrtc(99) == []


def test_cudnn_is_the_one_that_its_frontend_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a library path first: a second copy in one process would load parts of the first."""
    wheel = tmp_path / "nvidia" / "cudnn" / "lib" / "libcudnn.so.9"
    own = tmp_path / "own" / "libcudnn.so.9"
    for file in (wheel, own):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(__import__("sys").modules, "nvidia", raising=False)
    monkeypatch.setenv("LD_LIBRARY_PATH", f":{tmp_path / 'nowhere'}")
    assert probe.find_cudnn() == str(wheel)
    monkeypatch.setenv("LD_LIBRARY_PATH", f"{tmp_path / 'nowhere'}:{own.parent}")
    assert probe.find_cudnn() == str(own)
