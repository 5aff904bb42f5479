"""Each set's own tables, made small: what its conventions mean."""

import csv
import gzip
import io
import json
import tarfile

import numpy as np
import openpyxl
import pytest

from pipeline.contracts.errors import InputError
from pipeline.pool.sets import public_set, registry
from pipeline.pool.sets.public_set import SetFolder
from pipeline.pool.sets.readers.padchest import labels_of

LABELER = (
    "No Finding,Enlarged Cardiomediastinum,Cardiomegaly,Lung Opacity,Lung Lesion,Edema,Consolidation,Pneumonia,"
    "Atelectasis,Pneumothorax,Pleural Effusion,Pleural Other,Fracture,Support Devices"
)
HEALTHY = "1.0,,,,,,,,,0.0,,,,1.0"
UNSURE = ",,-1.0,1.0,,,,,,,0.0,,,"
SILENT = ",,,,,,,,,,,,,"


def read(name, folder, files=None):
    """What a set's reader makes of the files in a folder, these written first."""
    for file, content in (files or {}).items():
        path = folder / file
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    paths = tuple(path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file())
    return registry.reader_of(name)(SetFolder(str(folder), paths))


def said(whole, row):
    """Finding -> 1, 0 or -1 of a scan, those that are unknown left out."""
    return {f: int(v) for f, v in zip(whole.findings, whole.present_NC[row], strict=True) if v != public_set.UNKNOWN}


def about(whole, name):
    return whole.about[name].to_pylist()


def test_nih_has_commas_in_its_header_and_lists_in_a_cell(tmp_path):
    header = (
        "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
        "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]\n"
    )
    rows = "a.png,Mass|Nodule,0,1,058Y,M,PA,1,1,1,1\nb.png,No Finding,0,2,411,F,AP,1,1,1,1\n"
    whole = read(
        "nih",
        tmp_path,
        {
            "Data_Entry_2017.csv": header + rows,
            "BBox_List_2017.csv": "Image Index,Finding Label,Bbox [x,y,w,h],,,\nb.png,Infiltrate,1,1,1,1\n",
            "train_val_list.txt": "a.png\n",
            "test_list.txt": "b.png\r\n",
        },
    )
    assert [f for f, v in said(whole, 0).items() if v] == ["Mass", "Nodule"]
    assert [f for f, v in said(whole, 1).items() if v] == ["Infiltration"], "what has a box is there"
    assert len(said(whole, 0)) == len(whole.findings) == 14, "what is not named is absent"
    assert about(whole, "official_split") == ["train", "test"]
    assert about(whole, "patient_id") == ["1", "2"] and about(whole, "sex") == ["M", "F"]
    assert about(whole, "view") == ["PA", "AP"]
    with pytest.raises(InputError, match="'Cough'"):
        read("nih", tmp_path, {"Data_Entry_2017.csv": header + rows.replace("Mass|Nodule", "Cough")})


def test_chexpert_keeps_uncertain_apart_and_no_finding_is_no_finding(tmp_path):
    header = f"Path,Sex,Age,Frontal/Lateral,AP/PA,{LABELER}\n"
    whole = read(
        "chexpert",
        tmp_path,
        {
            "train.csv": header
            + f"CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg,Female,68,Frontal,AP,{HEALTHY}\n"
            + f"CheXpert-v1.0-small/train/patient00001/study1/view2_lateral.jpg,Female,0,Lateral,,{UNSURE}\n",
            "valid.csv": header
            + f"CheXpert-v1.0/valid/patient64541/study1/view1_frontal.jpg,Male,73,Frontal,PA,{SILENT}\n",
        },
    )
    assert "No Finding" not in whole.findings
    assert said(whole, 0) == dict.fromkeys(whole.findings, 0) | {"Support Devices": 1}, "a device is no finding"
    assert said(whole, 1) == {"Lung Opacity": 1, "Pleural Effusion": 0}
    assert whole.num_uncertain == 1 and said(whole, 2) == {}
    assert about(whole, "patient_id") == ["patient00001", "patient00001", "patient64541"]
    assert about(whole, "view") == ["AP", "LATERAL", "PA"]
    assert about(whole, "age") == ["68", None, "73"], "0 stands where the age is not known"
    assert about(whole, "official_split") == ["train", "train", "valid"]
    assert whole.provenance_N.to_pylist() == [public_set.NLP_ON_REPORT] * 2 + [public_set.ON_SCAN]
    with pytest.raises(InputError, match=r"train\.csv: the column 'Cardiomegaly' says 'maybe'"):
        read("chexpert", tmp_path, {"train.csv": header + f"a/b/c.jpg,,,,,{UNSURE.replace('-1.0', 'maybe')}\n"})


@pytest.mark.parametrize("in_a_list", [False, True])
def test_chexpert_plus_has_its_labels_in_json(tmp_path, in_a_list):
    rows = [
        {
            "path_to_image": "train/patient2/study1/view1_frontal.jpg",
            "No Finding": None,
            "Edema": -1.0,
            "Fracture": 1.0,
        },
        {"path_to_image": "train/patient1/study1/view1_frontal.jpg", "No Finding": 1.0},
    ]
    text = json.dumps(rows) if in_a_list else "\n".join(json.dumps(row) for row in rows)
    table = "path_to_image,frontal_lateral,ap_pa,deid_patient_id,report,age,sex,split\n"
    person = "study1/view1_frontal.jpg,Frontal,AP"
    whole = read(
        "chexpert-plus",
        tmp_path,
        {
            "df_chexpert_plus_240401.csv": table
            + f'train/patient1/{person},p1,"two\nlines",44,Female,train\n'
            + f"train/patient2/{person},p2,,45,Male,valid\ntrain/patient3/{person},p3,,46,Male,valid\n",
            "report_fixed.json": text,
        },
    )
    assert set(said(whole, 0).values()) == {0} and "Support Devices" not in said(whole, 0)
    assert said(whole, 1) == {"Fracture": 1} and said(whole, 2) == {}
    assert whole.num_uncertain == 1 and set(whole.provenance_N.to_pylist()) == {public_set.NETWORK_ON_REPORT}
    assert about(whole, "official_split") == ["train", "valid", "valid"]


def test_mimic_has_a_row_a_study_and_no_paths(tmp_path):
    whole = read(
        "mimic-cxr",
        tmp_path,
        {
            "mimic-cxr-2.0.0-chexpert.csv.gz": gzip.compress(
                f"subject_id,study_id,{LABELER}\n10,50,{HEALTHY}\n11,51,{UNSURE}\n".encode()
            ),
            "mimic-cxr-2.0.0-metadata.csv": "dicom_id,subject_id,study_id,ViewPosition\n"
            "aa,10,50,PA\nbb,10,50,LATERAL\ncc,11,51,AP\ndd,12,52,AP\n",
            "mimic-cxr-2.0.0-split.csv": "dicom_id,study_id,subject_id,split\n"
            "cc,51,11,test\naa,50,10,train\nbb,50,10,validate\n",
        },
    )
    assert whole.file_N.to_pylist() == ["aa", "bb", "cc", "dd"]
    assert said(whole, 0) == said(whole, 1) and said(whole, 0)["Pneumothorax"] == 0
    assert said(whole, 2) == {"Lung Opacity": 1, "Pleural Effusion": 0}
    assert said(whole, 3) == {}, "a picture whose study has no labels"
    assert about(whole, "official_split") == ["train", "validation", "test", None]
    assert about(whole, "patient_id") == ["10", "10", "11", "12"]


def test_ids_that_a_program_made_decimal_numbers_are_the_same_ids(tmp_path):
    files = {
        "mimic-cxr-2.0.0-chexpert.csv": f"subject_id,study_id,{LABELER}\n10.0,50.0,{UNSURE}\n",
        "mimic-cxr-2.0.0-metadata.csv": "dicom_id,subject_id,study_id,ViewPosition\naa,10,50,PA\n",
    }
    assert said(read("mimic-cxr", tmp_path, files), 0) == {"Lung Opacity": 1, "Pleural Effusion": 0}


def test_brax_has_ages_in_words(tmp_path):
    whole = read(
        "brax",
        tmp_path,
        {
            "master_spreadsheet_update.csv": f"PngPath,DicomPath,PatientID,PatientSex,PatientAge,ViewPosition,{LABELER}"
            "\n"
            f"images/id_1/Study_1/Series_1/image-1.png,d/1.dcm,id_1,M,85 or more,PA,{HEALTHY}\n"
            f"images/id_2/Study_2/Series_2/image-2.png,d/2.dcm,id_2,F,45,L,{UNSURE}\n"
        },
    )
    assert about(whole, "age") == ["85", "45"] and whole.num_uncertain == 1
    assert said(whole, 0)["Edema"] == 0


def test_padchest_labels_are_printed_lists(tmp_path):
    header = "ImageID,StudyDate_DICOM,PatientID,PatientBirth,PatientSex_DICOM,Projection,MethodLabel,Labels\n"
    lists = [
        "\"['pleural effusion', ' cardiomegaly', '']\"",
        "['normal']",
        "\"['nodule', 'unchanged']\"",
        "['unchanged']",
        "['exclude']",
        "[]",
        "",
        "\"['infiltrates', ' normal']\"",
    ]
    table = "PADCHEST_chest_x_ray_images_labels_160K.csv"
    rows = [
        f"{i}.png,20140915,p{i},1930.0,F,{'PA' if i else 'EXCLUDE'},Physician,{text}\n"
        for i, text in enumerate(["['normal']", *lists])
    ]
    whole = read("padchest", tmp_path, {table: header + "".join(rows)})
    assert whole.left_out == {"its owner marks the projection EXCLUDE": 1}
    assert [f for f, v in said(whole, 0).items() if v] == ["cardiomegaly", "pleural effusion"]
    assert set(said(whole, 1).values()) == {0} and len(said(whole, 1)) == len(whole.findings)
    assert said(whole, 2) == {"nodule": 1}, "unchanged speaks of a picture that is not here"
    assert [said(whole, row) for row in (3, 4, 5, 6)] == [{}] * 4
    assert [f for f, v in said(whole, 7).items() if v] == ["infiltrates"]
    assert about(whole, "age")[0] == "84"
    assert not {"normal", "unchanged", "exclude", ""} & set(whole.findings)
    with pytest.raises(InputError, match="not a printed list"):
        read("padchest", tmp_path, {table: header + rows[2].replace("[", "(")})


def test_a_printed_list_is_read_as_python_does_and_runs_nothing():
    assert labels_of("[\"tube'\", 'a  b', 'x|y=1']") == ["tube'", "a b", "x y 1"]
    assert labels_of("['it\\'s']") == ["it's"]
    for text in ("['a'", "('a',)", "[1]", "__import__('os').getcwd()", "[" * 500):
        with pytest.raises(ValueError, match="printed list"):
            labels_of(text)


def test_vinbig_rows_a_box_become_readings_and_a_majority(tmp_path):
    rows = ["a,Nodule/Mass,8,R1,1,1,9,9", "a,Nodule/Mass,8,R1,2,2,9,9", "a,Pleural effusion,10,R1,1,1,9,9"]
    rows += ["a,Nodule/Mass,8,R2,1,1,9,9", "a,No finding,14,R3,,,,", "b,No finding,14,R1,,,,", "b,No finding,14,R2,,,,"]
    header = "image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max\n"
    whole = read("vinbig", tmp_path, {"train.csv": header + "\n".join(rows) + "\n"})
    assert whole.file_N.to_pylist() == ["a", "b"]
    assert said(whole, 0) == {"Nodule/Mass": 1, "Pleural effusion": 0}, "two of three, one of three"
    readings = {
        (int(scan), reader): dict(zip(whole.findings, row.tolist(), strict=True))
        for scan, reader, row in zip(
            whole.readings.scan_R, whole.readings.reader_R.to_pylist(), whole.readings.present_RC, strict=True
        )
    }
    assert readings[0, "R1"] == {"Nodule/Mass": 1, "Pleural effusion": 1}
    assert readings[0, "R3"] == readings[1, "R1"] == {"Nodule/Mass": 0, "Pleural effusion": 0}
    assert len(readings) == 5
    (tmp_path / "train.csv").write_text(header + "a,Nodule/Mass,8,R1,,,,\na,No finding,14,R2,,,,\n")
    assert said(read("vindr", tmp_path), 0) == {}, "an even split is no answer"


def test_vindr_has_a_row_a_reader_and_an_agreed_test_part(tmp_path):
    whole = read(
        "vindr",
        tmp_path,
        {
            "image_labels_train.csv": "image_id,rad_id,Cardiomegaly,COPD,No finding\n"
            "a,R1,1,0,0\na,R2,1,0,0\na,R3,0,0,1\n",
            "image_labels_test.csv": "image_id,Cardiomegaly,COPD,No finding\nz,0,1,0\n",
        },
    )
    assert (said(whole, 0), said(whole, 1)) == ({"Cardiomegaly": 1, "COPD": 0}, {"Cardiomegaly": 0, "COPD": 1})
    assert about(whole, "official_split") == ["train", "test"]
    assert whole.readings.scan_R.tolist() == [0, 0, 0], "the agreed part names no reader"


def test_rsna_boxes_are_one_scan_and_its_patient_is_not_a_person(tmp_path):
    table = "patientId,x,y,width,height,Target\na,1,1,2,2,1\na,5,5,2,2,1\nb,,,,,0\n"
    whole = read("rsna", tmp_path, {"stage_2_train_labels.csv": table})
    assert whole.file_N.to_pylist() == ["a", "b"] and whole.present_NC.tolist() == [[1], [0]]
    assert "patient_id" not in whole.about
    people = {"a": "00000007_002.png", "b": "00000007_003.png"}
    path = tmp_path / "pneumonia-challenge-dataset-mappings_2018.json"
    path.write_text(json.dumps([{"subset_img_id": own, "img_id": nih} for own, nih in people.items()]))
    assert about(read("rsna", tmp_path), "patient_id") == ["00000007", "00000007"]
    path.write_text('[{"img_id": 3}]')
    with pytest.raises(InputError, match="table of persons"):
        read("rsna", tmp_path)


def test_siim_masks_are_one_scan(tmp_path):
    whole = read("siim", tmp_path, {"train-rle.csv": "ImageId, EncodedPixels\n1.2.3,-1\n1.2.4,5 6\n1.2.4,7 8\n"})
    assert whole.file_N.to_pylist() == ["1.2.3", "1.2.4"] and whole.present_NC.tolist() == [[0], [1]]


def test_no_mask_stays_no_mask_where_a_program_made_it_a_decimal_number(tmp_path):
    whole = read("siim", tmp_path, {"train-rle.csv": "ImageId, EncodedPixels\na,-1.0\nb,5 6\nc,-1.00\n"})
    assert whole.present_NC.tolist() == [[0], [1], [0]]


def workbook(text):
    book, stream = openpyxl.Workbook(), io.BytesIO()
    for row in csv.reader(io.StringIO(text)):
        book.active.append(row)
    book.save(stream)
    return stream.getvalue()


SAVED_AGAIN = {
    "semicolons": lambda text: text.replace(",", ";"),
    "semicolons and decimal commas": lambda text: text.replace(",", ";").replace(".0;", ",0;"),
    "tabs": lambda text: text.replace(",", "\t"),
    "UTF-16": lambda text: text.encode("utf-16"),
    "CR": lambda text: text.replace("\n", "\r"),
    "lower case": lambda text: (
        text.replace("Path", "path").replace("No Finding", "no_finding").replace("Edema", "EDEMA")
    ),
    "an index": lambda text: "".join(f"{i},{line}\n" for i, line in enumerate(text.splitlines())),
    "cut off": lambda text: text + "CheXpert-v1.0-small/tr",
    "quotation marks": lambda text: text.replace("Path", '"Path"'),
}


@pytest.mark.parametrize("form", [*SAVED_AGAIN, "a workbook"])
def test_a_sets_table_that_was_saved_again_says_the_same(tmp_path, form):
    row = f"CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg,Female,68,Frontal,AP,{UNSURE}\n"
    text = f"Path,Sex,Age,Frontal/Lateral,AP/PA,{LABELER}\n{row}"
    name, content = ("train.xlsx", workbook(text)) if form == "a workbook" else ("train.csv", SAVED_AGAIN[form](text))
    whole = read("chexpert", tmp_path, {name: content})
    assert said(whole, 0) == {"Lung Opacity": 1, "Pleural Effusion": 0} and whole.num_uncertain == 1
    assert (about(whole, "sex")[0], about(whole, "age")[0], about(whole, "view")[0]) == ("Female", "68", "AP")
    assert about(whole, "patient_id")[0] == "patient00001"


def test_findings_of_nih_in_other_spellings(tmp_path):
    rows = 'a.png,"effusion, Pleural Thickening",1\nb.png,no finding,2\n'
    whole = read("nih", tmp_path, {"sample_labels.csv": f"Image Index,Finding Labels,Patient ID\n{rows}"})
    assert [f for f, v in said(whole, 0).items() if v] == ["Effusion", "Pleural_Thickening"]
    assert set(said(whole, 1).values()) == {0}


COVID = (
    "patientid,offset,sex,age,finding,view,modality,folder,filename\n"
    "2,0,M,65.0,Pneumonia/Viral/COVID-19,PA,X-ray,images,a.png\n2,3,M,65,Pneumonia,AP Supine,X-ray,images,b\n"
    "3,,F,,No Finding,L,X-ray,images,c.png\n4,,?,?,todo,PA,X-ray,images,d.png\n5,,,,Unknown,PA,X-ray,images,e.png\n"
    "6,,M,70,Pneumonia/Bacterial,PA,X-ray,images,f.png\n7,,M,70,Pneumonia/Viral/COVID-19,Axial,CT,volumes,g.nii.gz\n"
)


def test_covid_findings_are_paths_and_ct_is_counted(tmp_path):
    whole = read("covid-chestxray", tmp_path, {"metadata.csv": COVID})
    assert whole.left_out == {"another modality than X-ray": 1} and len(whole.file_N) == 6
    assert said(whole, 0) == {"Bacterial": 0, "COVID-19": 1, "Pneumonia": 1, "Viral": 1}
    assert said(whole, 1) == {"Pneumonia": 1}, "which pneumonia is open"
    assert set(said(whole, 2).values()) == {0} and said(whole, 3) == said(whole, 4) == {}
    assert said(whole, 5)["COVID-19"] == 0
    assert whole.class_N.to_pylist()[2:5] == ["No Finding", None, None]
    assert whole.file_N.to_pylist()[1] == "images/b"


def test_covidx_lists_are_parts_and_the_last_version_counts(tmp_path):
    whole = read(
        "covidx",
        tmp_path,
        {
            "train_COVIDx8B.txt": "1 old.png negative rsna\n",
            "train_COVIDx9B.txt": "1 a b.png negative rsna\n2 c.png positive cohen\n",
            "test_COVIDx9B.txt": "3 d.jpg negative ricord\n",
        },
    )
    assert sorted(whole.file_N.to_pylist()) == ["test/d.jpg", "train/a b.png", "train/c.png"]
    rows = dict(zip(whole.file_N.to_pylist(), whole.class_N.to_pylist(), strict=True))
    assert rows["train/c.png"] == "COVID-19" and rows["test/d.jpg"] == "no COVID-19"
    assert whole.findings == ("COVID-19",) and sorted(about(whole, "official_split")) == ["test", "train", "train"]
    assert set(about(whole, "source")) == {"rsna", "cohen", "ricord"}
    with pytest.raises(InputError, match="line 2 does not name"):
        read("covidx", tmp_path, {"train_COVIDx9B.txt": "1 a.png negative rsna\n2 positive\n"})


def test_covidx_of_three_classes(tmp_path):
    lines = "1 a.png normal rsna\n2 b.png pneumonia rsna\n3 c.png COVID-19 cohen\n"
    whole = read("covidx", tmp_path, {"train_COVIDx5.txt": lines})
    assert whole.findings == ("COVID-19", "pneumonia")
    assert whole.present_NC.tolist() == [[0, 0], [0, 1], [1, 0]]
    assert whole.class_N.to_pylist() == ["normal", "pneumonia", "COVID-19"]


def test_shenzhen_and_montgomery_say_it_in_names_and_texts(tmp_path):
    for name in ("CXR_png/CHNCXR_0001_0.png", "CXR_png/CHNCXR_0002_1.png", "mask/CHNCXR_0002_1_mask.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "ClinicalReadings").mkdir()
    (tmp_path / "ClinicalReadings/CHNCXR_0001_0.txt").write_text("male 45yrs\nnormal\n")
    (tmp_path / "ClinicalReadings/CHNCXR_0002_1.txt").write_text("Patient's Sex: F\nPatient's Age: 008M\nbilateral PTB")
    whole = read("shenzhen", tmp_path)
    assert whole.present_NC.tolist() == [[0], [1]] and about(whole, "patient_id") == ["CHNCXR_0001", "CHNCXR_0002"]
    assert about(whole, "age") == ["45y", "008M"] and about(whole, "sex") == ["male", "F"]
    with pytest.raises(InputError, match="MCUCXR_0001_0"):
        read("montgomery", tmp_path)
    (tmp_path / "ManualMask").mkdir()
    for name in ("CXR_png/MCUCXR_0001_1.png", "ManualMask/MCUCXR_0001_1.png"):
        (tmp_path / name).touch()
    assert read("montgomery", tmp_path).file_N.to_pylist() == ["CXR_png/MCUCXR_0001_1.png"], "a mask is no scan"


REPORT = """<eCitation><uId id="CXR{n}"/><MeSH>{headings}<automatic>pneumonia</automatic></MeSH>
<parentImage id="CXR{n}_1_IM-0001-3001"/><parentImage id="CXR{n}_1_IM-0001-4001"/></eCitation>"""


def report(number, *headings):
    return REPORT.format(n=number, headings="".join(f"<major>{heading}</major>" for heading in headings)).encode()


def test_open_i_headings_hold_for_all_pictures_of_a_report(tmp_path):
    reports = [
        report(1, "normal"),
        report(2, "Opacity/lung/upper lobe/left", "Calcified Granuloma"),
        report(10, "No Indexing"),
    ]
    with tarfile.open(tmp_path / "NLMCXR_reports.tgz", "w:gz") as archive:
        for number, data in zip((1, 2, 10), reports, strict=True):
            entry = tarfile.TarInfo(f"ecgen-radiology/{number}.xml")
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    packed = read("openi", tmp_path)
    assert about(packed, "patient_id") == ["CXR1"] * 2 + ["CXR2"] * 2 + ["CXR10"] * 2
    assert set(said(packed, 0).values()) == {0} and said(packed, 4) == {}
    assert [f for f, v in said(packed, 3).items() if v] == ["Calcified Granuloma", "Granuloma", "Opacity"]
    (tmp_path / "NLMCXR_reports.tgz").unlink()
    for number, data in zip((1, 2, 10), reports, strict=True):
        (tmp_path / f"{number}.xml").write_bytes(data)
    assert np.array_equal(read("openi", tmp_path).present_NC, packed.present_NC)
    (tmp_path / "2.xml").write_bytes(b"<eCitation>")
    with pytest.raises(InputError, match=r"2\.xml: the report cannot be read"):
        read("openi", tmp_path)


@pytest.mark.parametrize("name", [name for name in registry.names() if name not in ("shenzhen", "montgomery")])
def test_another_folder_is_refused_with_the_table_that_is_missing(name, tmp_path):
    with pytest.raises(InputError, match=r"no table of .* is in this folder: no file is called"):
        read(name, tmp_path, {"readme.md": "x"})


def test_a_table_that_is_not_the_owners_names_the_column(tmp_path):
    with pytest.raises(InputError, match="no column 'Finding Labels'"):
        read("nih", tmp_path, {"Data_Entry_2017.csv": "Image Index,labels\na.png,Mass\n"})
    with pytest.raises(InputError, match="cannot be unpacked"):
        read("nih", tmp_path, {"Data_Entry_2017.csv": gzip.compress(b"x" * 99)[:20]})
