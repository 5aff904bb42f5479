"""Retrain names the command by which the run learns the batch."""

from pathlib import Path
from types import SimpleNamespace

from pipeline.monitor import judgement, monitor_pool


def told(verdict, *findings):
    how = SimpleNamespace(run=Path("/runs/mine"), questions=[SimpleNamespace(finding=f) for f in findings])
    return monitor_pool.to_learn_them(verdict, how, "new scans/batch 7")


def test_retrain_names_the_command_and_other_verdicts_none():
    assert told(judgement.RETRAIN, None) == "cxr-ssl run --grow 'new scans/batch 7' --out /runs/mine --resume"
    assert told(judgement.WATCH, None) is None
    assert told(judgement.RETRAIN, "effusion", "nodule") == told(judgement.RETRAIN, None)
