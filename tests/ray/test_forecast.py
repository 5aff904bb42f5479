"""Forecasts are the same bytes wherever the fits run."""

import pytest

from pipeline.rounds import loop
from pipeline.runtime.engine import SerialEngine
from tests.support.synthetic_run import synthetic_run

SMALL = {"queue__budget": 20, "rounds__num": 2, "stop__num_repeats": 2, "stop__min_labels": 30}


@pytest.mark.ray
def test_ray_gives_the_same_bytes(tmp_path, ray_session):
    texts = []
    for name, engine in (("serial", SerialEngine()), ("ray", ray_session)):
        run = synthetic_run(tmp_path / name, distance=1.5, **SMALL)
        loop.run(type(run.ctx)(run.ctx.config, run.folder, engine))
        texts.append((run.ctx.round_folder(2) / "forecast.json").read_text())
    assert texts[0] == texts[1]
