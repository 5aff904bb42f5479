"""What another model read in the reports, as columns of the pool's table: `pool.report_labels`."""

from collections import Counter

import pyarrow as pa
import pytest

from pipeline.contracts.errors import InputError
from pipeline.pool.sources import Pool
from pipeline.radiology_reports import model_columns
from pipeline.radiology_reports.labeler import ABSENT, NOT_MENTIONED, PRESENT, UNCERTAIN


def test_numbers_and_words_are_understood_and_the_rest_is_counted():
    cells = ["1", "0.0", "-1", None, "Positive", "perhaps"]
    paths = [f"{i}.png" for i in range(len(cells))]
    pool = Pool("pool", "", pa.table({"path": paths}), reports=pa.table({"image_path": paths, "CheXbert": cells}))
    reasons = Counter()
    told = model_columns.read(pool, {"effusion": "chexbert"}, reasons)
    says = [told.get(path, {}).get("effusion") for path in paths]
    assert [one and one.says for one in says] == [PRESENT, ABSENT, UNCERTAIN, NOT_MENTIONED, PRESENT, None]
    assert reasons == {model_columns.NOT_UNDERSTOOD: 1}
    with pytest.raises(InputError, match=r"pool\.report_labels"):
        model_columns.read(pool, {"mass": "gone"}, reasons)
