"""The fast way to a stage's summary says what the slow one does."""

from __future__ import annotations

import pytest

from iosfarm.farm.executors.executor import describe
from iosfarm.farm.jobs.job import Job, SearchSettings
from iosfarm.farm.jobs.job_search import JobSearch
from iosfarm.ir.errors import GraphError
from iosfarm.ir.stage import Stage
from iosfarm.ir.stage_summary import summarise
from iosfarm.search.method import Method
from iosfarm.workers.worker import Worker
from iosfarm.zoo.load import load


@pytest.mark.parametrize("network", ["squeezenet", "sample"])
def test_it_is_the_stages_own(network: str) -> None:
    settings = SearchSettings(method=Method("exhaustive"), refine=False)
    search = JobSearch(Job(network, load(network), "sim:v100", settings), describe(Worker("sim:v100")))
    requests = search.next(10**6)
    assert len(requests) > 20
    assert len({request.stage.strategy for request in requests.values()}) > 1
    for key, request in requests.items():
        stage = Stage.from_json(request.text)
        assert stage.key == key
        assert summarise(key, request.text) == stage.summary


def test_what_is_no_stage_is_refused() -> None:
    group = '{"inputs":[0],"units":[[["conv3d",{},[-1]]]]}'
    text = f'{{"dtype":"float32","groups":[{group}],"inputs":[[1,2,3,4]],"layout":"nhwc","strategy":"concurrent"}}'
    with pytest.raises(GraphError):
        summarise("0", text)
