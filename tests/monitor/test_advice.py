"""Retrain names the command by which the run learns the batch."""

from pathlib import Path
from types import SimpleNamespace

from pipeline.monitor import judgement, monitor_pool
from pipeline.monitor.cause import Cause


def advised(verdict, *, is_learnable=True):
    how = SimpleNamespace(run=Path("/runs/mine"))
    cause = Cause("source", "They come from elsewhere.", "label some", is_learnable)
    return monitor_pool.to_learn_them(SimpleNamespace(verdict=verdict, cause=cause), how, "new scans/batch 7")


def test_retrain_names_the_command_and_other_verdicts_none():
    assert advised(judgement.RETRAIN) == "cxr-ssl run --grow 'new scans/batch 7' --out /runs/mine --resume"
    assert advised(judgement.WATCH) is None
    assert advised(judgement.RETRAIN, is_learnable=False) is None  # nobody should learn CT slices, or a wrong export
