"""Under which name a scan's picture is kept: its content, and the white where the pool decided it."""

import pyarrow as pa
import pyarrow.compute as pc

from embeddings.decoding.files import white_of

# Raise it whenever files of more than 8 bits are read in another way: what was kept of them is then made anew.
DEEP_VERSION = 3
# The same of files of 8 bits: vectors of earlier versions are left alone and made anew.
FLAT_VERSION = 2


def picture_key(sha256: str, uri: str) -> str:
    """The name of the picture of more than 8 bits that this content at this address holds."""
    white = white_of(uri)
    return f"{sha256}-deep{DEEP_VERSION}" + ("" if white is None else f"-white{white}")


def by_picture(scans: pa.Table) -> pa.Table:
    """Rows of a manifest whose `sha256` names the picture, not the file alone: what vectors and pixels are kept under.

    A file of 8 bits is one picture; one of more may be several, by what the pool decided is white.
    """
    deep = pc.fill_null(pc.greater(scans["bit_depth"], 8), False)
    if not pc.any(deep).as_py():
        return scans
    rows = zip(scans["sha256"].to_pylist(), scans["uri"].to_pylist(), deep.to_pylist(), strict=True)
    keys = [picture_key(sha, uri) if is_deep and sha is not None else sha for sha, uri, is_deep in rows]
    place = scans.column_names.index("sha256")
    return scans.set_column(place, "sha256", pa.array(keys, pa.string()))
