"""Which file of a folder is which scan of a set: by the last parts of its path, whatever its ending.

Sets are unpacked into other folders than their owner's, and converted from DICOM to PNG; names stay.
"""

import re

import pyarrow as pa
import pyarrow.compute as pc

from embeddings.decode import IMAGE_ENDINGS
from pipeline.pool.sets.public_set import SetFolder

# N rows of the set, I images in the folder

_ENDING = r"(?i)(" + "|".join(re.escape(ending) for ending in IMAGE_ENDINGS) + r")$"
_ANY_ENDING = r"\.[A-Za-z][A-Za-z0-9]{0,7}$"
_HIDDEN = r"(^|/)(\.|__MACOSX/)"
_MASKS = r"(?i)mask|thumb|annot|heatmap"


def paths_of(folder: SetFolder, file_N: pa.ChunkedArray, num_parts: int) -> pa.ChunkedArray:
    """The path of each scan's file in the folder (N), null where no file is there.

    Longer ends of a path are tried before shorter ones, so that `a/1.png` is not taken for `b/1.png`. Of several files
    that would do one outside folders of masks and thumbnails is taken, and the nearest to the top.
    """
    path_I = _likeliest_first(_images(folder))
    stem_I = pc.replace_substring_regex(path_I, _ENDING, "")
    plain = pc.replace_substring_regex(pc.replace_substring(file_N, "\\", "/"), r"^(\./|/)+", "")
    stem_N = pc.replace_substring_regex(plain, _ENDING, "")
    most = pc.max(pc.count_substring(stem_N, "/")).as_py() or 0
    path_N = pa.chunked_array([pa.nulls(len(file_N), pa.string())])
    for num in range(max(most + 1, num_parts), num_parts - 1, -1):
        if not path_N.null_count:
            break
        place = pc.index_in(_last_parts(stem_N, num), value_set=_last_parts(stem_I, num))
        path_N = pc.coalesce(path_N, path_I.take(place))
    return path_N


def images_of(folder: SetFolder) -> list[str]:
    """Files that may be scans, those in folders of masks and thumbnails apart, sorted."""
    images = _images(folder)
    of_masks = pc.match_substring_regex(pc.replace_substring_regex(images, r"[^/]*$", ""), _MASKS)
    return sorted(images.filter(pc.invert(of_masks)).to_pylist())


def _images(folder: SetFolder) -> pa.Array:
    files = pa.array(folder.files, pa.string())
    has_no_ending = pc.invert(pc.match_substring_regex(files, _ANY_ENDING))
    may_be = pc.or_(pc.match_substring_regex(files, _ENDING), has_no_ending)
    return files.filter(pc.and_(may_be, pc.invert(pc.match_substring_regex(files, _HIDDEN))))


def _likeliest_first(images: pa.Array) -> pa.Array:
    keys = pa.table(
        {
            "mask": pc.match_substring_regex(images, _MASKS).cast(pa.int8()),
            "depth": pc.count_substring(images, "/"),
            "path": images,
        }
    )
    return images.take(pc.sort_indices(keys, [(name, "ascending") for name in keys.column_names]))


def _last_parts(stems: pa.Array | pa.ChunkedArray, num: int) -> pa.Array:
    """The last parts of each path; of a path that has fewer all of them."""
    return pa.array(
        ["/".join(stem.rsplit("/", num)[-num:]) if stem else stem for stem in stems.to_pylist()], pa.string()
    )
