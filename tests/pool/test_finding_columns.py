import csv
import io
import itertools
import logging
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.contracts import finding_line
from pipeline.contracts.errors import InputError
from pipeline.contracts.options.scans import PoolConfig
from pipeline.pool import sources
from pipeline.pool.finding_columns import SIGNS

FINDINGS = ("mass", "effusion", "nodule")
WORDS = {sign: [word for word, meant in SIGNS.items() if meant == sign] for sign in "10?"} | {"": ["", "NA", " "]}
LISTS = "image_path,label\na.png,Effusion|Mass\nb.png,No Finding\nc.png,\nd.png,effusion|?mass\n"
COLUMNS = "image_path,effusion,mass,age\na.png,1.0,0,30\nb.png,-1,,41\nc.png,,,52\nd.png,no,TRUE,63\n"


def opened(tmp_path, text, name="manifest.csv", **options):
    path = tmp_path / name
    if isinstance(text, pa.Table):
        pq.write_table(text, path)
    else:
        path.write_text(text, "utf-8")
    return sources.open_pool(
        PoolConfig(**{"uri": str(path), "findings_are": "independent"} | options), tmp_path / "cache"
    )


def labels(tmp_path, text, **options):
    return opened(tmp_path, text, **options).scans["label"].to_pylist()


def refused(tmp_path, text, **options):
    with pytest.raises(InputError) as caught:
        opened(tmp_path, text, **options)
    return str(caught.value)


# --- both forms, whatever the rows --------------------------------------------------------------

VALUES = st.lists(st.tuples(*[st.sampled_from(["1", "0", "?", ""])] * len(FINDINGS)), min_size=1, max_size=12)
quick = settings(max_examples=60, deadline=None, derandomize=True)


def lines_of(rows):
    """What the rows say, and null where that is nothing."""
    found = []
    for row in rows:
        values = {name: float(sign) for name, sign in zip(FINDINGS, row, strict=True) if sign in ("0", "1")}
        found.append(finding_line.write(values, FINDINGS) if values else None)
    return found


def table_of(header, rows):
    text = io.StringIO()
    csv.writer(text).writerows([header, *rows])
    return text.getvalue()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("manifests")


@quick
@given(VALUES, st.randoms(use_true_random=False), st.permutations(FINDINGS))
def test_one_line_a_row_from_a_column_per_finding(place, rows, random, order):
    def cell(sign):
        word = random.choice(WORDS[sign])
        return word.upper() if random.random() < 0.3 else word

    cells = [{name: cell(sign) for name, sign in zip(FINDINGS, row, strict=True)} for row in rows]
    text = table_of(["image_path", *order], [[f"{i}.png", *(row[n] for n in order)] for i, row in enumerate(cells)])
    assert labels(place, text, findings=FINDINGS) == lines_of(rows)
    for i, finding in enumerate(FINDINGS):
        asked = [{"1": finding, "0": f"no {finding}"}.get(row[i]) for row in rows]
        assert labels(place, text, finding=finding) == asked
        assert labels(place, text, finding=finding, findings=FINDINGS) == asked


@quick
@given(VALUES, st.randoms(use_true_random=False))
def test_one_line_a_row_from_lists(place, rows, random):
    def cell(row):
        named = [
            ("?" if sign != "1" else "") + random.choice([name, name.upper(), name.title()])
            for name, sign in zip(FINDINGS, row, strict=True)
            if sign != "0"
        ]
        random.shuffle(named)
        return "|".join(named) or "No Finding"

    text = table_of(["image_path", "label"], [[f"{i}.png", cell(row)] for i, row in enumerate(rows)])
    assert labels(place, text, findings=FINDINGS) == lines_of(rows)
    asked = [{"1": "mass", "0": "no mass"}.get(row[0]) for row in rows]
    assert labels(place, text, findings=FINDINGS, finding="mass") == asked


def test_every_combination_of_many_findings_keeps_its_row(tmp_path):
    names = [f"finding {i:02d}" for i in range(60)]
    rng = np.random.default_rng(0)
    signs_NC = rng.choice(["1", "0", "-1", ""], (500, len(names)))
    text = table_of(["image_path", *names], [[f"{i}.png", *row] for i, row in enumerate(signs_NC.tolist())])
    found = labels(tmp_path, text, findings=tuple(names))
    for line, row in zip(found, signs_NC.tolist(), strict=True):
        known = {name: float(sign) for name, sign in zip(names, row, strict=True) if sign in ("0", "1")}
        assert line == finding_line.write(known, names)


# --- lists ------------------------------------------------------------------------------------


def test_the_labels_name_the_findings_unless_the_configuration_does(tmp_path):
    assert labels(tmp_path, LISTS) == ["Effusion=1|Mass=1", "Effusion=0|Mass=0", None, "Effusion=1|Mass=?"]
    assert labels(tmp_path, LISTS, findings=("mass", "effusion", "hernia")) == [
        "mass=1|effusion=1|hernia=0",
        "mass=0|effusion=0|hernia=0",
        None,
        "mass=?|effusion=1|hernia=0",
    ]


def test_a_finding_that_is_asked_for_is_found_whatever_its_case(tmp_path):
    assert labels(tmp_path, LISTS, finding="mass") == ["mass", "no mass", None, None]


def test_a_finding_that_no_label_names_is_not_taken_as_absent(tmp_path):
    assert "no label names 'hernia'" in refused(tmp_path, LISTS, finding="hernia")
    asked = {"finding": "hernia", "findings": ("effusion", "mass", "hernia")}
    assert labels(tmp_path, LISTS, **asked) == ["no hernia", "no hernia", None, "no hernia"]


def test_full_lines_are_understood_and_unknown_scans_have_none(tmp_path):
    text = "image_path,label\na.png,mass=1|effusion=?\nb.png,effusion=?|mass=?\nc.png,unknown\nd.png,mass=0\n"
    assert labels(tmp_path, text) == ["effusion=?|mass=1", None, None, "effusion=?|mass=0"]


@pytest.mark.parametrize(
    ("row", "options", "words"),
    [
        ("e.png,No Finding|Mass", {}, ["'No Finding|Mass' is no list of findings", "(lines 6)"]),
        ("e.png,bad quality", {}, ["'bad quality' is no list of findings"]),
        ("e.png,Mass=1|Effusion", {}, ["'Mass=1|Effusion' is no list of findings"]),
    ],
)
def test_labels_that_cannot_be_understood_are_shown_with_their_lines(tmp_path, row, options, words):
    message = refused(tmp_path, f"{LISTS}{row}\n", **options)
    for word in [*words, str(tmp_path / "manifest.csv")]:
        assert word in message


def test_findings_that_nobody_asked_for_are_left_out_and_said(tmp_path, caplog):
    """ChestX-ray14 names fourteen; who asks for two of them needs not name the others."""
    text = "image_path,label\na.png,Hernia|Mass\nb.png,Hernia\nc.png,?Hernia|Effusion\nd.png,No Finding\ne.png,\n"
    with caplog.at_level("WARNING"):
        found = labels(tmp_path, text, findings=("Effusion", "Mass"))
    assert found == ["Effusion=0|Mass=1", "Effusion=0|Mass=0", "Effusion=1|Mass=0", "Effusion=0|Mass=0", None]
    said = [record.message.partition(": ")[2] for record in caplog.records]
    assert said == ["the labels name 'Hernia', which pool.findings leaves out"]


def test_a_full_line_is_silent_on_findings_it_does_not_name(tmp_path):
    text = "image_path,label\na.png,hernia=1\nb.png,effusion=1|hernia=0\nc.png,mass=0|effusion=0\n"
    found = labels(tmp_path, text, findings=("effusion", "mass"))
    assert found == [None, "effusion=1|mass=?", "effusion=0|mass=0"]


def test_a_misspelt_finding_is_not_taken_for_an_absent_one(tmp_path):
    message = refused(tmp_path, "image_path,label\na.png,Effusion|Mass\n", findings=("Efusion", "Mass"))
    assert "Efusion" in message and "Did you mean 'Effusion'?" in message


def test_labels_without_a_single_finding_name_none(tmp_path):
    text = "image_path,label\na.png,No Finding\nb.png,normal\n"
    assert "the labels name no finding" in refused(tmp_path, text)
    assert labels(tmp_path, text, findings=("mass",)) == ["mass=0", "mass=0"]


# --- a column per finding -----------------------------------------------------------------------


def test_columns_of_findings_and_how_many_values_are_uncertain(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        found = labels(tmp_path, COLUMNS, findings=("effusion", "mass"))
    assert found == ["effusion=1|mass=0", None, None, "effusion=0|mass=1"]
    assert "1 values of 'effusion', 'mass' are uncertain" in caplog.text


def test_columns_are_mapped_and_found_whatever_their_case(tmp_path):
    text = COLUMNS.replace("effusion", "Pleural Effusion").replace("mass", "Mass")
    options = {"findings": ("effusion", "mass"), "columns": {"effusion": "Pleural Effusion"}}
    assert labels(tmp_path, text, **options)[0] == "effusion=1|mass=0"


def test_parquet_numbers_and_truth_values(tmp_path):
    table = pa.table(
        {
            "image_path": ["a.png", "b.png", "c.png"],
            "effusion": [1.0, -1.0, math.nan],
            "mass": [True, False, None],
            "nodule": pa.array([0, 1, None], pa.int8()),
        }
    )
    found = opened(tmp_path, table, "m.parquet", findings=FINDINGS).scans["label"].to_pylist()
    assert found == ["mass=1|effusion=1|nodule=0", "mass=0|effusion=?|nodule=1", None]


def test_one_question_needs_one_column(tmp_path):
    assert labels(tmp_path, COLUMNS, finding="mass") == ["no mass", None, None, "mass"]


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        (COLUMNS, {}, ["columns look like findings ('effusion', 'mass')", "pool.findings=[effusion, mass]"]),
        (
            COLUMNS.replace("effusion", "Pleural Effusion"),
            {"findings": ("effusion", "mass")},
            ["no column for the findings 'effusion'", "did you mean pool.columns={effusion: Pleural Effusion}?"],
        ),
        (
            COLUMNS.replace("effusion", "Pleural Effusion"),
            {"finding": "effusion"},
            ["no column for the findings 'effusion'", "Pleural Effusion"],
        ),
        (COLUMNS, {"findings": ("mass", "hernia", "edema")}, ["no column for the findings 'hernia', 'edema'"]),
        (
            COLUMNS,
            {"findings": ("mass", "effusion"), "columns": {"effusion": "efusion"}},
            ["no column for the findings 'efusion'", "{effusion: effusion}"],
        ),
        (
            LISTS,
            {"findings": ("mass", "effusion"), "columns": {"effusion": "Pleural Effusion"}},
            ["no column for the findings", "'Pleural Effusion'"],
        ),
        (f"{COLUMNS}e.png,0.7,1,1\n", {"findings": ("effusion", "mass")}, ["'effusion' says '0.7' (lines 6)"]),
        (COLUMNS, {"findings": ("mass", "a|b")}, ["a finding may not hold", "'a|b'"]),
    ],
)
def test_columns_that_do_not_fit_are_explained(tmp_path, text, options, words):
    message = refused(tmp_path, text, **options).casefold()
    for word in words:
        assert word.casefold() in message


# --- both forms, or neither ---------------------------------------------------------------------


def test_columns_win_over_lists_when_all_are_there(tmp_path, caplog):
    text = "image_path,label,effusion,mass\na.png,effusion,0,1\n"
    with caplog.at_level(logging.INFO):
        assert labels(tmp_path, text, findings=("effusion", "mass")) == ["effusion=0|mass=1"]
    assert "the column 'label' is skipped" in caplog.text
    caplog.clear()
    assert labels(tmp_path, text, findings=("effusion", "mass", "nodule")) == ["effusion=1|mass=0|nodule=0"]
    assert "no column for 'nodule'" in caplog.text


def test_columns_win_even_where_the_lists_would_be_refused(tmp_path):
    text = "image_path,label,effusion\na.png,hernia,1\n"
    assert labels(tmp_path, text, findings=("effusion",)) == ["effusion=1"]


def test_a_manifest_may_hold_no_labels_at_all(tmp_path, caplog):
    # A near name whose values are no signs of presence, and one that has no values.
    text = "image_path,mAs,masses\na.png,3.5,\nb.png,4.1,\n"
    assert labels(tmp_path, text, findings=("mass", "effusion")) == [None, None]
    assert "all scans count as unlabelled" in caplog.text
    assert labels(tmp_path, "image_path\na.png\n") == [None]


def test_folders_of_classes_cannot_say_it(tmp_path):
    for path in ("p/mass/a.png", "p/effusion/b.png"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    config = PoolConfig(uri=str(tmp_path / "p"), findings_are="independent")
    with pytest.raises(InputError, match=r"folders of classes \(effusion, mass\).*Write a manifest"):
        sources.open_pool(config, tmp_path)
    flat = config.model_copy(update={"uri": str(tmp_path / "p" / "mass")})
    assert sources.open_pool(flat, tmp_path).scans["label"].to_pylist() == [None]


def test_classes_that_look_like_lists_are_warned_of_once(tmp_path, caplog):
    assert labels(tmp_path, LISTS, findings_are="exclusive") == ["Effusion|Mass", "No Finding", None, "effusion|?mass"]
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "2 labels hold '|'" in warning
    assert "pool.findings_are: independent" in warning
    caplog.clear()
    meant = {"findings_are": "exclusive", "findings": ("Effusion|Mass", "No Finding", "effusion|?mass")}
    labels(tmp_path, LISTS, **meant)
    assert caplog.text == ""


# --- pools that name their findings ---------------------------------------------------------------


@pytest.fixture
def chestmnist(tmp_path, monkeypatch):
    labels_NC = np.array(list(itertools.product([0, 1], repeat=3)), np.uint8)
    labels_NC = np.pad(labels_NC, ((0, 0), (0, 11)))
    images = np.random.default_rng(0).integers(0, 256, (8, 28, 28), dtype=np.uint8)
    parts = {"train": slice(0, 5), "val": slice(5, 6), "test": slice(6, 8)}
    arrays = {f"{k}_images": images[v] for k, v in parts.items()} | {
        f"{k}_labels": labels_NC[v] for k, v in parts.items()
    }
    monkeypatch.delenv("CXR_SSL_DATA", raising=False)
    monkeypatch.setenv("CXR_SSL_MEDMNIST", str(tmp_path))
    np.savez(tmp_path / "chestmnist.npz", **arrays)
    return labels_NC


def test_medmnist_of_several_findings(tmp_path, chestmnist):
    config = PoolConfig(uri="medmnist:chestmnist", findings_are="independent")
    found = [finding_line.read(line) for line in sources.open_pool(config, tmp_path / "c").scans["label"].to_pylist()]
    assert list(found[0])[:3] == ["atelectasis", "cardiomegaly", "effusion"]
    np.testing.assert_array_equal([list(row.values()) for row in found], chestmnist)
    some = config.model_copy(update={"findings": ("effusion", "atelectasis")})
    assert sources.open_pool(some, tmp_path / "c").scans["label"].to_pylist()[1] == "effusion=1|atelectasis=0"


def test_medmnist_of_several_findings_has_no_classes(tmp_path, chestmnist):
    with pytest.raises(InputError, match=r"several findings at once.*Set pool\.findings_are: independent"):
        sources.open_pool(PoolConfig(uri="medmnist:chestmnist"), tmp_path / "c")


def test_phantoms_with_several_findings(tmp_path):
    uri = "phantom:num_patients=12,size_px=64,findings=independent,unknown_share=0.3"
    config = PoolConfig(uri=uri, findings_are="independent")
    found = sources.open_pool(config, tmp_path / "c").scans["label"].drop_null().to_pylist()
    assert {tuple(finding_line.read(line)) for line in found} == {("pneumonia", "effusion", "nodule")}
    assert {value for line in found for value in str(line) if value in "01?"} == {"0", "1", "?"}
    one = config.model_copy(update={"finding": "nodule"})
    assert set(sources.open_pool(one, tmp_path / "c").scans["label"].to_pylist()) == {"nodule", "no nodule", None}
    with pytest.raises(InputError, match=r"Set pool\.findings_are: independent.*pneumonia, effusion, nodule"):
        sources.open_pool(PoolConfig(uri=uri), tmp_path / "c")


def of(*labels):
    """A table of lists, one a scan."""
    return "image_path,label\n" + "".join(
        f'{i}.png,"{label.replace(chr(34), 2 * chr(34))}"\n' for i, label in enumerate(labels)
    )


@pytest.mark.parametrize(
    "label",
    [
        "Effusion\nMass",
        "Effusion;Mass;",
        " | Effusion | Mass",
        "array(['Effusion', 'Mass'], dtype=object)",
        "{'Mass', 'Effusion'}",
    ],
)
def test_lists_as_other_programs_write_them(tmp_path, label):
    assert labels(tmp_path, of(label, "Mass", "No finding;")) == [
        "Effusion=1|Mass=1",
        "Effusion=0|Mass=1",
        "Effusion=0|Mass=0",
    ]


@pytest.mark.parametrize(
    ("label", "meant"),
    [('{"Mass": 1, "Effusion": 0}', "Effusion=0|Mass=1"), ("{'Mass': True, 'Effusion': None}", "Effusion=?|Mass=1")],
)
def test_objects_with_a_sign_for_each_finding(tmp_path, label, meant):
    assert labels(tmp_path, of(label, "Effusion"))[0] == meant


@pytest.mark.parametrize("label", ['[{"name": "Mass"}]', '{"label": "Mass"}', '{"Mass": 0.7}'])
def test_other_objects_are_refused_with_their_lines(tmp_path, label):
    with pytest.raises(InputError, match=r"objects of a program.*lines 3"):
        labels(tmp_path, of("Mass", label))


@pytest.mark.parametrize("joined", ["Effusion + Mass", "Effusion and Mass", "Effusion/Mass", "Effusion & Mass"])
def test_findings_in_one_name_are_never_an_absent_finding(tmp_path, joined):
    with pytest.raises(InputError, match="in a way that is not read"):
        labels(tmp_path, of(joined, "Mass"), findings=("Effusion", "Mass"))
    pool = opened(tmp_path, of(joined, "Mass"))
    assert f"{joined!r} count as findings of their own" in "\n".join(pool.notes.lines)
    assert labels(tmp_path, of("Nodule/Mass", "Effusion")) == ["Effusion=0|Nodule/Mass=1", "Effusion=1|Nodule/Mass=0"]


@pytest.mark.parametrize(("one", "none"), [("1.00", "0.00"), ("1,0", "0,0")])
def test_signs_with_decimals(tmp_path, one, none):
    text = f"image_path;mass\na.png;{one}\nb.png;{none}\n"
    assert labels(tmp_path, text, findings=("mass",)) == ["mass=1", "mass=0"]


@pytest.mark.parametrize(
    "label",
    ["effusion mass", "effusion\\nmass", "effusion (small)", "left effusion", "possible effusion", "severe effusion"],
)
def test_a_qualified_finding_is_never_an_absent_one_without_a_word(tmp_path, caplog, label):
    text = f"image_path,label\na.png,effusion\nb.png,mass\nc.png,{label}\n"
    assert "'effusion'" in refused(tmp_path, text, findings=("effusion", "mass"))
    labels(tmp_path, text)
    assert "count as findings of their own" in caplog.text


def test_a_longer_name_is_a_finding_of_its_own(tmp_path, caplog):
    labels(tmp_path, "image_path,label\na.png,effusion\nb.png,pleural effusion\nc.png,loculated effusion\n")
    assert "of their own" not in caplog.text


@pytest.mark.parametrize(
    ("one", "none"),
    [("Y", "N"), ("WAHR", "FALSCH"), ("oui", "non"), ("VRAI", "FAUX"), ("sí", "no"), ("sim", "não"), ("pos", "neg")],
)
def test_signs_in_the_language_of_a_spreadsheet(tmp_path, one, none):
    text = f"image_path,mass\na.png,{one}\nb.png,{none}\n"
    assert labels(tmp_path, text, findings=("mass",)) == ["mass=1", "mass=0"]
    assert "'pool.findings=[mass]'" in refused(tmp_path, text)


@pytest.mark.parametrize("name", ["No Finding", "Normal"])
def test_a_healthy_column_that_is_not_understood_is_said(tmp_path, name):
    pool = opened(tmp_path, f"image_path,{name},mass\na.png,x,\nb.png,,1\n", findings=("mass",))
    assert pool.scans["label"].to_pylist() == [None, "mass=1"]
    assert f"the column {name!r} holds other things than 1, 0 and blanks" in "\n".join(pool.notes.lines)


@pytest.mark.parametrize("label", ["Mass?|Effusion", "Mass (?); Effusion", "?Mass|Effusion"])
def test_an_uncertain_finding_may_have_its_mark_behind(tmp_path, label):
    assert labels(tmp_path, of(label, "Mass"))[0] == "Effusion=1|Mass=?"


@pytest.mark.parametrize("label", ["no Mass", "Mass: no", "-Mass", "Mass absent"])
def test_a_denied_finding_is_never_a_finding_without_a_word(tmp_path, label):
    with pytest.raises(InputError, match="speaks of 'mass' in a way that is not read"):
        labels(tmp_path, of(label, "Mass", "Effusion"), findings=("Effusion", "Mass"))
    pool = opened(tmp_path, of(label, "Mass"))
    assert f"{label!r} count as findings of their own, and not as 'mass'" in "\n".join(pool.notes.lines)


@pytest.mark.parametrize("label", ["Mass:0.9", "Mass (85%)", "Mass = 0,1"])
def test_numbers_beside_findings_are_refused(tmp_path, label):
    with pytest.raises(InputError, match="holds a number"):
        labels(tmp_path, of(label, "Effusion"))
