"""`replay:`: a runtime like any other, which answers from a recording and from nothing else."""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import pytest

from iosfarm.db import LatencyDatabase
from iosfarm.ir.device import Device, Environment
from iosfarm.ir.errors import Infeasible, UsageError
from iosfarm.ir.measurement import Measurement, Status
from iosfarm.ir.stage import Stage
from iosfarm.kernels import check_spec, open_runtime
from iosfarm.kernels.replay import NotRecorded, ReplayRuntime
from iosfarm.kernels.replay.recording import Entry, Recording, read
from iosfarm.workers.measuring import measure, reference_stage

from conformance import STAGES, RuntimeConformance, stage_of  # isort: skip - beside this file

DEVICE = Device("cuda", "A GPU", {"sms": 4}, {"index": 0})
ENVIRONMENT = Environment({"runtime": "cuda", "precision": "ieee", "timing": "graph"}, {"driver": "1"})
OTHER = Environment({"runtime": "cuda", "precision": "tf32", "timing": "graph"})

ONE = stage_of(*STAGES["one"], "nhwc")
MERGED = stage_of(*STAGES["merge"], "nhwc")
FAILED = stage_of(*STAGES["compound"], "nhwc")
TOO_LARGE = stage_of(*STAGES["concurrent"], "nhwc")


MEASURED = b'{"type":"measurement","status":"ok","samples":[%s],"stage":"x","device":1,"environment":1}\n'


class Everything(Mapping[str, Entry]):
    """A recording that has all stages, so that the contract can be tried; those that are too large are infeasible."""

    def __getitem__(self, key: str) -> Entry:
        return Entry((3e-5, 4e-5, 5e-5))

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


class AnyStage(ReplayRuntime):
    def _entry(self, stage: Stage) -> Entry:
        if stage.inputs[0][0] == 65536:
            raise Infeasible("needs more memory")
        return super()._entry(stage)


class TestReplay(RuntimeConformance):
    computes = False

    @pytest.fixture
    def runtime(self) -> Iterator[ReplayRuntime]:
        with closing(AnyStage(Recording(DEVICE, ENVIRONMENT, Everything()), "everything")) as runtime:
            yield runtime


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """An export with a stage measured twice, one in another environment too, one that failed and one too large."""
    with LatencyDatabase(str(tmp_path / "latency.db")) as memory:
        memory.record(
            [
                (ONE.summary, Measurement(ONE.key, Status.OK, (9e-5,) * 3)),
                (ONE.summary, Measurement(ONE.key, Status.OK, (1e-5, 2e-5, 3e-5))),
                (MERGED.summary, Measurement(MERGED.key, Status.OK, (4e-5,) * 3)),
                (FAILED.summary, Measurement(FAILED.key, Status.FAILED, reason="the worker died")),
                (TOO_LARGE.summary, Measurement(TOO_LARGE.key, Status.INFEASIBLE, reason="too large")),
            ],
            DEVICE,
            ENVIRONMENT,
        )
        memory.record([(MERGED.summary, Measurement(MERGED.key, Status.OK, (7e-5,) * 3))], DEVICE, OTHER)
        memory.export(tmp_path / "measurements.jsonl")
    packed = tmp_path / "folder" / "measurements.jsonl.gz"
    packed.parent.mkdir()
    packed.write_bytes(gzip.compress((tmp_path / "measurements.jsonl").read_bytes()))
    return tmp_path


@pytest.mark.parametrize("place", ["measurements.jsonl", "folder", "folder/measurements.jsonl.gz"])
def test_answers_are_what_was_recorded(recorded: Path, place: str) -> None:
    with closing(open_runtime(f"replay:{recorded / place}")) as runtime:
        with runtime.prepare(ONE) as executable:
            assert executable.time(2) + executable.time(2) == [1e-5, 2e-5, 3e-5, 1e-5]
        with runtime.prepare(MERGED) as executable:
            assert executable.time(1) == [4e-5]


def test_what_was_not_recorded_is_refused(recorded: Path) -> None:
    with closing(open_runtime(f"replay:{recorded / 'folder'}")) as runtime:
        with pytest.raises(Infeasible, match="too large"):
            runtime.prepare(TOO_LARGE)
        for stage in (FAILED, stage_of(*STAGES["mixed"], "nhwc")):
            with pytest.raises(NotRecorded, match="was not recorded"):
                runtime.prepare(stage)


def test_a_stage_that_was_not_recorded_is_a_failure_and_no_latency(recorded: Path) -> None:
    other = stage_of(*STAGES["mixed"], "nhwc")
    with closing(open_runtime(f"replay:{recorded / 'folder'}")) as runtime:
        measurements = {m.stage_key: m for m in measure(runtime, [ONE, other, TOO_LARGE])}
    assert measurements[ONE.key].median == 2e-5
    assert measurements[other.key].status is Status.FAILED
    assert measurements[TOO_LARGE.key].status is Status.INFEASIBLE


def test_the_reference_stage_needs_no_recording(recorded: Path) -> None:
    with (
        closing(open_runtime(f"replay:{recorded / 'folder'}")) as runtime,
        runtime.prepare(reference_stage("nhwc")) as it,
    ):
        assert len(set(it.time(5))) == 1


def test_the_device_is_told_from_the_one_that_was_recorded(recorded: Path) -> None:
    with closing(open_runtime(f"replay:{recorded / 'folder'}")) as runtime:
        device, environment = runtime.fingerprint()
    assert (device.kind, device.model) == ("replay", "A GPU")
    assert device.key != DEVICE.key
    assert environment.hard_key != ENVIRONMENT.hard_key
    assert not device.simulated


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"", "no measurements"),
        (b"not JSON\n", "line 1 is no recorded measurement"),
        (b'{"type": "measurement"}\n', "line 1 is no recorded measurement"),
        (b'["a", "list"]\n', "line 1 is no recorded measurement"),
        (MEASURED % b"-1", "line 1 is no recorded measurement"),
        (MEASURED % b"1", "does not say on which device"),
    ],
)
def test_files_that_are_no_recordings(tmp_path: Path, content: bytes, part: str) -> None:
    file = tmp_path / "recorded.jsonl"
    file.write_bytes(content)
    with pytest.raises(UsageError, match=part) as caught:
        read(file)
    assert "\n" not in str(caught.value)


def test_truncated_archive(recorded: Path, tmp_path: Path) -> None:
    file = tmp_path / "cut.gz"
    file.write_bytes((recorded / "folder" / "measurements.jsonl.gz").read_bytes()[:-20])
    with pytest.raises(UsageError):
        read(file)


def test_sources_that_are_not_there() -> None:
    check_spec("replay:anything")
    with pytest.raises(UsageError, match="no recorded measurements 'nothing'"):
        open_runtime("replay:nothing")
    with pytest.raises(UsageError, match="unknown device 'replay:'"):
        check_spec("replay:")
