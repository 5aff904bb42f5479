"""`queue.second_look_share`: how much of a budget goes to answered scans that deserve another look."""

from unittest import mock

import pytest

from pipeline.rounds import loop
from tests.support.synthetic_run import options, synthetic_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return synthetic_run(tmp_path_factory.mktemp("looks"), oracle=False, labelled=("train", "holdout"))


@pytest.mark.parametrize(
    ("share", "budget", "num"), [(0.0, 20, 0), (0.1, 20, 2), (0.11, 20, 3), (1.0, 20, 19), (0.5, 1, 0)]
)
def test_queue_second_look_share_is_rounded_up_and_leaves_a_scan_to_ask(run, share, budget, num):
    learning = mock.Mock()
    rounds = loop._Loop(options(run, queue__second_look_share=share, queue__budget=budget), None, learning)
    rounds._second_looks(2)
    learning.second_looks.assert_called_once_with(2, num)
