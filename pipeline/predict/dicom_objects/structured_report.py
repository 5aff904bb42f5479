"""A DICOM structured report of a prediction: a measurement report (TID 1500) with a group for every finding.

It is marked as partial, preliminary and unverified, and says in a code of its own that it is not for diagnostic use.
"""

import io
import warnings
from typing import TYPE_CHECKING, Any

from pipeline.contracts.errors import InputError
from pipeline.predict import columns
from pipeline.predict.dicom_objects.source import ModelIdentity, uid

if TYPE_CHECKING:
    from pydicom import Dataset

VERSION = 1  # raise it whenever reports of the same row change
INSTALL = "pip install 'cxr-ssl[hospital]'"
MANUFACTURER, MODEL_NAME = "cxr-ssl", "cxr-ssl predict"
DESCRIPTION = "cxr-ssl: NOT FOR DIAGNOSTIC USE"
SCHEME = "99CXRSSL"  # of codes that no dictionary has
SERIES_NUMBER = 9001
_LONGEST_CODE, _LONGEST_MEANING = 16, 64  # characters


def refuse_without_library() -> None:
    """Refuse to promise reports where the library that writes them is missing.

    Raises:
        InputError: it is.
    """
    try:
        import highdicom  # noqa: F401
    except ImportError as error:
        raise InputError("structured reports need highdicom", where="--dicom", fix=INSTALL) from error


def structured_report(source: "Dataset", row: dict[str, Any], findings: list[str], model: ModelIdentity) -> bytes:
    """The report of one scan as a DICOM file; the same scan, row and model give the same bytes.

    Args:
        source: See `source.header`.
        row: Its row, see `columns`.
        findings: Whose probabilities it holds.
        model: What predicted it.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names in odd forms, which are copied as they are
        return _written(source, row, findings, model)


def _written(source: "Dataset", row: dict[str, Any], findings: list[str], model: ModelIdentity) -> bytes:
    from highdicom import sr
    from pydicom.sr.codedict import codes

    key = (source.SOPInstanceUID, row["sha256"], model.fingerprint, model.version, VERSION)
    groups = [_group(source, row, finding, key) for finding in findings if row.get(f"prob_{finding}") is not None]
    device = sr.DeviceObserverIdentifyingAttributes(
        uid=uid("device", model.fingerprint),
        name=MODEL_NAME,
        manufacturer_name=MANUFACTURER,
        model_name=f"round {model.round_index}, {model.fingerprint}",
        serial_number=model.version,
    )
    context = sr.ObservationContext(
        observer_device_context=sr.ObserverContext(
            observer_type=codes.DCM.Device, observer_identifying_attributes=device
        )
    )
    report = sr.MeasurementReport(
        observation_context=context,
        procedure_reported=_code("Chest radiograph"),
        imaging_measurements=groups,
    )
    made = sr.ComprehensiveSR(
        evidence=[source],
        content=report,
        series_instance_uid=uid("series of reports", source.StudyInstanceUID, model.fingerprint, model.version),
        series_number=SERIES_NUMBER,
        sop_instance_uid=uid("report", *key),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MODEL_NAME,
        software_versions=model.version,
        series_description=DESCRIPTION,
    )
    stream = io.BytesIO()
    without_clock(made, source).save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def without_clock(made: "Dataset", source: "Dataset") -> "Dataset":
    """An object with the study's date in place of the clock's, so that making it again changes nothing."""
    for name in ("InstanceCreationDate", "InstanceCreationTime"):
        if name in made:
            delattr(made, name)
    for equipment in made.get("ContributingEquipmentSequence", ()):
        if "ContributionDateTime" in equipment:
            del equipment.ContributionDateTime
    made.ContentDate, made.ContentTime = source.StudyDate or "19000101", source.StudyTime or "000000"
    return made


def _group(source: "Dataset", row: dict[str, Any], finding: str, key: tuple[object, ...]) -> Any:
    """The measurements of one finding: its probability, its ends, the score of being outside, and what is decided."""
    from highdicom import sr
    from pydicom.sr.codedict import codes

    names = ("Probability", "Probability, lower 95% limit", "Probability, upper 95% limit")
    values = [(name, row.get(column)) for name, column in zip(names, columns.names_of(finding), strict=True)]
    values.append(("Distance from known scans over threshold", row.get("outside_score")))
    measurements = [
        sr.Measurement(name=_code(name), value=float(value), unit=codes.UCUM.NoUnits)
        for name, value in values
        if value is not None
    ]
    evaluations = {"Use": "Not for diagnostic use", "Answer of the model": row.get("answer")}
    evaluations["Decision"] = row.get(columns.decision_of(finding))
    if row.get("outside") is not None:
        evaluations["Outside what the model knows"] = "yes" if row["outside"] else "no"
    return sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(uid=uid("finding", finding, *key), identifier=finding),
        finding_type=_code(finding),
        measurements=measurements,
        qualitative_evaluations=[
            sr.QualitativeEvaluation(name=_code(name), value=_code(value))
            for name, value in evaluations.items()
            if value
        ],
        source_images=[sr.SourceImageForMeasurementGroup(source.SOPClassUID, source.SOPInstanceUID)],
    )


def _code(meaning: str) -> Any:
    """A word as a code of our own scheme: its value is a hash, so that words which are cut alike stay apart."""
    from hashlib import sha256

    from highdicom.sr import CodedConcept

    value = sha256(meaning.encode()).hexdigest()[:_LONGEST_CODE]
    return CodedConcept(value=value, scheme_designator=SCHEME, meaning=meaning[:_LONGEST_MEANING])
