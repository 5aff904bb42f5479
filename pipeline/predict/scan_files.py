"""What is written beside the row of a scan: pictures of its heat maps, and DICOM objects."""

import json
import re
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from embeddings.decoding.files import read_bytes
from embeddings.decoding.unusable import DecodeError
from pipeline.contracts.errors import InputError
from pipeline.contracts.tables import write_bytes, write_text
from pipeline.labels.decision_thresholds import Rules
from pipeline.predict import columns, decisions, writers
from pipeline.predict.dicom_objects.secondary_capture import secondary_capture
from pipeline.predict.dicom_objects.source import ModelIdentity, SourceError, header
from pipeline.predict.dicom_objects.structured_report import structured_report
from pipeline.predict.heat_maps import occlusion, pictures
from pipeline.predict.heat_maps.checks import Check
from pipeline.predict.heat_maps.occlusion import Reference
from pipeline.predict.predictor import Predictor

_STRANGE = re.compile(r"[^\w.-]+")  # in the name of a finding, which becomes part of a file's name


@dataclass(frozen=True)
class ScanFiles:
    """What is written, and where; it travels with every task.

    Attributes:
        heat_maps: Folder of the heat maps; None: none are made.
        references: Of the findings whose maps have passed their checks.
        dicom: Folder of structured reports and, with `heat_maps`, secondary captures; None: none are made.
        identity: What DICOM objects say of the model.
        rules: Thresholds of `decisions`, which reports speak of.
    """

    heat_maps: Path | None = None
    references: Mapping[str, Reference] = field(default_factory=dict)
    dicom: Path | None = None
    identity: ModelIdentity | None = None
    rules: Rules = field(default_factory=dict)

    def write(self, model: Predictor, row: dict[str, Any], square_SS: np.ndarray, uri: str) -> None:
        """Write the files of one scan; what cannot be written is said in the row's note.

        Args:
            model: What predicted it.
            row: Its row, filled, with `width_px` and `height_px` of the file's picture.
            square_SS: What the network saw of it.
            uri: Of its file.
        """
        if row["status"] != columns.OK:
            return
        maps = occlusion.heat_maps(square_SS, model.evidence, self.references) if self.heat_maps is not None else {}
        worded: dict[str, np.ndarray] = {}
        for finding, heat_SS in maps.items():
            heading = pictures.title(finding, row.get(f"prob_{finding}"), heat_SS, bool(row.get("outside")))
            picture_HW3 = pictures.overlay(square_SS, heat_SS, row["width_px"], row["height_px"])
            worded[finding] = pictures.with_words(picture_HW3, heading)
            assert self.heat_maps is not None
            place = self.heat_maps / name_of(row, f"{file_name(finding)}.png")
            write_bytes(place, pictures.png(worded[finding], heading))
        if self.dicom is not None:
            note = self._write_dicom(model, row, worded, uri)
            row["note"] = "; ".join(part for part in (row.get("note"), note) if part) or None

    def _write_dicom(
        self, model: Predictor, row: dict[str, Any], pictures_of: Mapping[str, np.ndarray], uri: str
    ) -> str | None:
        """Write the objects of one scan; returns why there are none."""
        assert self.dicom is not None
        assert self.identity is not None
        try:
            source = header(read_bytes(uri, model.recipe.reading.max_bytes))
            decided = row | decisions.of_row(row, self.rules)
            objects = {"sr.dcm": structured_report(source, decided, list(model.findings), self.identity)}
            for number, (finding, picture_HW3) in enumerate(pictures_of.items(), start=1):
                capture = secondary_capture(source, picture_HW3, finding, number, self.identity)
                objects[f"{file_name(finding)}.dcm"] = capture
        except (SourceError, DecodeError) as error:
            return f"no DICOM objects: {error}"
        except (ValueError, TypeError, AttributeError) as error:  # an odd header must not end a million scans
            return f"no DICOM objects: {type(error).__name__}: {str(error)[:120]}"
        for ending, data in objects.items():
            write_bytes(self.dicom / name_of(row, ending), data)
        return None


def name_of(row: dict[str, Any], ending: str) -> str:
    """The scan's path inside the pool with something behind it, see `writers.sidecar_name`."""
    return f"{writers.sidecar_name(row['path'], row['image_id']).removesuffix('.json')}.{ending}"


def file_name(finding: str) -> str:
    """A finding as part of a file's name."""
    return _STRANGE.sub("-", finding).strip(".-") or "finding"


class NewFolder:
    """A folder that appears when all went well, and not at all otherwise.

    Args:
        path: That is not there yet.
        where: The option that names it.

    Raises:
        InputError: it is there already, or the folder it would lie in is missing.
    """

    def __init__(self, path: Path, where: str) -> None:
        self._path = path.absolute()
        if self._path.exists() or self._path.is_symlink():
            raise InputError("is there already", value=str(path), where=where, fix="name a new one")
        if not self._path.parent.is_dir():
            raise InputError(
                "the folder it would lie in is missing", value=str(self._path.parent), where=where, fix="make it first"
            )
        self.partial = self._path.with_name(f".{self._path.name}.{uuid.uuid4().hex[:8]}.part")

    def __enter__(self) -> "NewFolder":
        self.partial.mkdir()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.partial.replace(self._path)
        else:
            shutil.rmtree(self.partial, ignore_errors=True)


def write_checks(folder: Path, check_by_finding: dict[str, Check]) -> None:
    """Write what the checks came to beside the maps, with the caution they all carry."""
    content = {
        "caution": pictures.CAUTION,
        "not_for_diagnostic_use": True,
        "method": "occlusion",
        "findings": {
            finding: asdict(check) | {"shown": check.reason is None} for finding, check in check_by_finding.items()
        },
    }
    write_text(folder / "checks.json", json.dumps(content, ensure_ascii=False, indent=1))
