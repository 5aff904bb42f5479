import json

import numpy as np
import pytest
from pydicom.dataset import Dataset

from pipeline.pool import manifest
from pipeline.pool.dicom import tags
from tests.support.dicom_files import MISSING, chest, dataset

VALUES = chest(side=32)


def facts(salt="salt", **given):
    return tags.facts(dataset(VALUES, **given), salt)


def test_what_the_manifest_takes():
    found = facts(
        PatientAge="058Y",
        PatientSex="F",
        Laterality="L",
        Manufacturer="Maker",
        PixelSpacing=[0.143, 0.143],
    )
    assert (found["view"], found["age_years"], found["sex"], found["laterality"]) == ("PA", 58, "F", "L")
    assert (found["manufacturer"], found["pixel_spacing_mm"], found["note"]) == ("Maker", 0.143, None)


def test_no_name_no_id_no_date_is_in_it():
    secrets = {"PatientName": "Doe^Jane", "PatientID": "MRN-99", "InstitutionName": "Saint Elsewhere"}
    secrets |= {"StudyInstanceUID": "1.2.840.99", "SeriesInstanceUID": "1.2.840.98", "PatientBirthDate": "19600102"}
    secrets |= {"StudyDate": "20200102", "AccessionNumber": "ACC-7", "ReferringPhysicianName": "Ward^Dr"}
    text = json.dumps(facts(**secrets))
    assert not [value for value in secrets.values() if value in text]


def test_ids_are_hashed_as_those_of_a_table():
    import pyarrow as pa

    of_table = manifest.hidden(pa.chunked_array([["PAT-1234"]]), "salt")[0].as_py()
    assert facts()["patient_id"] == of_table
    assert facts(salt="other")["patient_id"] != of_table
    assert facts()["study_id"] != facts()["series_id"]


@pytest.mark.parametrize(
    "placeholder", ["", "0", "00000", "ANON", "ANONYMOUS^", "De-Identified", "Anonymous", "unknown", MISSING]
)
def test_a_placeholder_is_no_patient(placeholder):
    assert facts(PatientID=placeholder)["patient_id"] is None


@pytest.mark.parametrize(
    ("position", "description", "view"),
    [
        ("PA", "", "PA"),
        ("AP", "", "AP"),
        ("LL", "", "LL"),
        ("RL", "", "LL"),
        ("LATERAL", "", "LL"),
        ("LLAT", "", "LL"),
        ("", "view: PA", "PA"),
        ("", "Thorax p.a.", "PA"),
        ("", "CHEST LAT", "LL"),
        ("", "W034 Chest LATERAL", "LL"),
        ("", "Chest AP portable", "AP"),
        ("", "CHEST PA + LAT", "unknown"),
        ("LLD", "", "unknown"),
        ("", "Lateral decubitus", "unknown"),
        ("", "plateau", "unknown"),
        (MISSING, "", "unknown"),
        ("PROFIL", "", "LL"),
        ("", "Thorax seitl.", "LL"),
        ("", "Torace L-L", "LL"),
        ("", "RX tórax perfil", "LL"),
        ("", "胸部侧位", "LL"),
        ("", "Thorax face et profil PA", "unknown"),
        ("", "Lateral oblique", "unknown"),
    ],
)
def test_views(position, description, view):
    assert facts(ViewPosition=position, SeriesDescription=description)["view"] == view


def test_a_view_by_its_code():
    item = Dataset()
    item.CodeMeaning = "postero-anterior"
    assert facts(ViewPosition="", ViewCodeSequence=[item])["view"] == "PA"


@pytest.mark.parametrize(
    ("code", "view"),
    [
        ("R-10214", "PA"),
        ("272479007", "PA"),
        ("R-10206", "AP"),
        ("399173006", "LL"),
        ("R-10236", "LL"),
        ("X", "unknown"),
    ],
)
def test_a_view_by_a_code_without_words(code, view):
    item = Dataset()
    item.CodeValue = code
    assert facts(ViewPosition="", ViewCodeSequence=[item])["view"] == view


@pytest.mark.parametrize(
    ("orientation", "description", "view"),
    [(["A", "F"], "", "LL"), (["P", "F"], "", "LL"), (["L", "F"], "", "unknown"), (["A", "F"], "CHEST PA", "PA")],
)
def test_a_view_by_the_side_that_the_rows_face(orientation, description, view):
    given = {"ViewPosition": "", "SeriesDescription": description, "PatientOrientation": orientation}
    assert facts(**given)["view"] == view


@pytest.mark.parametrize(
    ("given", "years"),
    [
        ({"PatientAge": "062Y"}, 62),
        ({"PatientAge": "62"}, 62),
        ({"PatientAge": "006M"}, 0.5),
        ({"PatientAge": "", "PatientBirthDate": "1980.01.01", "StudyDate": "2020.01.01"}, 40),
        ({"PatientBirthDate": "19600601", "StudyDate": "20200601"}, 60),
        ({"PatientBirthDate": "20300601", "StudyDate": "20200601"}, None),
        ({"PatientAge": "411Y"}, None),
        ({}, None),
    ],
)
def test_ages(given, years):
    assert facts(**given)["age_years"] == (None if years is None else pytest.approx(years, abs=0.01))


@pytest.mark.parametrize(
    ("given", "spacing_mm"),
    [
        ({"PixelSpacing": [0.2, 0.2], "ImagerPixelSpacing": [0.1, 0.1]}, 0.2),
        ({"PixelSpacing": [0, 0], "ImagerPixelSpacing": [0.1, 0.1]}, 0.1),
        ({"PixelSpacing": ""}, None),
        ({}, None),
    ],
)
def test_distance_of_pixels(given, spacing_mm):
    assert facts(**given)["pixel_spacing_mm"] == spacing_mm


def test_burnt_in_text_is_noted():
    assert facts(BurnedInAnnotation="YES")["note"] == "text is burnt into it"
    assert np.asarray(VALUES).any() and facts(BurnedInAnnotation="NO")["note"] is None


@pytest.mark.parametrize(
    ("given", "note"),
    [
        ({"PatientAge": "400Y"}, "the age in its tags cannot be"),
        ({"StudyDate": "29990101"}, "the study date in its tags cannot be: in the future"),
        ({"StudyDate": "20201341"}, "the study date in its tags cannot be: no day of the calendar"),
        ({"StudyDate": "18700101"}, "the study date in its tags cannot be: before there were X-rays"),
        (
            {"StudyDate": "20200101", "PatientBirthDate": "20210101"},
            "the birth date in its tags cannot be: it is after the study",
        ),
        ({"PatientAge": "040Y", "StudyDate": "20200101", "PatientBirthDate": "19600101"}, None),
        ({"PatientAge": "UNKNOWN", "StudyDate": ""}, None),
    ],
)
@pytest.mark.filterwarnings("ignore:.*nvalid value:UserWarning")
def test_ages_and_dates_that_cannot_be_are_said(given, note):
    assert facts(**given)["note"] == note
