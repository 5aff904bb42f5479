import csv
import os
import zlib
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.audit import same_person
from pipeline.audit.checks import patients
from pipeline.contracts import config_file
from pipeline.contracts.tables import MANIFEST
from pipeline.vectors.matrix import Vectors
from tests.support.tiny import FAST, call

NUM_PEOPLE, NUM_VISITS, DIM, SIDE = 150, 2, 32, 48


class Pool:
    """The part of a subject that these checks see; one row for each visit of each person."""

    drawn = False

    def __init__(self, uris, emb_ND, **columns):
        num = len(uris)
        self.uri_N, self.emb_ND = objects(uris), emb_ND
        self.image_id_N = objects(f"{i:016x}" for i in range(num))
        self.sha256_N = objects(f"{i:064x}" for i in range(num))
        self.path_N = objects(f"images/scan{i}.png" for i in range(num))
        self.patient_N = objects(hexed(i // NUM_VISITS) for i in range(num))
        self.source_N = self.sex_N = self.side_N = np.full(num, None, dtype=object)
        self.label_N = objects("sick" if i // NUM_VISITS % 2 else "normal" for i in range(num))
        self.view_N = objects(["PA"] * num)
        self.age_N = np.full(num, np.nan, np.float32)
        self.canonical_N = self.image_id_N
        self.has_emb_N = np.ones(num, np.bool_)
        self.turned_N = np.zeros(num, np.int64)
        self.config = config_file.load(None, {})
        for name, values in columns.items():
            setattr(self, name, np.asarray(values, np.float32) if name == "age_N" else objects(values))

    def __len__(self):
        return len(self.uri_N)

    def rng(self, name):
        return np.random.default_rng(zlib.crc32(name.encode()))

    def embeddings(self, rows):
        return self.emb_ND[rows]

    def evidence(self, rows, note):
        return tuple({"image_id": self.image_id_N[row], "note": text} for row, text in zip(rows, note, strict=True))


def objects(values):
    values = list(values)
    out = np.empty(len(values), dtype=object)
    out[:] = values
    return out


def hexed(number):
    return f"{zlib.crc32(str(number).encode()):08x}{number:08x}"


@pytest.fixture(scope="module")
def crowd(tmp_path_factory):
    """Pictures and embeddings of people who resemble themselves: persons 0, 0, 1, 1, 2, 2..."""
    folder, rng = tmp_path_factory.mktemp("crowd"), np.random.default_rng(5)
    uris, emb = [], []
    for _ in range(NUM_PEOPLE):
        body, traits = rng.normal(size=(12, 12)), rng.normal(size=DIM)
        for _ in range(NUM_VISITS):
            film = Image.fromarray((body + 0.9 * rng.normal(size=(12, 12))).astype(np.float32))
            pixels = 128 + 40 * np.asarray(film.resize((SIDE, SIDE), Image.Resampling.BICUBIC))
            uris.append(str(folder / f"{len(uris)}.png"))
            Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(uris[-1])
            emb.append(traits + 0.9 * rng.normal(size=DIM))
    return uris, np.array(emb, np.float32)


@pytest.fixture(scope="module", autouse=True)
def outlines_once():
    """The outline of a picture is found once for all tests: that takes longer than the rest of a check."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(same_person, "_outline", cache(same_person._outline))
        yield


def person(i):
    return i // NUM_VISITS


def visit(i):
    return i % NUM_VISITS


ROWS = range(NUM_PEOPLE * NUM_VISITS)
LEAKING = range(100, 140)  # people


def leak_sides():
    """All on one side, but the second visit of those who leak."""
    return ["test" if person(i) >= 140 or (person(i) in LEAKING and visit(i)) else "train" for i in ROWS]


def swapped(people=LEAKING):
    """Ids where the second visit of each of these belongs to the next of them: every id holds two people."""
    people = list(people)
    following = dict(zip(people, people[2:] + people[:2], strict=True))  # of the same label
    return [hexed(following.get(person(i), person(i)) if visit(i) else person(i)) for i in ROWS]


def test_people_in_both_splits_block_and_are_not_called_a_naming_collision(crowd):
    found = patients.across_splits(Pool(*crowd, side_N=leak_sides()))
    assert (found.severity, found.count) == ("block", 40)
    assert "40 patients" in found.message and "40 of 60 test scans (66.7%)" in found.message
    assert "one person each" in found.message and "naming" not in found.message
    assert found.value == pytest.approx(40 / 60)
    sides = {row["note"].split()[-1] for row in found.evidence}
    assert sides == {"train", "test"}
    assert found.table.rows[0][0] in {hexed(p)[:8] for p in LEAKING}


def test_numbers_given_twice_are_told_from_people_and_only_warn(crowd):
    found = patients.across_splits(Pool(*crowd, side_N=leak_sides(), patient_N=swapped()))
    assert (found.severity, found.count) == ("warn", 40)
    assert "naming collisions" in found.message and "40 of 60 test scans" in found.message
    assert all(row[3] > 1 for row in found.table.rows)
    collision = patients.id_collision(Pool(*crowd, side_N=leak_sides(), patient_N=swapped()))
    assert collision.severity == "warn" and collision.count >= 36


def test_turned_scans_are_called_turned_and_not_other_people(crowd):
    turned = [90 if person(i) in LEAKING and visit(i) else 0 for i in ROWS]
    accused = patients.id_collision(Pool(*crowd, side_N=leak_sides(), patient_N=swapped()))
    told = patients.id_collision(Pool(*crowd, side_N=leak_sides(), patient_N=swapped(), turned_N=turned))
    assert (accused.severity, told.severity) == ("warn", "ok")
    assert f"{len(LEAKING)} scans are turned ({len(LEAKING)} by 90 degrees)" in told.message


def test_a_leak_is_not_excused_where_the_sides_come_from_two_sources(crowd):
    sides = leak_sides()
    sources = ["b" if side == "test" else "a" for side in sides]
    found = patients.across_splits(Pool(*crowd, side_N=sides, source_N=sources, patient_N=swapped()))
    assert found.severity == "block" and "differ in source or view" in found.message


@pytest.mark.parametrize(("num_other_view", "words"), [(4, "naming collisions"), (5, "differ in source or view")])
def test_nine_of_ten_shared_ids_must_have_pictures_that_compare(crowd, num_other_view, words):
    views = ["AP" if visit(i) and person(i) in LEAKING[:num_other_view] else "PA" for i in ROWS]
    found = patients.across_splits(Pool(*crowd, side_N=leak_sides(), view_N=views, patient_N=swapped()))
    assert (found.severity, found.count) == ("block", 40) and words in found.message


def test_half_of_the_ids_colliding_still_blocks(crowd):
    half = swapped(range(100, 120))
    found = patients.across_splits(Pool(*crowd, side_N=leak_sides(), patient_N=half))
    assert found.severity == "block" and found.count == 40
    people = same_person.look_at(Pool(*crowd, side_N=leak_sides(), patient_N=half))
    judged = people.judge(people.differ(people.subject.side_N), name="half")
    assert judged.low < 0.5 < judged.high and 0.3 < judged.share < 0.7
    one = set(judged.together())
    assert len(one) >= 10 and len(one & {hexed(p) for p in range(100, 120)}) <= 1


def test_most_but_not_nearly_all_colliding_is_said_and_still_blocks(crowd):
    found = patients.across_splits(Pool(*crowd, side_N=leak_sides(), patient_N=swapped(range(100, 130))))
    assert found.severity == "block" and "naming collisions" in found.message


def test_pictures_that_tell_nothing_leave_the_block(crowd):
    uris, emb_ND = crowd
    order = np.random.default_rng(0).permutation(len(uris))
    found = patients.across_splits(Pool([uris[i] for i in order], emb_ND[order], side_N=leak_sides()))
    assert found.severity == "block" and "cannot tell" in found.message and "naming" not in found.message


def test_validation_alone_warns(crowd):
    sides = [
        "val" if person(i) == 3 and visit(i) else side.replace("test", "train") for i, side in enumerate(leak_sides())
    ]
    found = patients.across_splits(Pool(*crowd, side_N=sides))
    assert (found.severity, found.count) == ("warn", 1)
    assert {row["note"] for row in found.evidence} == {f"patient {hexed(3)[:8]} in {side}" for side in ("train", "val")}


def test_training_with_test_is_counted_apart_from_validation_with_test(crowd):
    sides = ["val" if person(i) in (LEAKING[0], LEAKING[1]) and s == "train" else s for i, s in enumerate(leak_sides())]
    found = patients.across_splits(Pool(*crowd, side_N=sides))
    assert found.message.startswith(
        "38 patients are in training and in test; 2 more are in validation and in test, not in training: "
    )
    sides = ["val" if side == "train" else side for side in leak_sides()]
    found = patients.across_splits(Pool(*crowd, side_N=sides))
    assert found.message.startswith("40 patients are in validation and in test, not in training: ")


@pytest.mark.parametrize("lacking", ["patient_N", "side_N"])
def test_what_is_not_known_is_not_checked(crowd, lacking):
    nothing = {lacking: [None] * len(ROWS)}
    found = patients.across_splits(Pool(*crowd, **{"side_N": leak_sides()} | nothing))
    assert found.severity == "ok" and not found.checked and "Not checked" in found.message
    if lacking == "patient_N":
        assert not patients.id_collision(Pool(*crowd, **nothing)).checked


def test_unknown_patients_are_counted_beside_the_known(crowd):
    known = [None if person(i) < 10 else hexed(person(i)) for i in ROWS]
    found = patients.across_splits(Pool(*crowd, side_N=leak_sides(), patient_N=known))
    assert found.count == 40 and "20 scans of unknown patient" in found.message


def test_a_clean_pool_is_quiet(crowd):
    sides = ["test" if person(i) < 40 else "train" for i in ROWS]
    quiet = patients.check(Pool(*crowd, side_N=sides, sex_N=["FM"[person(i) % 2] for i in ROWS]))
    assert [check.severity for check in quiet] == ["ok", "ok"] and all(check.checked for check in quiet)
    assert quiet[1].message == "No patient id is seen to hold several people."
    assert patients.check(Pool(*crowd, side_N=sides)) == patients.check(Pool(*crowd, side_N=sides))


def test_sex_and_age_under_one_id(crowd):
    sexes = ["M" if person(i) != 7 or visit(i) else "F" for i in ROWS]
    ages = [30 + 16 * visit(i) * (person(i) == 8) + 14 * visit(i) * (person(i) == 9) for i in ROWS]
    found = patients.id_collision(Pool(*crowd, sex_N=sexes, age_N=ages))
    assert (found.severity, found.count) == ("warn", 2)
    assert "two sexes 1" in found.message and "ages far apart 1" in found.message
    assert {row[0] for row in found.table.rows} == {hexed(7)[:8], hexed(8)[:8]}
    assert {row["image_id"] for row in found.evidence} == {f"{i:016x}" for i in (14, 15, 16, 17)}


def test_a_second_source_is_a_collision_unless_the_pictures_agree(crowd):
    sources = ["b" if person(i) in LEAKING and visit(i) else "a" for i in ROWS]
    one_each = patients.id_collision(Pool(*crowd, source_N=sources))
    two_each = patients.id_collision(Pool(*crowd, source_N=sources, patient_N=swapped()))
    assert one_each.count <= 4 and "look like one person each" in one_each.message
    assert two_each.severity == "warn" and two_each.count >= 38


def test_two_manners_of_naming_that_share_numbers(crowd):
    paths = [f"virus/{person(i)}.png" if person(i) in LEAKING and visit(i) else f"images/{i}.png" for i in ROWS]
    found = patients.id_collision(Pool(*crowd, path_N=paths, patient_N=swapped()))
    assert (
        found.severity == "warn"
        and found.count >= 36
        and "across files images/#.png and virus/#.png, " in found.message
    )
    assert {row["note"].split()[1].rstrip(":") for row in found.evidence} <= {hexed(p)[:8] for p in LEAKING}
    assert patients.id_collision(Pool(*crowd, path_N=paths)).severity == "ok"


def test_a_copy_filed_under_two_ids_accuses_neither(crowd):
    columns = {"sex_N": ["F" if i == 5 else "M" for i in ROWS], "source_N": ["b" if i == 5 else "a" for i in ROWS]}
    copied = [f"{200 if i == 5 else i:016x}" for i in ROWS]
    assert patients.id_collision(Pool(*crowd, **columns)).severity == "warn"
    assert patients.id_collision(Pool(*crowd, **columns, canonical_N=copied)).severity == "ok"


def test_a_handful_of_patients_is_judged_by_what_is_known_alone(crowd):
    uris, emb_ND = crowd
    few = Pool(uris[:20], emb_ND[:20])
    assert same_person.look_at(few) is None
    found = patients.id_collision(few)
    assert found.severity == "ok" and "Too few patients" in found.message
    few.side_N = objects(["train", "test"] * 10)
    blocked = patients.across_splits(few)
    assert blocked.severity == "block" and "cannot tell" in blocked.message


def test_a_picture_that_is_gone_is_no_error(crowd):
    uris = [*crowd[0][:-1], str(Path(crowd[0][-1]).with_name("gone.png"))]
    assert patients.across_splits(Pool(uris, crowd[1], side_N=leak_sides())).severity == "block"


@pytest.mark.real
@pytest.mark.slow  # the full network sees three hundred scans; the tests above plant such collisions
def test_numbers_that_two_series_share(tmp_path):
    """Kermany numbers its bacterial and its viral patients each from 1 on: one number, two children."""
    folder = Path(os.environ["CXR_SSL_DATA"]) / "kermany"
    with (folder / "manifest.csv").open(newline="", encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if row["subtype"] != "normal"]
    number = [int(row["patient_id"].removeprefix("person").split("-")[0]) for row in rows]
    rows = [row for row, n in zip(rows, number, strict=True) if n < 110]
    with (tmp_path / "manifest.csv").open("w", newline="", encoding="utf-8") as stream:
        table = csv.DictWriter(stream, ["image_path", "patient_id", "official_split", "label"], extrasaction="ignore")
        table.writeheader()
        table.writerows(row | {"image_path": folder / row["image_path"]} for row in rows)
    assert call("embed", tmp_path / "manifest.csv", "--out", tmp_path / "run", *FAST[:2]).code == 0
    scans, vectors = MANIFEST.read(tmp_path / "run").to_pydict(), Vectors.open(tmp_path / "run")
    given = {str(folder / row["image_path"]): row for row in rows}
    mine = [given[uri] for uri in scans["uri"]]
    emb_ND = vectors.own_ND[vectors.positions(scans["image_id"])].astype(np.float32)
    # Both series get a side: bacterial patients are trained on, viral ones tested on.
    columns = {
        "path_N": [row["image_path"] for row in mine],
        "label_N": [row["label"] for row in mine],
        "side_N": ["train" if row["subtype"] == "bacterial" else "test" for row in mine],
    }
    as_given = Pool(scans["uri"], emb_ND, **columns, patient_N=[row["patient_id"] for row in mine])
    assert patients.across_splits(as_given).severity == "ok"
    assert patients.id_collision(as_given).severity == "ok"
    by_number = Pool(scans["uri"], emb_ND, **columns, patient_N=[row["patient_id"].split("-")[0] for row in mine])
    found = patients.across_splits(by_number)
    shared = {row["patient_id"].split("-")[0] for row in mine if row["subtype"] == "bacterial"}
    shared &= {row["patient_id"].split("-")[0] for row in mine if row["subtype"] == "viral"}
    assert found.count == len(shared) > 50
    assert found.severity == "warn" and "naming collisions" in found.message
