"""Near duplicates: recall of planted copies by edit and strength, false pairs, and time up to a million hashes.

Array suffixes: N scans, M copies, B bytes of a hash, K cosine terms, P pairs.
"""

import io
import itertools
import multiprocessing
import resource
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image, ImageOps

from embeddings.decode import open_grey
from embeddings.decoding.files import read_bytes
from pipeline.contracts import config_file
from pipeline.contracts.options.scans import DuplicatesConfig
from pipeline.contracts.tables import DUPLICATES, MANIFEST
from pipeline.pool import duplicates, hash_pairs, manifest, phantoms, picture_hash
from pipeline.pool.copies.thumbnails import ScanFile, scan_files
from pipeline.pool.reading import ReadingOptions
from pipeline.runtime.context import StageContext
from pipeline.runtime.engine import SerialEngine
from tests.bench import pools, tables

Bytes = NDArray[np.uint8]
Picture = Image.Image

NUM_ORIGINALS = {"kermany": 300, "covid3": 200, "phantom": 100}
SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000)
STEPS_BITS = (0, 10, 20, 25, 30, 35, 40, 45)
MAX_PIXELS = 10**8
PHANTOM_SEEDS = (0, 1, 2, 3)
_HALF = picture_hash.NUM_BYTES // 2
_DENSE_SHARE = 0.12  # of the synthetic scans are close to the mean, as the real look-alikes are


def encoded(image: Picture, quality: int | None = None) -> bytes:
    """PNG, or JPEG of a quality."""
    data = io.BytesIO()
    if quality is None:
        image.save(data, "PNG", compress_level=1)
    else:
        image.save(data, "JPEG", quality=quality)
    return data.getvalue()


def resized(image: Picture, scale: float) -> Picture:
    """Both sides by a factor."""
    size = (round(image.width * scale), round(image.height * scale))
    return image.resize(size, Image.Resampling.BICUBIC if scale > 1 else Image.Resampling.LANCZOS)


def cropped(image: Picture, share: float) -> Picture:
    """Without a share of each side."""
    x, y = round(image.width * share), round(image.height * share)
    return image.crop((x, y, image.width - x, image.height - y))


def brightened(image: Picture, gain: float) -> Picture:
    """Times a gain, clipped at white."""
    return image.point([min(255, round(gain * value)) for value in range(256)])


def windowed(image: Picture, share: float) -> Picture:
    """Linear window between two percentiles of the greys, clipped."""
    low, high = np.percentile(np.asarray(image), [100 * share, 100 - 100 * share])
    return image.point([round(255 * min(1.0, max(0.0, (v - low) / max(high - low, 1)))) for v in range(256)])


# Edit to its three strengths and what it does.
EDITS: dict[str, tuple[tuple[float, ...], Callable[[Picture, Any], bytes]]] = {
    "resized by": ((0.75, 0.5, 1.5), lambda image, s: encoded(resized(image, s))),
    "JPEG of quality": ((90, 60, 30), encoded),
    "cropped a side by": ((0.01, 0.02, 0.04), lambda image, s: encoded(cropped(image, s))),
    "brightened by": ((1.05, 1.15, 1.3), lambda image, s: encoded(brightened(image, s))),
    "windowed, clipping at each end": ((0.02, 0.05, 0.10), lambda image, s: encoded(windowed(image, s))),
    "inverted, resized by": ((1.0, 0.5, 1.5), lambda image, s: encoded(resized(ImageOps.invert(image), s))),
    "inverted, JPEG of quality": ((90, 60, 30), lambda image, s: encoded(ImageOps.invert(image), s)),
    "inverted, cropped a side by": ((0.01, 0.02, 0.04), lambda image, s: encoded(cropped(ImageOps.invert(image), s))),
}


def main(data: Path, given: Namespace) -> None:
    """Measure and write `results/duplicates.md`."""
    with tempfile.TemporaryDirectory() as folder:
        found = {name: read_pool(pools.uri(data, name), Path(folder) / name) for name in NUM_ORIGINALS}
        rows, flips_MB, num_false, num_looked_at = recall_rows(found, Path(folder))
        false_rows = own_pairs(Path(folder), list(NUM_ORIGINALS))
        scale_rows = scaling_rows(found["kermany"], flips_MB, Path(folder))
    count = ", ".join(f"{num} of {name}" for name, num in NUM_ORIGINALS.items())
    notes = (
        f"Originals: {count}; each copy is searched for in the whole pool of its original. Between the copies and "
        f"other scans of the pools, {num_looked_at} pairs were looked at and {num_false} confirmed.\n\n"
        + _table(("pool", "scans", "exact copies", "pairs looked at", "confirmed", "of them not planted"), false_rows)
        + "\n\nFollow-up scans of one person are what a phantom pool has many of. `covid3` has one film twice.\n\n"
        + _table(
            (
                "hashes",
                "s",
                "CPU s",
                "peak MB",
                "look-alike pairs a scan",
                "groups",
                *(f"recall {a}-{b - 1} bits" for a, b in itertools.pairwise(STEPS_BITS)),
                "all",
            ),
            scale_rows,
        )
        + "\n\nSynthetic hashes: signs of cosine terms drawn with the covariance of Kermany's, a share near their mean "
        "so that look-alikes are as dense as there; 2 % of them copies that differ as planted copies do, 1 % equal "
        "files. Two threads, a fresh process for each size; memory includes Python and its libraries."
    )
    tables.write(
        "duplicates",
        "Near duplicates: recall, false pairs, time",
        "python -m tests.bench duplicates",
        ("edit", "mild", "medium", "strong", "recall %, mild", "medium", "strong"),
        rows,
        notes,
    )


def read_pool(uri: str, folder: Path) -> pa.Table:
    """The manifest of a pool, made in `folder`."""
    folder.mkdir()
    manifest.run(_context(uri, folder))
    return MANIFEST.read(folder)


def recall_rows(found: dict[str, pa.Table], folder: Path) -> tuple[list[list[str]], Bytes, int, int]:
    """Recall of every edit, hash differences of the copies, and false pairs among those looked at."""
    rows: list[list[str]] = []
    flips: list[Bytes] = []
    total = np.zeros(4, np.int64)  # copies, found, false, looked at
    for edit, (strengths, change) in EDITS.items():
        shares = []
        for strength in strengths:
            counts = np.zeros(4, np.int64)
            for name, pool in found.items():
                counted, flip_MB = planted(pool, NUM_ORIGINALS[name], lambda image: change(image, strength), folder)  # noqa: B023
                counts += counted
                flips.append(flip_MB)
            shares.append(f"{100 * counts[1] / counts[0]:.2f}")
            total += counts
        rows.append([edit, *(f"{strength:g}" for strength in strengths), *shares])
    rows.append(["all", "", "", "", f"{100 * total[1] / total[0]:.2f}", f"({total[1]} of {total[0]})", ""])
    return rows, np.concatenate(flips), int(total[2]), int(total[3])


def planted(
    pool: pa.Table, num: int, change: Callable[[Picture], bytes], folder: Path
) -> tuple[tuple[int, int, int, int], Bytes]:
    """Copies made, found, pairs confirmed with another picture, such pairs looked at; and the copies' hash flips."""
    rng = np.random.default_rng(0)
    chosen = rng.choice(len(pool), num, replace=False)
    uris = []
    for i, row in enumerate(chosen):
        original = open_grey(read_bytes(pool["uri"][int(row)].as_py()), max_pixels=MAX_PIXELS).eight_bit()
        path = folder / f"copy{i}"
        path.write_bytes(change(original))
        uris.append(str(path))
    copies = manifest.read_shard(manifest.Shard(uris, uris, ReadingOptions(MAX_PIXELS)))
    hash_NB, hash_MB = (duplicates.hash_bytes(table["picture_hash"]) for table in (pool, copies))
    pairs, num_candidates = duplicates.near_pairs_between(
        (hash_NB, scan_files(pool)),
        (hash_MB, [ScanFile(*row) for row in zip(uris, copies["sha256"].to_pylist(), strict=True)]),
        SerialEngine(),
        DuplicatesConfig(),
        MAX_PIXELS,
    )
    looked_at = hash_pairs.between(hash_NB, hash_MB, DuplicatesConfig().max_bits)
    same = _same_picture(pool)
    own_P, own_looked_P = (same[p.left_P] == same[chosen[p.right_P]] for p in (pairs, looked_at))
    num_found = len(np.unique(pairs.right_P[pairs.left_P == chosen[pairs.right_P]]))
    assert num_candidates == len(looked_at)
    return (num, num_found, int((~own_P).sum()), int((~own_looked_P).sum())), _flips(hash_NB[chosen], hash_MB)


def _flips(hash_MB: Bytes, copy_MB: Bytes) -> Bytes:
    """Which bits a copy turns, seen from the half of the original it is nearest to; that view is the last column."""
    bits_VM = np.stack([_apart(_seen(hash_MB, view), copy_MB, view) for view in range(3)])
    view_M = bits_VM.argmin(axis=0)
    seen_VMB = np.stack([_seen(hash_MB, view) for view in range(3)])
    flip_MB = seen_VMB[view_M, np.arange(len(hash_MB))] ^ copy_MB
    return np.concatenate([flip_MB, view_M[:, None].astype(np.uint8)], axis=1)


def _apart(seen_MB: Bytes, copy_MB: Bytes, view: int) -> NDArray[np.int64]:
    half = slice(_HALF, None) if view == 2 else slice(_HALF)
    bits_M = np.bitwise_count(seen_MB[:, half] ^ copy_MB[:, half]).sum(axis=1, dtype=np.int64)
    return np.minimum(bits_M, picture_hash.NUM_BITS - bits_M)


def _seen(hash_MB: Bytes, view: int) -> Bytes:
    """Whole and inner half; the inner half twice (of which a cropped copy is the whole); the whole half twice."""
    whole_MB, inner_MB = hash_MB[:, :_HALF], hash_MB[:, _HALF:]
    return np.concatenate([inner_MB if view == 1 else whole_MB, whole_MB if view == 2 else inner_MB], axis=1)


def _same_picture(pool: pa.Table) -> NDArray[np.int64]:
    """A number for each picture: equal bytes, and the copies that a phantom pool plants, share it."""
    known = {f"{spec.image_path}": spec for spec in phantoms.plan(phantoms.PhantomSpec())}
    names = []
    for path, sha256 in zip(pool["path"].to_pylist(), pool["sha256"].to_pylist(), strict=True):
        scan = known.get(path)
        names.append(sha256 if scan is None else scan.duplicate_of or path)
    return np.unique(names, return_inverse=True)[1].astype(np.int64)


def own_pairs(folder: Path, names: list[str]) -> list[list[Any]]:
    """What the stage finds in the pools as they are, and in phantom pools of other seeds, whose copies are known."""
    rows = []
    for name in (*names, *(f"phantom, seed {seed}" for seed in PHANTOM_SEEDS[1:])):
        where, seed = folder / name, 0
        if not where.exists():
            seed = int(name.rpartition(" ")[2])
            written = phantoms.write_pool(phantoms.PhantomSpec(seed=seed), folder / f"pool{seed}")
            read_pool(str(written), where)
        counts = duplicates.run(_context("phantom:", where))
        strange = counts["num_near_pairs"]
        if name.startswith("phantom"):
            strange = _not_planted(where, seed)
        rows.append(
            [
                name,
                len(MANIFEST.read(where)),
                counts["num_exact"],
                counts["num_candidate_pairs"],
                counts["num_near_pairs"],
                strange,
            ]
        )
    return rows


def _not_planted(folder: Path, seed: int) -> int:
    """Scans that the stage ties to a picture of which they are no copy."""
    planned = {scan.image_path: scan.duplicate_of or scan.image_path for scan in phantoms.plan(_spec(seed))}
    table = MANIFEST.read(folder)
    paths = dict(zip(table["image_id"].to_pylist(), table["path"].to_pylist(), strict=True))
    found = DUPLICATES.read(folder)
    pairs = zip(found["image_id"].to_pylist(), found["canonical_id"].to_pylist(), strict=True)
    return sum(planned[paths[own]] != planned[paths[canonical]] for own, canonical in pairs)


def _spec(seed: int) -> phantoms.PhantomSpec:
    return phantoms.PhantomSpec(seed=seed)


def scaling_rows(pool: pa.Table, flips_MB: Bytes, folder: Path) -> list[list[str]]:
    """One row a size, each measured in a process of its own."""
    terms_NK = cosine_terms(pool)
    rows = []
    for num in SIZES:
        path = folder / "hashes.npz"
        np.savez(path, **synthetic(terms_NK, flips_MB, num))
        with multiprocessing.get_context("spawn").Pool(1) as process:
            found = process.apply(grouped, (path,))
        rows.append([f"{num:,}", *found])
    return rows


def cosine_terms(pool: pa.Table) -> NDArray[np.float32]:
    """The terms whose signs are the hash, of the whole and of the inner part, each scan of length 1; (N, 512)."""
    side = picture_hash.SIDE_PX
    images = [open_grey(read_bytes(uri), max_pixels=MAX_PIXELS).square(side) for uri in pool["uri"].to_pylist()]
    image_NSS = np.rint(np.stack(images) * 255).astype(np.uint8)
    terms_NK = np.concatenate([part.reshape(len(images), -1) for part in picture_hash.cosine_terms(image_NSS)], axis=1)
    normed: NDArray[np.float32] = terms_NK / np.linalg.norm(terms_NK[:, 1:256], axis=1, keepdims=True)
    return normed


def synthetic(terms_NK: NDArray[np.float32], flips_MB: Bytes, num: int) -> dict[str, NDArray[Any]]:
    """Hashes of a pool with copies: which row copies which, and which rows are equal files."""
    rng = np.random.default_rng(num)
    mean_K = terms_NK.mean(axis=0)
    value_K, vector_KK = np.linalg.eigh(np.cov(terms_NK.T))
    spread_KK = (vector_KK * np.sqrt(np.maximum(value_K, 0))).astype(np.float32)
    parts = []
    for start in range(0, num, 50_000):
        size = min(50_000, num - start)
        dense = rng.random((size, 1)) < _DENSE_SHARE
        far = np.where(dense, rng.uniform(0.1, 0.5, (size, 1)), rng.uniform(0.5, 1.1, (size, 1))).astype(np.float32)
        drawn_NK = mean_K + far * (rng.standard_normal((size, 512), np.float32) @ spread_KK.T)
        parts.append(picture_hash.signs((drawn_NK[:, :256], drawn_NK[:, 256:])))
    hash_NB = np.concatenate(parts)
    places = rng.permutation(num)
    num_copies, num_equal = num // 50, num // 100
    source, copy = places[:num_copies], places[num_copies : 2 * num_copies]
    flip_MB = flips_MB[rng.integers(0, len(flips_MB), num_copies)]
    seen_VMB = np.stack([_seen(hash_NB[source], view) for view in range(3)])
    hash_NB[copy] = seen_VMB[flip_MB[:, -1], np.arange(num_copies)] ^ flip_MB[:, :-1]
    first, equal = places[-num_equal:], places[-2 * num_equal : -num_equal]
    hash_NB[equal] = hash_NB[first]
    content = np.arange(num)
    content[equal] = first
    return {"hash_NB": hash_NB, "source": source, "copy": copy, "content": content}


def grouped(path: Path) -> list[str]:
    """Group the hashes of a file as the stage does, without the pixels: seconds, CPU seconds, memory, recall."""
    with np.load(path) as held:
        hash_NB, source, copy, content = (held[name] for name in ("hash_NB", "source", "copy", "content"))
    table = pa.table({"sha256": pa.array([f"{value:064x}" for value in content.tolist()])})
    start, start_cpu = time.perf_counter(), time.process_time()
    firsts, same_bytes = duplicates.exact_links(table, np.arange(len(hash_NB)))
    pairs = hash_pairs.within(hash_NB[firsts], DuplicatesConfig().max_bits, num_threads=2)
    left, right = firsts[pairs.left_P], firsts[pairs.right_P]
    group_N = duplicates.components(len(hash_NB), [same_bytes, (left, right)])
    seconds, cpu = time.perf_counter() - start, time.process_time() - start_cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    bits_M = hash_pairs.distances(hash_NB[source], hash_NB[copy])
    code = np.minimum(left, right) * len(hash_NB) + np.maximum(left, right)
    wanted = np.minimum(source, copy) * len(hash_NB) + np.maximum(source, copy)
    found_M = np.isin(wanted, code)
    recall = []
    for low, high in itertools.pairwise(STEPS_BITS):
        inside = (bits_M >= low) & (bits_M < high)
        recall.append(f"{100 * found_M[inside].mean():.1f} % ({inside.sum()})" if inside.any() else "-")
    near_M = bits_M < STEPS_BITS[-1]
    others = (len(pairs) - found_M.sum()) / len(hash_NB)
    num_groups = len(np.unique(group_N))
    return [
        f"{seconds:.1f}",
        f"{cpu:.1f}",
        f"{peak:.0f}",
        f"{others:.4f}",
        f"{num_groups:,}",
        *recall,
        f"{100 * found_M[near_M].mean():.2f} %",
    ]


def _context(uri: str, folder: Path) -> StageContext:
    config = config_file.load(None, {"pool.uri": uri, "engine.backend": "serial"})
    return StageContext(config, folder, SerialEngine())


def _table(header: tuple[str, ...], rows: list[list[Any]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "| " + " | ".join("---" for _ in header) + " |"]
    return "\n".join([*lines, *("| " + " | ".join(str(cell) for cell in row) + " |" for row in rows)])
