"""Nested folders: which level names the classes, which the split, and what is said of the others."""

import pytest

from pipeline.contracts.options.scans import PoolConfig
from pipeline.pool.sources import open_pool
from tests.pool.test_folders import image
from tests.pool.test_folders import write as written


def opened(tmp_path, names, **options):
    pool = written(tmp_path / "pool", dict.fromkeys(names, image()))
    return open_pool(PoolConfig(uri=str(pool), **options), tmp_path / "cache")


def columns(pool, *names):
    return [pool.scans[name].to_pylist() for name in names]


def said(pool):
    return "\n".join(pool.notes.lines)


def nested(tops, inside, num=2):
    return sorted(f"{top}/{name}/{i}.png" for top in tops for name in inside for i in range(num))


@pytest.mark.parametrize("tops", [("A", "B"), ("siteA", "siteB"), ("P1", "P2", "P3"), ("fold0", "fold1")])
@pytest.mark.parametrize("inside", [("normal", "pneumonia"), ("Controls", "covid")])
def test_classes_below_other_folders(tmp_path, tops, inside):
    names = nested(tops, inside)
    pool = opened(tmp_path, names)
    assert columns(pool, "label") == [[name.split("/")[1] for name in names]]
    assert f"the classes ({inside[0]!r}, {inside[1]!r})" in said(pool) and repr(tops[0]) in said(pool)


def test_classes_that_are_asked_for_are_found_below_others(tmp_path):
    names = nested(("north", "south"), ("covid", "flu"))
    pool = opened(tmp_path, names, findings=("flu", "covid"))
    assert columns(pool, "label") == [[name.split("/")[1] for name in names]]
    first = opened(tmp_path, names)
    assert columns(first, "label") == [[name.split("/")[0] for name in names]]
    assert "if the second are, name them in pool.findings" in said(first)


@pytest.mark.parametrize("inside", [("PA", "AP"), ("images", "more")])
def test_folders_in_folders_of_classes_are_no_classes(tmp_path, inside):
    names = nested(("normal", "pneumonia"), inside)
    pool = opened(tmp_path, names)
    assert columns(pool, "label") == [[name.split("/")[0] for name in names]]
    assert pool.notes.lines == []


def test_a_split_below_the_classes_is_read(tmp_path):
    names = nested(("normal", "pneumonia"), ("train", "test"))
    pool = opened(tmp_path, names)
    assert columns(pool, "label", "pool_split") == [[n.split("/")[0] for n in names], [n.split("/")[1] for n in names]]
    others = opened(tmp_path / "b", nested(("normal", "pneumonia"), ("train", "more")))
    assert not others.has_split


def test_scans_beside_the_folders_of_classes_are_counted(tmp_path):
    names = ["a.png", "b.png", "normal/c.png", "sick/d.png"]
    pool = opened(tmp_path, names)
    assert columns(pool, "label") == [[None, None, "normal", "sick"]]
    assert "2 scans in no folder of a class" in said(pool)


def test_blanks_around_the_name_of_a_folder_make_no_class(tmp_path):
    pool = opened(tmp_path, [f"{name}/{i}.png" for name in ("normal", "Normal ", "sick") for i in range(3)])
    assert set(*columns(pool, "label")) == {"Normal", "sick"}


@pytest.mark.parametrize("sides", [("te", "tr", "val1"), ("Test-Set", "train_set"), ("prueba", "entrenamiento")])
def test_other_words_for_the_sides_of_a_split(tmp_path, sides):
    names = nested(sides, ("normal", "sick"))
    pool = opened(tmp_path, names)
    words = {"te": "test", "tr": "train", "val1": "val", "Test-Set": "test", "train_set": "train"}
    words |= {"prueba": "test", "entrenamiento": "train"}
    assert columns(pool, "label", "pool_split") == [
        [name.split("/")[1] for name in names],
        [words[name.split("/")[0]] for name in names],
    ]
    assert f"{sides[0]!r} as test" in said(pool)


@pytest.mark.parametrize("stray", ["siteA/stray.png", "stray.png"])
def test_a_stray_scan_above_the_others_does_not_name_the_level(tmp_path, stray):
    names = nested(("siteA", "siteB"), ("normal", "mass"), num=3)
    label = dict(zip(*columns(opened(tmp_path, [*names, stray]), "path", "label"), strict=True))
    assert {path: label[path] for path in names} == {name: name.split("/")[1] for name in names}
    assert label[stray] is None
