"""Which DICOM files are no frontal radiographs of a chest, each with its reason; nothing else is left out.

What a file does not say is no reason: a missing or an unknown body part stays in the pool.
"""

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pipeline.pool.dicom import tags

if TYPE_CHECKING:
    from pydicom import Dataset

PREFIX = "set aside: "
# Projection radiographs, and what archives write for scanned or captured ones.
_RADIOGRAPHS = frozenset({"", "CR", "DX", "DR", "RG", "SC", "OT", "XR", "XC"})
_LOCALIZERS = frozenset({"LOCALIZER", "SCOUT", "TOPOGRAM", "SURVIEW", "SCANOGRAM"})
_CHEST = re.compile(
    r"CHEST|THORA|T[OÓ]RA[CX]|TORSO|LUNG|PULMO|POUMON|BRUST|TRUNK|CXR|\bRIBS?\b|WHOLE ?BODY", re.IGNORECASE
)
_PARTS = (
    r"ABDOM|ANKLE|ARM\b|BRAIN|BREAST|CALCANEUS|CALF|CERVICAL|CLAVICLE|COCCYX|[CLT][- ]?SPINE|ELBOW|EXTREMIT|EYE|FACE"
    r"|FACIAL|FEMUR|FIBULA|FINGER|FOOT|FOREARM|HAND|HEAD|HIP|HUMERUS|JAW|KIDNEY|KNEE|\bLEG|LUMBAR|MANDIBLE|MAXILLA"
    r"|NECK|NOSE|ORBIT|PATELLA|PELVI|RADIUS|SACRUM|SCAPULA|SHOULDER|SINUS|SKULL|SPINE|TEETH|THIGH|THUMB|TIBIA|\bTOE"
    r"|TOOTH|ULNA|WRIST|ZYGOMA|\b(UP|LOW)[_ ]?EXM|\bABD\b|DENTAL|BACKBONE"
    # German, French, Spanish, Italian, Portuguese
    r"|\b(BAUCH|BECKEN|FUSS|FUß|H(Ü|UE)FTE|KNIE|KNÖCHEL|SCH(Ä|AE)DEL|SCHULTER|SPRUNGGELENK|WIRBELS|[BHL]WS\b|ELLENBOGEN"
    r"|OBERARM|OBERSCHENKEL|UNTERARM|UNTERSCHENKEL|HANDGELENK)"
    r"|\b(BASSIN|CHEVILLE|COUDE|CRANE|CRÂNE|ÉPAULE|EPAULE|FÉMUR|GENOU|HANCHE|MAIN|PIED|POIGNET|RACHIS)S?\b"
    r"|\b(CADERA|CODO|COLUMNA|CRANEO|CRÁNEO|HOMBRO|MANO|MUÑECA|PELVIS|PIE|RODILLA|TOBILLO)S?\b"
    r"|\b(ANCA|BACINO|CAVIGLIA|CRANIO|GINOCCHIO|GOMITO|PIEDE|POLSO|RACHIDE|SPALLA)\b"
    r"|\b(BACIA|COLUNA|COTOVELO|JOELHO|M[AÃ]O|OMBRO|PUNHO|QUADRIL|TORNOZELO)\b"
)
_ELSEWHERE, _ELSEWHERE_WORD = (re.compile(pattern, re.IGNORECASE) for pattern in (_PARTS, rf"\b(?:{_PARTS})"))
# A description of a chest may speak of these as well (`face`, `head up`): they count in the tag of the part alone.
_ALSO_OF_CHESTS = re.compile(r"\bARM\b|EYE|FACE|HEAD|NECK|NOSE|\bLEG|RADIUS|ORBIT|\bMAIN\b", re.IGNORECASE)
_DESCRIPTIONS = ("SeriesDescription", "ProtocolName", "StudyDescription")


def set_aside(dataset: "Dataset", rules: Sequence[str]) -> str | None:
    """Why a file is set aside by the first of these rules that fits; None: by none."""
    for name, rule in _RULES.items():  # in the order of `config.SET_ASIDE_RULES`
        if name in rules and (reason := rule(dataset)) is not None:
            return PREFIX + reason
    return None


def _other_modality(dataset: "Dataset") -> str | None:
    modality = tags.text(dataset, "Modality").upper()
    if modality not in _RADIOGRAPHS:
        return f"modality {modality}, no radiograph"
    return None


def _localizer(dataset: "Dataset") -> str | None:
    kinds = {str(value).upper() for value in dataset.get("ImageType") or []}
    named = set(tags.text(dataset, "SeriesDescription").upper().split())
    return "a localizer" if (kinds | named) & _LOCALIZERS else None


def _other_body_part(dataset: "Dataset") -> str | None:
    part = tags.text(dataset, "BodyPartExamined")
    if not part:
        items = dataset.get("AnatomicRegionSequence")
        part = tags.text(items[0], "CodeMeaning") if items else ""
    if not part:
        return _other_part_in_words(dataset)
    is_chest = _CHEST.search(part) and "SPINE" not in part.upper()  # the thoracic spine is another study
    return None if is_chest or not _ELSEWHERE.search(part) else f"body part {part.upper()}"


def _other_part_in_words(dataset: "Dataset") -> str | None:
    """By the descriptions of a file whose tags name no part: `SHOULDER AP`; what speaks of a chest too stays."""
    words = " ".join(tags.text(dataset, name) for name in _DESCRIPTIONS).replace("_", " ")
    named = None if _CHEST.search(words) else _ELSEWHERE_WORD.search(_ALSO_OF_CHESTS.sub(" ", words))
    return None if named is None else f"its description names {named[0].strip().upper()}, and no chest"


def _for_processing(dataset: "Dataset") -> str | None:
    is_raw = tags.text(dataset, "PresentationIntentType").upper() == "FOR PROCESSING"
    return "raw values of the detector, for processing and not for reading" if is_raw else None


def _lateral(dataset: "Dataset") -> str | None:
    return "a lateral view" if tags.view(dataset) == "LL" else None


_RULES: dict[str, Callable[["Dataset"], str | None]] = {
    "other-modality": _other_modality,
    "localizer": _localizer,
    "other-body-part": _other_body_part,
    "for-processing": _for_processing,
    "lateral": _lateral,
}
