import os
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from embeddings.decoding import dicom_file
from pipeline.contracts.options.scans import SET_ASIDE_RULES, PoolConfig
from pipeline.pool.dicom.rules import set_aside
from tests.support.dicom_files import MISSING, chest, dataset

VALUES = chest(side=32)


def why(rules=SET_ASIDE_RULES, **given):
    return set_aside(dataset(VALUES, **given), rules)


@pytest.mark.parametrize("modality", ["CR", "DX", "RG", "SC", "OT", "", MISSING])
def test_radiographs_of_a_chest_stay(modality):
    assert why(Modality=modality) is None


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"Modality": "CT"}, "set aside: modality CT, no radiograph"),
        ({"Modality": "MG"}, "set aside: modality MG, no radiograph"),
        ({"Modality": "SR"}, "set aside: modality SR, no radiograph"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "set aside: a localizer"),
        ({"SeriesDescription": "Topogram 0.6"}, "set aside: a localizer"),
        ({"BodyPartExamined": "HIP"}, "set aside: body part HIP"),
        ({"BodyPartExamined": "EXTREMITY"}, "set aside: body part EXTREMITY"),
        ({"BodyPartExamined": "TSPINE"}, "set aside: body part TSPINE"),
        ({"BodyPartExamined": "Thoracic Spine"}, "set aside: body part THORACIC SPINE"),
        ({"PresentationIntentType": "FOR PROCESSING"}, "set aside: raw values of the detector"),
        ({"ViewPosition": "LL"}, "set aside: a lateral view"),
        ({"ViewPosition": "", "SeriesDescription": "CHEST LAT"}, "set aside: a lateral view"),
    ],
)
def test_others_are_set_aside_by_reason(given, reason):
    assert why(**given).startswith(reason)


@pytest.mark.parametrize(
    "part", ["CHEST", "THORAX", "Lungs", "TORAX", "PORT CHEST", "CHESTABDOMEN", "", "XYZ", MISSING]
)
def test_a_chest_and_what_is_not_known_stay(part):
    assert why(BodyPartExamined=part) is None


def test_the_region_counts_where_the_part_is_not_said():
    item = Dataset()
    item.CodeMeaning = "Knee"
    assert why(BodyPartExamined="", AnatomicRegionSequence=[item]) == "set aside: body part KNEE"


@pytest.mark.parametrize("part", ["HÜFTE", "KNIE", "SCHULTER", "BASSIN", "GENOU", "CADERA", "JOELHO", "LOW_EXM", "ABD"])
def test_other_parts_are_known_in_the_languages_of_hospitals(part):
    assert why(BodyPartExamined=part) == f"set aside: body part {part}"


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"SeriesDescription": "SHOULDER AP"}, "SHOULDER"),
        ({"ProtocolName": "XR_HIP_L"}, "HIP"),
        ({"StudyDescription": "Abdomen supine", "SeriesDescription": "AP"}, "ABDOM"),
        ({"StudyDescription": "Thorax and shoulder"}, None),
        ({"SeriesDescription": "Radiografía de tórax", "StudyDescription": "columna"}, None),
        ({"SeriesDescription": "AP erect, head up, chip 3"}, None),
    ],
)
def test_descriptions_tell_the_part_where_no_tag_does(given, named):
    reason = why(**{"BodyPartExamined": MISSING, "SpecificCharacterSet": "ISO_IR 192", **given})
    assert reason == (named and f"set aside: its description names {named}, and no chest")


def test_each_rule_can_be_left_out():
    assert why(rules=(), Modality="CT", ViewPosition="LL") is None
    assert why(rules=("lateral",), Modality="CT") is None
    assert PoolConfig(set_aside=("localizer", "other-modality")).set_aside == ("localizer", "other-modality")
    for name in ("other-body-part", "for-processing"):
        assert name in PoolConfig().set_aside


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "reason"),
    [("RG1_J2KI", None), ("RG2_RLE", "body part HIP"), ("RG3_RLE", "body part EXTREMITY"), ("SC1_RLE", "modality CT")],
)
def test_the_committees_files(name, reason):
    data = (Path(os.environ["CXR_SSL_DATA"]) / "dicom" / "wg04" / name).read_bytes()
    found = set_aside(dicom_file.parse(data, with_pixels=False), SET_ASIDE_RULES)
    assert found is None if reason is None else reason in found
