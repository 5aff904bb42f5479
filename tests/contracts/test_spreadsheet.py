"""Formulas in tables that people open: none is run, and every text is read back as it was."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.contracts import spreadsheet

TEXTS = st.text(st.sampled_from([*spreadsheet.FORMULA, "'", "a", "1", " "]), max_size=6)


@pytest.mark.parametrize("sign", spreadsheet.FORMULA)
def test_what_a_spreadsheet_would_run_is_text(sign):
    assert spreadsheet.defused(f"{sign}1+1") == f"'{sign}1+1"
    assert spreadsheet.defused(f"a{sign}b") == f"a{sign}b"


@given(TEXTS)
def test_every_text_comes_back(text):
    written = spreadsheet.defused(text)
    assert not written.startswith(spreadsheet.FORMULA)
    assert spreadsheet.restored(written) == text


@given(st.lists(st.one_of(st.none(), TEXTS), min_size=1, max_size=5))
def test_a_table_is_written_as_its_cells_are(texts):
    table = pa.table({"text": pa.array(texts, pa.string()), "number": [-1.5] * len(texts)})
    defused = spreadsheet.defused_table(table)
    assert defused.schema == table.schema and defused["number"] == table["number"]
    assert defused["text"].to_pylist() == [None if text is None else spreadsheet.defused(text) for text in texts]
