"""Pictures that are no upright chest X-ray, beside phantoms that are."""

import hashlib
import math
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from pipeline.audit import picture_facts
from pipeline.audit.checks import not_chest
from tests.support.audit_pools import many, subject

SIDE = 96


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """Files of forty frontal phantoms."""
    from pipeline.contracts.options.scans import PoolConfig
    from pipeline.pool.sources import open_pool

    folder = tmp_path_factory.mktemp("phantoms")
    pool = open_pool(PoolConfig(uri=f"phantom:num_patients=60,size_px={SIDE}"), folder)
    views = zip(pool.scans["uri"].to_pylist(), pool.scans["view"].to_pylist(), strict=True)
    return [uri for uri, view in views if view in ("PA", "AP")][:40]


def shard(uris):
    hashes = tuple(hashlib.sha256(str(uri).encode()).hexdigest() for uri in uris)
    return picture_facts.Shard(hashes, tuple(uris), 10**8)


def told(films, changed):
    """What is said of the changed pictures, and how many of the others are accused."""
    fact_RF, grid_RX = picture_facts.look(shard((*films, *changed)))
    reason_R = not_chest.reasons(fact_RF, grid_RX, np.zeros(len(fact_RF), np.bool_))
    return list(reason_R[len(films) :]), sum(reason is not None for reason in reason_R[: len(films)])


def saved(folder, name, pixels):
    path = folder / f"{name}.png"
    Image.fromarray(pixels).save(path)
    return str(path)


def shapes():
    picture = np.full((SIDE, SIDE), 40, np.uint8)
    picture[20:50, 20:50], picture[60:80, 10:80] = 200, 120
    return picture


def photograph(rng):
    """Smooth patches of colour."""
    coarse = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def test_what_is_no_radiograph_is_named_for_what_it_is(films, tmp_path):
    rng = np.random.default_rng(0)
    pictures = {
        "noise": rng.integers(0, 256, (SIDE, SIDE), dtype=np.uint8),
        "almost blank": (128 + rng.normal(0, 2, (SIDE, SIDE))).astype(np.uint8),
        "of few grey levels, as a drawing": shapes(),
        "in colour": photograph(rng),
        "long and thin": np.tile((np.arange(6000) % 256).astype(np.uint8), (1, 1)),
    }
    reasons, num_accused = told(films, [saved(tmp_path, f"p{i}", p) for i, p in enumerate(pictures.values())])
    assert reasons == list(pictures) and num_accused == 0


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_turned_films_are_called_turned(degrees, films, tmp_path):
    turned = []
    for i, uri in enumerate(films[:5]):
        with Image.open(uri) as image:
            turned.append(saved(tmp_path, f"t{i}", np.asarray(image.convert("L").rotate(-degrees, expand=True))))
    reasons, num_accused = told(films, turned)
    assert reasons.count(f"turned by {degrees} degrees") >= 4 and num_accused == 0


def test_negatives_are_called_inverted(films, tmp_path):
    uris = []
    for i, uri in enumerate(films[:5]):
        with Image.open(uri) as image:
            uris.append(saved(tmp_path, f"n{i}", 255 - np.asarray(image.convert("L"))))
    reasons, num_accused = told(films, uris)
    assert reasons == ["inverted against the others"] * 5 and num_accused == 0


def test_a_chest_in_a_white_frame_or_beside_an_arm_lies_as_it_should(films, tmp_path):
    uris = []
    for i, uri in enumerate(films[:4]):
        with Image.open(uri) as image:
            framed = Image.new("L", (SIDE * 4 // 3, SIDE * 3 // 2), 255)
            framed.paste(image.convert("L"), (SIDE // 6, SIDE // 4))
            beside = image.convert("L").crop((-SIDE // 10, 0, SIDE * 9 // 10, SIDE))
        uris += [saved(tmp_path, f"f{i}", np.asarray(framed)), saved(tmp_path, f"b{i}", np.asarray(beside))]
    reasons, num_accused = told(films, uris)
    assert reasons == [None] * 8 and num_accused == 0


def test_another_part_of_the_body_is_unlike_all_the_others(films, tmp_path):
    """A long bone across the picture."""
    y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    rng = np.random.default_rng(0)
    uris = []
    for i in range(3):
        bone = np.exp(-(((x - y - 0.1 * i) / 0.25) ** 2)) + 0.6 * np.exp(-(((x - y) / 0.7) ** 2))
        grey = 40 + 110 * bone + rng.normal(0, 4, bone.shape)
        uris.append(saved(tmp_path, f"bone{i}", np.clip(grey, 0, 255).astype(np.uint8)))
    reasons, num_accused = told(films, uris)
    assert reasons == ["unlike all the others"] * 3 and num_accused == 0


def test_pictures_that_share_nothing_are_not_called_turned(tmp_path):
    uris = []
    for i in range(30):
        rng = np.random.default_rng(i)
        rough = Image.fromarray(rng.integers(0, 256, (6, 6), np.uint8)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        uris.append(saved(tmp_path, f"blot{i}", np.asarray(rough)))
    fact_RF, grid_RX = picture_facts.look(shard(uris))
    reasons = not_chest.reasons(fact_RF, grid_RX, np.zeros(len(fact_RF), np.bool_))
    assert not [reason for reason in reasons if reason and ("turned" in reason or "inverted" in reason)]


@pytest.mark.parametrize(("patients", "severity"), [(("p1", "p1"), "ok"), (("p1", "p2"), "warn")])
def test_mirrored_scans_are_told_of_two_people_or_more(patients, severity, films, tmp_path, monkeypatch):
    mirrored = np.full(len(films), None, dtype=object)
    mirrored[[1, 2]] = not_chest.MIRROR
    monkeypatch.setattr(not_chest, "reasons", lambda *_: mirrored.copy())
    one = pool(tmp_path, films)
    one = replace(one, group_N=np.array(["p0", *patients, *(f"q{i}" for i in range(len(films) - 3))], dtype=object))
    check = not_chest.check(one)
    assert check.severity == severity and ("2 mirrored against the others" in check.message) is (severity == "warn")


def test_a_lateral_view_is_not_held_against_a_frontal_chest(films, tmp_path):
    with Image.open(films[0]) as image:
        uri = saved(tmp_path, "lateral", np.asarray(image.convert("L").rotate(90)))
    fact_RF, grid_RX = picture_facts.look(shard((*films, uri)))
    is_lateral_R = np.arange(len(fact_RF)) == len(films)
    assert not_chest.reasons(fact_RF, grid_RX, is_lateral_R)[-1] is None
    assert not_chest.reasons(fact_RF, grid_RX, np.zeros(len(fact_RF), np.bool_))[-1] is not None


def pool(folder, uris, **options):
    """A subject whose scans are these files; `view` PA."""
    one = subject(folder, many(len(uris)), **options)
    place = one.scans.schema.get_field_index("uri")
    return replace(one, scans=one.scans.set_column(place, "uri", pa.array(uris)))


def test_the_check_warns_above_its_threshold_and_shows_the_pictures(films, tmp_path):
    uris = [
        *films[:39],
        saved(tmp_path, "noise", np.random.default_rng(0).integers(0, 256, (SIDE, SIDE), dtype=np.uint8)),
    ]
    for limit, severity in ((0.0, "warn"), (0.024, "warn"), (0.025, "ok")):
        check = not_chest.check(pool(tmp_path / str(limit), uris, **{"audit.warn_not_chest_share": limit}))
        assert (check.severity, check.count, check.value) == (severity, 1, 1 / 40)
        assert check.evidence == ({"image_id": f"{39:016x}", "note": "noise"},)


def test_as_many_pictures_are_looked_at_as_the_option_says(films, tmp_path):
    check = not_chest.check(pool(tmp_path / "ten", films, **{"audit.max_pictures": 10}))
    assert "All 10 scans" in check.message and "30 scans were not looked at" in check.message
    assert not not_chest.check(pool(tmp_path / "none", films, **{"audit.max_pictures": 0})).checked


def test_scans_are_read_once_and_a_damaged_file_is_made_again(films, tmp_path, monkeypatch, caplog):
    from pipeline.runtime import run_files

    one = pool(tmp_path, films)
    first = picture_facts.measure(one.ctx, one.scans)
    monkeypatch.setattr(picture_facts, "look", lambda shard: pytest.fail("a scan was read again"))
    again = picture_facts.measure(one.ctx, one.scans)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    monkeypatch.undo()
    (tmp_path / run_files.AUDIT_PICTURES).write_bytes(b"PAR1 torn")
    made = picture_facts.measure(one.ctx, one.scans)
    assert all(np.array_equal(a, b) for a, b in zip(first, made, strict=True)) and "made again" in caplog.text


def test_a_strip_is_long_and_thin_before_it_is_anything_else(films, tmp_path):
    strip = np.random.default_rng(0).integers(0, 256, (1, 6000), dtype=np.uint8)
    assert told(films, [saved(tmp_path, "strip", strip)]) == (["long and thin"], 0)


def test_where_the_pool_has_no_side_in_common_nobody_is_mirrored():
    y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    lungs = 0.6 - 0.4 * np.exp(-(((abs(x) - 0.4) / 0.25) ** 2) - (y / 0.6) ** 2)  # the same on both sides
    rng = np.random.default_rng(0)
    grids = []
    for _ in range(60):
        spots = rng.uniform(-0.8, 0.8, (20, 2))
        own = sum(0.15 * np.exp(-(((x - at) ** 2 + (y - height) ** 2) / 0.01)) for at, height in spots)
        grids.append(picture_facts.grid((lungs + own).astype(np.float32)))
    assert not not_chest._mirrored(np.stack(grids)).any()
    assert ((np.stack(grids) @ np.stack(grids).T) > 0.3).mean() > 0.5  # they are of one kind all the same


def test_an_opaque_lung_is_no_heart_on_the_other_side_but_a_mirrored_chest_has_one():
    y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    rng = np.random.default_rng(0)

    def chest(veil):
        lungs = 0.6 - 0.4 * np.exp(-(((abs(x) - 0.4) / 0.25) ** 2) - (y / 0.6) ** 2)
        heart = 0.25 * np.exp(-(((x - 0.15) / 0.15) ** 2) - ((y - 0.25) / 0.25) ** 2)
        own = sum(
            0.03 * np.exp(-(((x - at) ** 2 + (y - to) ** 2) / 0.02)) for at, to in rng.uniform(-0.8, 0.8, (20, 2))
        )
        side = np.exp(-(((x + 0.45) / 0.3) ** 2) - (y / 0.6) ** 2) - np.exp(-(((x - 0.45) / 0.3) ** 2) - (y / 0.6) ** 2)
        return lungs + heart + own + veil * side

    veils = np.concatenate([rng.normal(0, 0.06, 200), np.full(6, 0.25)])  # a lung is a little whiter; the last: opaque
    grid_RX = np.stack([picture_facts.grid(chest(veil).astype(np.float32)) for veil in veils])
    assert not not_chest._mirrored(grid_RX).any()
    side = math.isqrt(grid_RX.shape[1])
    grid_RX[:6] = grid_RX[:6].reshape(-1, side, side)[:, :, ::-1].reshape(6, -1)
    assert not_chest._mirrored(grid_RX)[:6].sum() >= 4 and not not_chest._mirrored(grid_RX)[6:].any()


def test_one_picture_many_times_is_not_mirrored_against_itself():
    grid_X = picture_facts.grid(np.random.default_rng(0).random((SIDE, SIDE)).astype(np.float32))
    assert not not_chest._mirrored(np.stack([grid_X] * 30)).any()
    assert not not_chest._mirrored(np.stack([grid_X * 0] * 30)).any()


def test_more_people_must_look_mirrored_where_more_scans_are_looked_at():
    needed = [not_chest.fewest_mirrored_people(num_scans) for num_scans in (20, 100, 300, 1000, 10_000)]
    assert needed == sorted(needed) and needed[0] == 2 and needed[-1] > 10_000 * not_chest.MIRRORED_BY_CHANCE


@pytest.mark.parametrize(("remote", "accused"), [("sheet", ["sheet"]), ("film", []), (None, [])])
def test_a_picture_far_from_all_others_must_be_more_like_them(remote, accused, films, tmp_path):
    """A sheet of small pictures on black is much like a chest at the size of a thumbnail."""
    y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    small = 20 + 150 * ((np.sin(9 * x) * np.sin(9 * y) > 0.2) & (np.maximum(abs(x), abs(y)) < 0.9))
    with Image.open(films[0]) as image:
        sheet = 0.3 * np.asarray(image.convert("L")) + 0.7 * small
    uris = [*films, saved(tmp_path, "sheet", sheet.astype(np.uint8))]
    emb_ND = np.random.default_rng(0).normal(size=(len(uris), 40)).astype(np.float32)
    if remote is not None:
        emb_ND[-1 if remote == "sheet" else 0, 20:] += 25
    check = not_chest.check(pool(tmp_path / "pool", uris, emb_ND=emb_ND))
    assert [row["note"] for row in check.evidence] == ["unlike all the others"] * len(accused)
    assert [int(row["image_id"], 16) for row in check.evidence] == [len(films)] * len(accused)
