"""A heat map as a DICOM secondary capture in the study of its scan; its words are burnt in."""

import io
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.predict.dicom_objects.source import ModelIdentity, uid
from pipeline.predict.dicom_objects.structured_report import (
    DESCRIPTION,
    MANUFACTURER,
    MODEL_NAME,
    SERIES_NUMBER,
    without_clock,
)
from pipeline.predict.heat_maps.pictures import CAUTION, NOT_DIAGNOSTIC

if TYPE_CHECKING:
    from pydicom import Dataset

VERSION = 1  # raise it whenever captures of the same picture change


def secondary_capture(
    source: "Dataset", picture_HW3: NDArray[np.uint8], finding: str, number: int, model: ModelIdentity
) -> bytes:
    """The picture as a DICOM file; the same scan, picture and model give the same bytes.

    Args:
        source: See `source.header`.
        picture_HW3: With its words, see `pictures.with_words`.
        finding: What it is of.
        number: Of the instance in its series, from 1.
        model: What made it.
    """
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

    made_uid = uid("heat map", source.SOPInstanceUID, finding, picture_HW3.tobytes().hex(), model.version, VERSION)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = SecondaryCaptureImageStorage, made_uid
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    made.update(deepcopy(source))  # else what is set here would be set there, too
    series_uid = uid("series of heat maps", source.StudyInstanceUID, model.fingerprint, model.version)
    made.SOPClassUID, made.SOPInstanceUID, made.SeriesInstanceUID = SecondaryCaptureImageStorage, made_uid, series_uid
    for name, value in _own_tags(finding, number, model, picture_HW3.shape).items():
        setattr(made, name, value)
    made.SourceImageSequence = [_reference(source)]
    made.PixelData = picture_HW3.tobytes() + b"\0" * (picture_HW3.size % 2)
    stream = io.BytesIO()
    without_clock(made, source).save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def _own_tags(finding: str, number: int, model: ModelIdentity, shape: tuple[int, ...]) -> dict[str, Any]:
    return {
        "Modality": "OT",
        "SeriesNumber": SERIES_NUMBER + 1,
        "InstanceNumber": number,
        "SeriesDescription": DESCRIPTION,
        "ImageType": ["DERIVED", "SECONDARY", "OTHER"],
        "ConversionType": "WSD",
        "Manufacturer": MANUFACTURER,
        "ManufacturerModelName": MODEL_NAME,
        "SoftwareVersions": model.version,
        "DerivationDescription": f"Occlusion heat map of {finding}"[:1024],
        "ImageComments": f"{NOT_DIAGNOSTIC} {CAUTION}",
        "BurnedInAnnotation": "YES",
        "PatientOrientation": "",
        "Rows": shape[0],
        "Columns": shape[1],
        "SamplesPerPixel": 3,
        "PlanarConfiguration": 0,
        "PhotometricInterpretation": "RGB",
        "BitsAllocated": 8,
        "BitsStored": 8,
        "HighBit": 7,
        "PixelRepresentation": 0,
    }


def _reference(source: "Dataset") -> "Dataset":
    from pydicom import Dataset

    reference = Dataset()
    reference.ReferencedSOPClassUID = source.SOPClassUID
    reference.ReferencedSOPInstanceUID = source.SOPInstanceUID
    return reference
