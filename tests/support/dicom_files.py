"""DICOM files made for tests: a plain chest radiograph, and whatever a test changes of it."""

import io
import warnings

import numpy as np
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian

MISSING = object()  # as a tag's value: the tag is left out


def chest(seed=0, side=96, bits=12):
    """A made-up chest with values up to the top of so many bits, uint16 (S, S)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0 : 1 : side * 1j, 0 : 1 : side * 1j]
    grey = 0.25 + 0.6 * np.exp(-(((x - 0.5) / 0.38) ** 4 + ((y - 0.55) / 0.55) ** 6))
    for middle in (0.3, 0.7):
        grey -= 0.45 * np.exp(-((((x - middle) / 0.14) ** 2 + ((y - 0.5) / 0.3) ** 2) ** 3))
    for _ in range(60):
        cx, cy, size, depth = rng.uniform(0.1, 0.9), rng.uniform(0.1, 0.9), rng.uniform(0.01, 0.05), rng.uniform(-1, 1)
        grey += 0.15 * depth * np.exp(-(((x - cx) / size) ** 2 + ((y - cy) / size) ** 2))
    grey = (grey - grey.min()) / (grey.max() - grey.min())
    return np.rint(grey * (2**bits - 1)).astype(np.uint16)


def dataset(values, *, syntax=ExplicitVRLittleEndian, **tags):
    """A data set of one picture; values (H, W), (H, W, 3) or (frames, H, W) with NumberOfFrames given."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    meta.MediaStorageSOPClassUID = ComputedRadiographyImageStorage
    meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    made = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    frames = tags.get("NumberOfFrames", 1)
    height, width = values.shape[1:3] if frames > 1 else values.shape[:2]
    bits = 8 * values.dtype.itemsize
    plain = {
        "SOPClassUID": ComputedRadiographyImageStorage,
        "SOPInstanceUID": "1.2.3.4",
        "Modality": "CR",
        "PatientID": "PAT-1234",
        "PatientName": "Doe^Jane",
        "StudyInstanceUID": "1.2.3",
        "SeriesInstanceUID": "1.2.3.1",
        "BodyPartExamined": "CHEST",
        "ViewPosition": "PA",
        "Rows": height,
        "Columns": width,
        "SamplesPerPixel": 3 if values.ndim == 3 and values.shape[-1] == 3 and frames == 1 else 1,
        "BitsAllocated": bits,
        "BitsStored": bits,
        "PixelRepresentation": int(values.dtype.kind == "i"),
        "PhotometricInterpretation": "RGB" if values.shape[-1] == 3 else "MONOCHROME2",
        "PixelData": values.tobytes(),
    }
    if plain["SamplesPerPixel"] == 3:
        plain["PlanarConfiguration"] = 0
    plain |= tags
    if "HighBit" not in plain and isinstance(plain["BitsStored"], int):
        plain["HighBit"] = plain["BitsStored"] - 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some tests write what the standard forbids, as real files do
        for name, value in plain.items():
            if value is not MISSING:
                setattr(made, name, value)
    return made


def file_bytes(values, **tags):
    """The same as a file."""
    stream = io.BytesIO()
    dataset(values, **tags).save_as(stream, enforce_file_format=False)
    return stream.getvalue()
