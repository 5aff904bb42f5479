import numpy as np
import pytest

from pipeline.commands import compare
from pipeline.contracts.config import Config
from pipeline.contracts.errors import InputError
from pipeline.evidence.scored import Scored
from pipeline.runtime.context import StageContext
from pipeline.runtime.engine import SerialEngine


def scored(positive, findings=("viral", "bacterial")):
    prob_SC = np.array([[0.8, 0.2], [0.3, 0.7]])
    return Scored(findings, positive, ["a", "b"], ["p", "q"], np.array([0, 1]), prob_SC, prob_SC.argmax(1))


@pytest.mark.parametrize(
    "other", [scored(0), scored(1, ("bacterial", "viral"))], ids=["same order", "the finding stands last"]
)
def test_runs_that_count_other_classes_as_the_finding_are_not_compared(tmp_path, monkeypatch, other):
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    found = {ours: scored(1), theirs: other}
    monkeypatch.setattr(compare, "holdout", lambda ctx: found[ctx.folder])
    monkeypatch.setattr(compare.run_dir, "config_of", lambda _: Config())
    with pytest.raises(InputError, match=r"another class as the finding \(got 'viral'\)\. .*pool\.positive.*bacterial"):
        compare.compared(StageContext(Config(), ours, SerialEngine()), theirs)
