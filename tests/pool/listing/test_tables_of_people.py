"""Tables as people have them, opened as pools: what is read, what is said, what is refused."""

import io
import zipfile

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.contracts import finding_line
from pipeline.contracts.errors import InputError
from pipeline.contracts.options.scans import PoolConfig
from pipeline.pool import splits
from pipeline.pool.sources import open_pool


def opened(tmp_path, text, name="t.csv", **options):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return open_pool(PoolConfig(uri=str(path), **options), tmp_path / "cache")


def values(pool, *names):
    return [pool.scans[name].to_pylist() for name in names]


def said(pool):
    return "\n".join(pool.notes.lines)


@pytest.mark.parametrize("name", ["t.csv", "t.txt", "t.TSV", "t.csv.gz", "t.xlsx", "t.tab", "no_ending"])
def test_the_ending_does_not_matter(tmp_path, name):
    pool = opened(tmp_path, "image_path\tlabel\na.png\tx\n", name)
    assert values(pool, "path", "label") == [["a.png"], ["x"]]


def test_a_workbook_beside_its_scans(tmp_path):
    book = openpyxl.Workbook()
    for row in (["Image Path", "Label", "Age", "PATIENT ID"], ["a.png", 1, 34.0, 12], ["b.png", 0, None, "?"]):
        book.active.append(row)
    stream = io.BytesIO()
    book.save(stream)
    pool = opened(tmp_path, stream.getvalue(), "scans.xlsx")
    assert values(pool, "label", "age_years", "patient_id") == [["1", "0"], [34, None], ["12", None]]
    assert pool.name == "scans" and "whatever their case, blanks and signs: 'Image Path' as image_path" in said(pool)


def test_a_table_packed_in_a_zip_lies_beside_its_scans(tmp_path):
    (tmp_path / "a.png").write_bytes(b"x")
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("train.csv", "image_path,label\na.png,x\n")
    assert opened(tmp_path, stream.getvalue(), "train.csv.zip").scans["uri"].to_pylist() == [f"{tmp_path}/a.png"]


def test_columns_that_look_like_known_ones_are_named_and_not_read(tmp_path):
    pool = opened(tmp_path, "image_path,MRN,Diagnosis,Gender,kvp\na.png,1,x,F,80\n")
    assert not pool.has_patients and pool.scans["sex"].null_count == 1
    assert "'Diagnosis' (did you mean label?)" in said(
        pool
    ) and "pool.columns={label: Diagnosis, patient_id: MRN" in said(pool)
    read = {"label": "Diagnosis", "patient_id": "mrn", "sex": " gender "}
    mapped = opened(tmp_path, "image_path,MRN,Diagnosis,Gender,kvp\na.png,1,x,F,80\n", columns=read)
    assert values(mapped, "label", "patient_id", "sex") == [["x"], ["1"], ["F"]]
    assert "did you mean" not in said(mapped)


def test_the_column_that_holds_files_is_guessed_for_the_message_alone(tmp_path):
    with pytest.raises(InputError, match="id you mean 'Röntgen'"):
        opened(tmp_path, "Nr,Röntgen\n1,a.PNG\n2,b.jpeg\n")


@pytest.mark.parametrize("word", ["?", "Unknown", "NONE", "n/a", "#N/A", "--", "missing", "anonymous", "TBD"])
def test_nobody_is_not_one_patient(tmp_path, word):
    rows = "".join(f"{i}.png,{word if i % 2 else f'P{i}'}\n" for i in range(8))
    pool = opened(tmp_path, f"image_path,patient_id\n{rows}")
    assert pool.scans["patient_id"].null_count == 4
    assert f"4 patient ids are placeholders and count as not known: {word!r} 4" in said(pool)


@pytest.mark.parametrize("word", ["0", "-1", "999999", "P", "Doe"])
def test_an_id_with_far_too_many_scans_is_pointed_at(tmp_path, word):
    rows = "".join(f"{i}.png,{word if i % 3 else f'X{i}'}\n" for i in range(60))
    pool = opened(tmp_path, f"image_path,patient_id\n{rows}")
    assert "one patient id (lines 3) holds 40 scans of 60, where most hold 1" in said(pool)
    regex = opened(
        tmp_path, "image_path\n" + "".join(f"{min(i, 20)}_{i}.png\n" for i in range(60)), patient_regex=r"(\d+)_"
    )
    assert "holds 40 scans of 60" in said(regex)


def test_patients_with_many_scans_each_are_no_placeholder(tmp_path):
    rows = "".join(f"{i}.png,P{i % 4}\n" for i in range(60))
    assert "placeholder" not in said(opened(tmp_path, f"image_path,patient_id\n{rows}"))


@pytest.mark.parametrize("word", ["validate", "DEV", "Val", "development", "tuning"])
def test_words_for_validation(tmp_path, word):
    pool = opened(tmp_path, f"image_path,official_split\na.png,train\nb.png,{word}\nc.png,test\n")
    splits.refuse_unknown_names(pool.scans["pool_split"])


def test_values_that_are_not_understood_are_counted(tmp_path):
    text = "image_path,age,sex,view\na.png,058Y,F,PA\nb.png,411,other,Axial\nc.png,45 years,?,PA\nd.png,7 mo,m,Axial\n"
    pool = opened(tmp_path, text)
    assert values(pool, "age_years", "sex", "view") == [
        [58, None, 45, pytest.approx(7 / 12)],
        ["F", None, None, "M"],
        ["PA", "unknown", "PA", "unknown"],
    ]
    assert "1 values of age are not understood and count as not known: '411' 1" in said(pool)
    assert "1 values of sex are not understood" in said(pool) and "2 values of view" in said(pool)


# --- several findings ------------------------------------------------------------------------------


def lines(tmp_path, text, **options):
    pool = opened(tmp_path, text, findings_are="independent", **options)
    return pool.scans["label"].to_pylist(), said(pool)


FORMS = {
    "Python": ("['edema', 'mass']", "['normal']", "[]", "['mass ']"),
    "JSON": ('["edema", "mass"]', '["No finding"]', "[]", '["MASS"]'),
    "numpy": ("['edema' 'mass']", "['normal']", "[]", "['mass']"),
    "without quotes": ("[edema, mass]", "[normal]", "[ ]", "[mass]"),
    "tuples": ("('edema', 'mass')", "('normal',)", "()", "('mass',)"),
    "bars": ("edema|mass", "No Finding", "", "mass"),
    "placeholders": ("edema; mass", "no findings", "todo", "Mass"),
    "None": ("edema,mass", "normal", "None", "mass"),
}


@pytest.mark.parametrize("form", FORMS)
def test_lists_of_findings_in_every_form(tmp_path, form):
    cells = ["" if not cell else '"' + cell.replace('"', '""') + '"' for cell in FORMS[form]]
    text = "image_path,label\n" + "".join(f"{i}.png,{cell}\n" for i, cell in enumerate(cells))
    found, _ = lines(tmp_path, text)
    read = [line and {name.casefold(): value for name, value in finding_line.read(line).items()} for line in found]
    assert read == [{"edema": 1, "mass": 1}, {"edema": 0, "mass": 0}, None, {"edema": 0, "mass": 1}]


def test_lists_in_parquet_and_names_with_commas(tmp_path):
    stream = io.BytesIO()
    labels = [["heart, enlarged", "mass"], [], None, ["normal"]]
    pq.write_table(pa.table({"image_path": ["a.png", "b.png", "c.png", "d.png"], "label": labels}), stream)
    found, _ = lines(tmp_path, stream.getvalue())
    assert found == ["heart, enlarged=1|mass=1", None, None, "heart, enlarged=0|mass=0"]
    text = "image_path;label\na.png;['heart, enlarged', 'mass']\nb.png;['mass']\n"
    assert lines(tmp_path, text)[0] == ["heart, enlarged=1|mass=1", "heart, enlarged=0|mass=1"]


WIDE = (
    "image_path,{healthy},Edema,Fracture,Pacemaker wire\n"
    "a.png,1,,,\nb.png,1,,-1,1\nc.png,0,1,,\nd.png,,,,\ne.png,1,1,,\nf.png,?,0,1,0\n"
)


@pytest.mark.parametrize("healthy", ["No Finding", "no_finding", "Normal", "HEALTHY", "No findings"])
def test_no_finding_says_that_the_others_are_absent(tmp_path, healthy):
    found, notes = lines(tmp_path, WIDE.format(healthy=healthy), findings=("Edema", "Fracture", "Pacemaker wire"))
    assert found == [
        "Edema=0|Fracture=0|Pacemaker wire=?",
        "Edema=0|Fracture=?|Pacemaker wire=1",
        "Edema=1|Fracture=?|Pacemaker wire=?",
        None,
        "Edema=1|Fracture=0|Pacemaker wire=?",
        "Edema=0|Fracture=1|Pacemaker wire=0",
    ]
    assert f"3 scans have {healthy!r}: 4 blank values of findings count as absent, but not those of devices" in notes
    assert f"1 scans have {healthy!r} and a finding too; the finding counts" in notes
    one = lines(tmp_path, WIDE.format(healthy=healthy), finding="Edema")[0]
    assert one == ["no Edema", "no Edema", "Edema", None, "Edema", "no Edema"]


def test_no_finding_is_never_suggested_as_one(tmp_path):
    with pytest.raises(InputError) as caught:
        lines(tmp_path, WIDE.format(healthy="No Finding"))
    assert "No Finding" not in str(caught.value) and "pool.findings=[Edema, Fracture]" in str(caught.value)


def test_columns_of_signs_in_a_pool_of_classes_are_pointed_at(tmp_path):
    pool = opened(tmp_path, "image_path,Edema,Mass\na.png,1,0\nb.png,0,\n")
    assert "'Edema', 'Mass' look like findings: pool.findings_are: independent reads them" in said(pool)
