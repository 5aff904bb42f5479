"""What an exported model brings to read scans as the run did: our own decoder, copied, and an example that uses it.

The copy needs numpy and Pillow, and pydicom for DICOM; nothing of this package.
"""

from pathlib import Path

import pyarrow.compute as pc

from embeddings import decode, decoding
from pipeline.contracts.tables import MANIFEST, write_text
from pipeline.runtime import run_files

EXAMPLE, FOLDER = "example.py", "decoding"
_OF_ARROW = "picture_keys.py"  # names of vectors: of no use elsewhere
_ERROR = """\"\"\"The one error of a scan that cannot be used.\"\"\"


class DecodeError(Exception):
    \"\"\"A scan that cannot be used; the message says why.\"\"\"
"""
_EXAMPLE = '''"""Apply the exported model to scans (PNG, JPEG, TIFF, DICOM): python example.py SCAN ..."""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from decoding.decode import open_grey  # noqa: E402 - the decoder beside this file, as the run used it

card = json.loads((HERE / "card.json").read_text("utf-8"))
size, whites = card["preprocessing"]["size_px"], card["preprocessing"]["whites"]
session = ort.InferenceSession(str(HERE / "model.onnx"), providers=["CPUExecutionProvider"])


def square_of(name):
    """Grey values (1, 1, S, S), 0 black to 1 white; what white is, the files of the run have settled."""
    data = Path(name).read_bytes()
    grey = open_grey(data, max_pixels=10**9)
    if grey.open_bits is not None:
        own = 2**grey.open_bits - 1
        grey = open_grey(data, max_pixels=10**9, white=min((w for w in whites if w >= own), default=own))
    return grey.square(size)[None, None]


for name in sys.argv[1:]:
    probability = session.run(["probability"], {"scan": square_of(name)})[0][0]
    finding = card["findings"][int(np.argmax(probability / np.array(card["operating_weights"])))]
    shown = ", ".join(f"{f} {p:.3f}" for f, p in zip(card["findings"], probability, strict=True))
    sys.stdout.write(f"{name}: {finding} ({shown})\\n")
'''


def whites(run: Path) -> list[int]:
    """The grey values that are white in those scans of a run whose files leave it open, ascending."""
    return sorted(pc.unique(run_files.read(run, MANIFEST)["white"]).drop_null().to_pylist())


def write(out: Path) -> None:
    """Write the example and the decoder it uses."""
    write_text(out / EXAMPLE, _EXAMPLE)
    assert decode.__file__ is not None
    sources = [Path(decode.__file__), *Path(decoding.__path__[0]).glob("*.py")]
    for source in sources:
        if source.name == "unusable.py":
            write_text(out / FOLDER / source.name, _ERROR)
        elif source.name != _OF_ARROW:
            text = source.read_text("utf-8").replace("embeddings.decoding", FOLDER)
            write_text(out / FOLDER / source.name, text)
