"""Under which name a scan's picture is kept: its content, and the white where the pool decided it."""

import pyarrow as pa
import pyarrow.compute as pc

from embeddings.decoding.files import white_of


def picture_key(sha256: str, uri: str) -> str:
    """The name of the picture of this content at this address."""
    white = white_of(uri)
    return sha256 if white is None else f"{sha256}-white{white}"


def by_picture(scans: pa.Table) -> pa.Table:
    """Rows of a manifest whose `sha256` names the picture, not the file alone: what vectors and pixels are kept under.

    A file is one picture, but for those whose white the pool decided.
    """
    decided = pc.match_substring(scans["uri"], "#white=")
    if not pc.any(decided).as_py():
        return scans
    pairs = zip(scans["sha256"].to_pylist(), scans["uri"].to_pylist(), strict=True)
    keys = pa.array([sha if sha is None else picture_key(sha, uri) for sha, uri in pairs], pa.string())
    return scans.set_column(scans.column_names.index("sha256"), "sha256", keys)
