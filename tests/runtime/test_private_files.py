"""The secret of a run, the pseudonyms made with it, and who may read what a run writes."""

import hashlib
import os
import stat
from contextlib import ExitStack

import pytest

from pipeline.contracts import config_file
from pipeline.contracts.config import Config
from pipeline.contracts.errors import InputError, RunDirError
from pipeline.runtime import private_files, run_dir, run_files


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def begun(folder, **options):
    run_dir.write_config(folder, config_file.load(None, options))
    return folder


def test_each_run_draws_a_secret_of_its_own_and_keeps_it(tmp_path):
    first, second = (private_files.salt_of(begun(tmp_path / name)) for name in "ab")
    assert first != second and min(len(first), len(second)) >= 64
    assert private_files.salt_of(tmp_path / "a") == first == private_files.read_salt(tmp_path / "a")
    place = tmp_path / "a" / run_files.SALT
    assert (mode(place), mode(place.parent)) == (0o600, 0o700)


def test_pseudonyms_differ_by_secret_and_are_no_plain_hash():
    one = private_files.pseudonym("P12", "s")
    assert one == private_files.pseudonym("P12", "s") and len(one) == 16
    assert len({one, private_files.pseudonym("P12", "t"), private_files.pseudonym("P13", "s")}) == 3
    plain = [hashlib.sha256(text).hexdigest() for text in (b"P12", b"s\0P12", b"cxr-ssl\0P12")]
    assert not any(text.startswith(one) for text in plain)


def test_a_secret_among_the_options_goes_nowhere_but_into_private(tmp_path):
    folder = begun(tmp_path / "run", **{"splits.salt": "hush-hush"})
    files = [path for path in folder.rglob("*") if path.is_file() and path != folder / run_files.SALT]
    assert files and not any(b"hush-hush" in path.read_bytes() for path in files)
    config = config_file.load(None, {"splits.salt": "hush-hush"})
    assert "hush-hush" not in repr(config) + config_file.dump(config) + config_file.dump(config, only_given=True)
    assert private_files.read_salt(folder) == "hush-hush"


@pytest.mark.parametrize("public", ["cxr-ssl", "change-me"])
def test_a_salt_that_everybody_knows_is_none(public):
    assert config_file.load(None, {"splits.salt": public}).splits.salt is None


def test_the_secret_of_a_run_of_an_older_version_is_struck_out_of_its_options(tmp_path):
    folder = begun(tmp_path / "run")
    resolved = folder / run_files.RESOLVED
    resolved.write_text(resolved.read_text("utf-8").replace("splits:\n", "splits:\n  salt: of-old\n"), "utf-8")
    run_dir.write_config(folder, config_file.load(resolved))
    assert "of-old" not in resolved.read_text("utf-8") and private_files.read_salt(folder) == "of-old"


@pytest.mark.parametrize("inside", ["external/other", "site/other"])
def test_another_pool_of_a_run_shares_its_secret(tmp_path, inside):
    run = begun(tmp_path / "run")
    salt = private_files.salt_of(run)
    assert private_files.salt_of(run / inside) == salt
    with pytest.raises(InputError, match="could not be matched"):
        private_files.salt_of(run / inside, "another")
    (run / run_files.SALT).unlink()
    with pytest.raises(RunDirError, match=r"secret .* is missing.*--resume"):
        private_files.salt_of(run / inside)


def test_an_empty_secret_is_refused(tmp_path):
    private_files.salt_of(tmp_path)
    (tmp_path / run_files.SALT).write_text("")
    with pytest.raises(RunDirError, match=r"is empty.*backup"):
        private_files.salt_of(tmp_path)


@pytest.mark.parametrize(
    ("readable_by", "file", "folder"), [(None, 0o600, 0o700), ("group", 0o640, 0o750), ("everyone", 0o644, 0o755)]
)
def test_files_of_a_run_are_their_owners(tmp_path, readable_by, file, folder):
    options = {} if readable_by is None else {"privacy.readable_by": readable_by}
    run = tmp_path / "run"
    run.mkdir(mode=0o755)
    with run_dir.locked(run, readable_by=readable_by):
        begun(run, **options)
        (run / "rounds").mkdir()
    with run_dir.locked(run):  # as the options of the run say
        (run / "rounds" / "late.txt").write_text("late")
    assert [mode(run / name) for name in ("resolved.yaml", "rounds/late.txt")] == [file, file]
    assert [mode(path) for path in (run, run / "rounds")] == [folder, folder]
    (tmp_path / "outside.txt").write_text("as the user likes it")
    assert Config().privacy.readable_by == "owner" and mode(tmp_path / "outside.txt") & 0o044


def test_blocks_of_threads_that_overlap_leave_the_process_as_it_was(tmp_path):
    begun(tmp_path / "run")
    before = os.umask(0o022)
    try:
        with ExitStack() as first, ExitStack() as second:
            first.enter_context(private_files.readable_by(tmp_path / "run"))
            second.enter_context(private_files.readable_by(tmp_path / "run", "group"))
            first.close()
            (tmp_path / "run" / "late.txt").write_text("the second is still open")
        (tmp_path / "outside.txt").write_text("as the user likes it")
    finally:
        os.umask(before)
    assert [mode(path) for path in (tmp_path / "run" / "late.txt", tmp_path / "outside.txt")] == [0o640, 0o644]
