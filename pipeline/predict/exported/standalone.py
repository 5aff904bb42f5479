"""Predict scans with an exported model: `python predict.py SCAN_OR_FOLDER ... [--out FILE.csv]`.

It needs numpy, onnxruntime and Pillow, and pydicom for DICOM; without it a DICOM file is a row that says so. Rows are
those of `cxr-ssl predict`. A scan that cannot be used is a row with the reason.
"""

import argparse
import csv
import hashlib
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from embeddings.decode import IMAGE_ENDINGS, open_like_pool
from embeddings.decoding import dicom_file, grey_range, raster
from embeddings.decoding.unusable import DecodeError
from pipeline.pool.dicom import rules
from pipeline.predict import formulas

FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet would run a cell that begins so


class Model:
    """An exported model.

    Args:
        folder: With `model.onnx`, `card.json` and `predict.npz`.
        false_alarm_rate: Share of scans like the run's own that may be called outside; None: as the card says.
    """

    def __init__(self, folder: Path, false_alarm_rate: float | None = None) -> None:
        self.card: dict[str, Any] = json.loads((folder / "card.json").read_text("utf-8"))
        self._session = ort.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
        with np.load(folder / "predict.npz", allow_pickle=False) as arrays:
            self._arrays = dict(arrays)
        self._arrays["reference_RQ"] = self._arrays["reference_RQ"].astype(np.float64)
        rate = self.card["false_alarm_rate"] if false_alarm_rate is None else false_alarm_rate
        self._threshold = formulas.threshold(self._arrays["held_out_H"], rate)

    @property
    def findings(self) -> list[str]:
        """The classes."""
        return list(self.card["findings"])

    def columns(self) -> list[str]:
        """Names of what `row` gives."""
        probabilities = [f"prob_{finding}{end}" for finding in self.findings for end in ("", "_low", "_high")]
        return ["path", "sha256", "status", "reason", "answer", *probabilities, "outside_score", "outside", "note"]

    def row(self, path: Path) -> dict[str, Any]:
        """What is said of one file."""
        row: dict[str, Any] = dict.fromkeys(self.columns()) | {"path": str(path), "status": "unusable"}
        try:
            data = path.read_bytes()
            row["sha256"] = hashlib.sha256(data).hexdigest()
            square_SS, notes = self.square(data)
        except DecodeError as error:
            return row | {"reason": str(error).removesuffix(".")}
        except OSError as error:
            return row | {"reason": f"the file cannot be read: {error.strerror or error}"}
        except Exception as error:  # noqa: BLE001 - one bad scan must not end all others
            return row | {"reason": f"unexpected {type(error).__name__}: {str(error)[:120]}"}
        return row | {"status": "ok", "note": "; ".join(notes) or None} | self.predict(square_SS)

    def square(self, data: bytes) -> tuple[np.ndarray, tuple[str, ...]]:
        """What the network sees of a file's bytes, (S, S), float32 in [0, 1], and notes on how it was read.

        Raises:
            DecodeError: it cannot be used; says why.
        """
        steps = self.card["preprocessing"]
        if dicom_file.is_dicom(data):
            reason = rules.set_aside(dicom_file.parse(data, with_pixels=False), steps["set_aside"])
            if reason is not None:
                raise DecodeError(reason)
        asked, whites = steps["white"], steps["whites"]
        grey, white = open_like_pool(data, max_pixels=steps["max_pixels"], white=asked, whites=whites)
        note = None
        if asked is None and grey.open_bits is not None and white is not None:
            note = grey_range.note(grey.open_bits, grey.bit_depth, white, whites)
        return grey.square(steps["size_px"]), (*grey.notes, *([note] if note else []))

    def predict(self, square_SS: np.ndarray) -> dict[str, Any]:
        """Answer, probabilities with the calibration's interval, and whether the model knows such scans."""
        outputs = self._session.run(["logit", "probability", "features"], {"scan": square_SS[None, None]})
        logit_NC, prob_NC, x_NP = (np.asarray(output, np.float64) for output in outputs)
        arrays = self._arrays
        ends = formulas.calibration_interval(
            formulas.log_softmax(logit_NC / self.card["temperature"]),
            prob_NC,
            *(arrays[name] for name in ("temperature_B", "bias_BC", "log_prior_BC")),
        )
        best = int(np.argmax(prob_NC[0] / np.array(self.card["operating_weights"])))
        answers: dict[str, Any] = {"answer": self.findings[best]}
        for c, finding in enumerate(self.findings):
            for end, values_NC in zip(("", "_low", "_high"), (prob_NC, *ends), strict=True):
                answers[f"prob_{finding}{end}"] = float(values_NC[0, c])
        if self._threshold is not None:
            scaled_NQ = formulas.scaled(x_NP, arrays["scale_Q"])
            score = float(formulas.kth_distances(scaled_NQ, arrays["reference_RQ"])[0] / max(self._threshold, 1e-12))
            answers |= {"outside_score": score, "outside": score > 1.0}
        return answers


def scans(names: Iterable[str]) -> Iterator[Path]:
    """The files that are named, and those below the folders that are: pictures by their ending or their first bytes."""
    for name in names:
        path = Path(name)
        if not path.is_dir():
            yield path
            continue
        yield from (file for file in sorted(path.rglob("*")) if file.is_file() and _is_picture(file))


def _is_picture(path: Path) -> bool:
    if path.suffix.lower() in IMAGE_ENDINGS:
        return True
    try:
        with path.open("rb") as stream:
            head = stream.read(256)
    except OSError:
        return False
    return not path.suffix and (raster.is_raster(head) or dicom_file.is_dicom(head))


def cell(value: object) -> str:
    """Text that no spreadsheet takes for a formula; numbers in full; nothing for None."""
    if value is None or isinstance(value, bool):
        return "" if value is None else str(value).lower()
    text = str(value)
    return f"'{text}" if isinstance(value, str) and text.startswith(FORMULA) else text


def main(folder: Path, arguments: Sequence[str] | None = None) -> int:
    """Predict what the command line names; rows go to standard output, or to a file."""
    parser = argparse.ArgumentParser(prog="predict.py", description=__doc__)
    parser.add_argument("scans", nargs="+", help="files, or folders of files")
    parser.add_argument("--out", help="new .csv or .json file; left out: CSV on standard output")
    parser.add_argument("--false-alarms", type=float, help="share of scans like the run's own that may be outside")
    options = parser.parse_args(arguments)
    if options.out and (Path(options.out).exists() or Path(options.out).suffix.lower() not in (".csv", ".json")):
        parser.error(f"--out {options.out}: name a new file that ends in .csv or .json")
    model = Model(folder, options.false_alarms)
    rows = (model.row(path) for path in scans(options.scans))
    if options.out and options.out.lower().endswith(".json"):
        Path(options.out).write_text(json.dumps({"scans": list(rows)}, ensure_ascii=False, indent=1), "utf-8")
    elif options.out:
        with Path(options.out).open("w", encoding="utf-8", newline="") as stream:
            write_csv(stream, model.columns(), rows)
    else:
        write_csv(sys.stdout, model.columns(), rows)
    return 0


def write_csv(stream: Any, columns: Sequence[str], rows: Iterable[dict[str, Any]]) -> None:
    """Write rows as they come."""
    table = csv.writer(stream, lineterminator="\n")
    table.writerow([cell(name) for name in columns])
    table.writerows([cell(row[name]) for name in columns] for row in rows)
