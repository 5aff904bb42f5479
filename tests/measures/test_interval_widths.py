import math

import numpy as np
import pytest
from statsmodels.stats.proportion import proportion_confint

from pipeline.measures.interval_widths import auroc_width, share_width


@pytest.mark.parametrize(("hits", "num"), [(0, 1), (1, 1), (21, 42), (40, 42), (7, 300)])
def test_widths_agree_with_statsmodels(hits, num):
    low, high = proportion_confint(hits, num, method="wilson")
    got = share_width(num, num, share=hits / num)
    assert got["interval"] == pytest.approx([low, high], abs=1e-9)
    assert got["half_width"] == got["half_width_if_independent"] == pytest.approx((high - low) / 2, abs=1e-9)


def test_forty_two_positives_say_fourteen_points_and_fewer_patients_say_less():
    assert share_width(42, 42)["half_width"] == pytest.approx(0.145, abs=5e-4)
    clustered = share_width(42, 14, intraclass=0.5)
    assert clustered["design_effect"] == 2 and clustered["effective_size"] == 21
    assert clustered["half_width"] == pytest.approx(share_width(21, 21)["half_width"])
    # Scans of a patient that say the same: patients count.
    assert share_width(42, 14, intraclass=1)["half_width"] == pytest.approx(share_width(14, 14)["half_width"])
    assert share_width(42, 14, intraclass=0)["half_width"] == share_width(42, 42)["half_width"]


def test_one_half_is_the_worst_case():
    widths = [share_width(50, 30, share=s)["half_width"] for s in np.linspace(0, 1, 21)]
    assert max(widths) == widths[10] == share_width(50, 30)["half_width"]
    empty = share_width(0, 0)
    assert empty["half_width"] is None and empty["num_scans"] == 0


def test_a_design_effect_widens_and_no_scans_give_nothing():
    got = auroc_width(0.9, 40, 200, design_effect=4)
    assert got["standard_error"] == pytest.approx(2 * auroc_width(0.9, 40, 200)["standard_error"])
    assert got["half_width"] == pytest.approx(1.959963984540054 * got["standard_error"])
    assert auroc_width(0.9, 0, 10)["half_width"] is None


def test_hanley_and_mcneil_agree_with_simulation():
    rng = np.random.default_rng(0)
    # Exponential scores are the model their formula is exact for.
    score_p, score_n = rng.exponential(4, (4000, 30)), rng.exponential(1, (4000, 50))
    area = (score_p[:, :, None] > score_n[:, None]).mean(axis=(1, 2))
    assert auroc_width(0.8, 30, 50)["standard_error"] == pytest.approx(area.std(), rel=0.05)


@pytest.mark.parametrize(
    "call",
    [
        lambda: share_width(3, 5),
        lambda: share_width(3, 0),
        lambda: share_width(-1, 0),
        lambda: share_width(3, 3, share=1.2),
        lambda: share_width(3, 3, intraclass=math.nan),
        lambda: auroc_width(1.0, 3, 3),
        lambda: auroc_width(0.8, 3, 3, design_effect=0.5),
    ],
)
def test_bad_input_is_refused(call):
    with pytest.raises(ValueError, match=r"must be|cannot|impossible"):
        call()
