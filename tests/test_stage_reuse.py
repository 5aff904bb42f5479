"""A stage is kept only where its files are those that it left; a damaged record of the stages is rebuilt."""

import pytest

from pipeline import stages
from pipeline.contracts import config_file
from pipeline.runtime import run_dir, run_files
from pipeline.runtime.context import StageContext
from pipeline.runtime.engine import SerialEngine
from pipeline.stages import Stage

made = []


def run(ctx):
    """A stage that leaves one file."""
    made.append("stage")
    (ctx.folder / "out.npy").write_bytes(b"0123456789")
    return {"num": 1}


@pytest.fixture
def ctx(tmp_path, monkeypatch):
    monkeypatch.setattr(
        stages, "STAGES", (Stage("embed", __name__, ("embed",), ("out.npy",), "", (), may_leave=("more",)),)
    )
    made.clear()
    context = StageContext(config_file.load(None, {}), tmp_path, SerialEngine())
    stages.run_stages(context)
    return context


def runs_again(ctx):
    stages.run_stages(ctx)
    return len(made) - 1


def test_a_whole_stage_is_kept(ctx):
    assert stages.plan(ctx)[0]["reuse"]
    assert runs_again(ctx) == 0


@pytest.mark.parametrize("data", [b"01234", b"0123x56789", None])
def test_a_file_that_is_not_as_it_was_left_is_made_again(ctx, data, caplog):
    path = ctx.folder / "out.npy"
    path.unlink() if data is None else path.write_bytes(data)
    assert not stages.plan(ctx)[0]["reuse"]
    assert runs_again(ctx) == 1
    assert "done again, these files are not as it left them: out.npy" in caplog.text
    assert path.read_bytes() == b"0123456789"


def test_a_file_that_it_did_not_leave_is_seen(ctx):
    (ctx.folder / "more").write_bytes(b"x")
    assert runs_again(ctx) == 1


@pytest.mark.parametrize("text", ["", "{", "[]", '{"stages": [{}]}', '{"stages": [1]}'])
def test_a_damaged_record_is_set_aside_and_rebuilt(ctx, text, caplog):
    path = ctx.folder / run_files.STAGES
    path.write_text(text)
    assert run_dir.stage_records(ctx.folder) == {}
    assert runs_again(ctx) == 1
    assert path.with_name("stages.json.damaged").read_text() == text
    assert "is damaged" in caplog.text
    assert runs_again(ctx) == 1


@pytest.mark.parametrize(
    ("name", "whole", "cut"),
    [(run_files.AUDIT, '{"a": 1}', '{"a": '), (run_files.REPORT, "<html></html>\n", "<html>")],
)
def test_what_others_write_again_is_only_to_have_its_end(tmp_path, name, whole, cut):
    path = tmp_path / name.rpartition("/")[2]
    for text, is_whole in ((whole, True), (cut, False)):
        path.write_text(text)
        assert stages._has_its_end(path) is is_whole
