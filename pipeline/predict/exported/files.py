"""What an exported model brings to predict as the run does: our own code, copied, that needs nothing of this package.

The copy needs numpy, onnxruntime and Pillow, and pydicom for DICOM.
"""

import io
import re
from pathlib import Path
from types import ModuleType

import numpy as np

from embeddings import decode, decoding
from pipeline.contracts import storage
from pipeline.contracts.tables import write_bytes, write_text
from pipeline.pool.dicom import rules, tags, words
from pipeline.predict import formulas
from pipeline.predict.calibration import Redraws
from pipeline.predict.exported import standalone
from pipeline.predict.outside import Outside

SCRIPT, FOLDER, ARRAYS = "predict.py", "decoding", "predict.npz"
_OF_ARROW = "picture_keys.py"  # names of vectors: of no use elsewhere
_MOVED = {
    "from embeddings.decode import": f"from {FOLDER}.decode import",
    "embeddings.decoding": FOLDER,
    "pipeline.pool.dicom": FOLDER,
    "pipeline.contracts.storage": f"{FOLDER}.storage",
    "from pipeline.predict import": f"from {FOLDER} import",
    "pip install 'cxr-ssl[dicom]'": "pip install pydicom",
}
_ERROR = """\"\"\"The one error of a scan that cannot be used.\"\"\"


class DecodeError(Exception):
    \"\"\"A scan that cannot be used; the message says why.\"\"\"
"""
_SCRIPT = f'''"""Predict scans with this model: python predict.py SCAN_OR_FOLDER ... [--out FILE.csv]; --help says more.

It needs numpy, onnxruntime and Pillow, and pydicom for DICOM. In Python: `Model(HERE).row(path)`.
"""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from {FOLDER}.standalone import Model, main  # noqa: E402, F401 - the folder beside this file

if __name__ == "__main__":
    raise SystemExit(main(HERE))
'''


def write(out: Path, outside: Outside, redraws: Redraws) -> None:
    """Write `predict.py`, the code it uses and the arrays it compares with."""
    write_text(out / SCRIPT, _SCRIPT)
    stream = io.BytesIO()
    np.savez(
        stream,
        scale_Q=outside.scale_Q,
        reference_RQ=outside.reference_RQ,
        held_out_H=outside.held_out_H,
        temperature_B=redraws.temperature_B,
        bias_BC=redraws.bias_BC,
        log_prior_BC=redraws.log_prior_BC,
    )
    write_bytes(out / ARRAYS, stream.getvalue())
    for source in [*map(_source, (decode, storage, rules, tags, words, formulas, standalone)), *_decoders()]:
        text = _ERROR if source.name == "unusable.py" else source.read_text("utf-8")
        for ours, theirs in _MOVED.items():
            text = text.replace(ours, theirs)
        assert not re.search(r"^(from|import) (pipeline|embeddings)\b", text, re.MULTILINE), source
        write_text(out / FOLDER / source.name, text)


def _decoders() -> list[Path]:
    return [source for source in sorted(Path(decoding.__path__[0]).glob("*.py")) if source.name != _OF_ARROW]


def _source(module: ModuleType) -> Path:
    assert module.__file__ is not None
    return Path(module.__file__)
