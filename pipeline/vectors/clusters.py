"""FAISS: spherical k-means of the pool, a 2-D map for people, and neighbour lists where labels spread over them."""

import logging
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.contracts.tables import CLUSTERS, SPLIT_TABLE
from pipeline.runtime import run_files
from pipeline.runtime.context import StageContext
from pipeline.vectors import neighbor_graph, principal_components
from pipeline.vectors.matrix import UnitRows, Vectors
from pipeline.vectors.row_blocks import row_blocks

# N scans, D dimensions, K clusters

log = logging.getLogger(__name__)


def run(ctx: StageContext) -> dict[str, Any]:
    """Cluster the training pool and place every scan in its cluster; link the training pool's neighbours if asked."""
    vectors = Vectors.open(ctx.folder)
    config = ctx.config.cluster
    train = vectors.positions(train_ids(run_files.read(ctx.folder, SPLIT_TABLE, ["image_id", "split"])))
    wanted = ctx.config.train.num_components
    num_components = principal_components.write(ctx.folder, vectors.emb_ND, train, wanted, ctx.engine)
    principal_components.write_similarity(ctx.folder, vectors.own_ND, train, num_components, ctx.engine)
    unit_ND = UnitRows(principal_components.load_similarity(ctx.folder))  # centred on the training pool
    num_clusters = min(config.num_clusters or int(np.clip(np.sqrt(len(train) / 2), 8, 1000)), len(train))
    seed = int(ctx.rng("clusters").integers(2**31))
    centroid_KD = train_centroids(
        unit_ND,
        num_clusters,
        seed=seed,
        n_iter=config.n_iter,
        max_points=config.max_points_per_centroid,
        rows_M=train,
    )
    cluster_N, cosine_N = assign(unit_ND, centroid_KD)
    xy_N2 = _plane(unit_ND, train)
    CLUSTERS.write(
        ctx.folder,
        pa.table(
            {
                "image_id": vectors.ids,
                "cluster": cluster_N,
                "similarity": cosine_N,
                "x": xy_N2[:, 0],
                "y": xy_N2[:, 1],
            },
            schema=CLUSTERS.schema,
        ),
    )
    if ctx.config.pseudo.propagate > 0.0:
        neighbors = neighbor_graph.neighbors(unit_ND, ctx.config.pseudo.num_neighbors, train)
        neighbor_graph.save(ctx.folder / run_files.NEIGHBORS, *neighbors)
    else:
        (ctx.folder / run_files.NEIGHBORS).unlink(missing_ok=True)
    sizes = np.bincount(cluster_N[train], minlength=num_clusters)
    return {"num_clusters": num_clusters, "largest": int(sizes.max()), "num_components": num_components}


def train_ids(splits: pa.Table) -> pa.ChunkedArray:
    """Ids of the training pool, in manifest order."""
    return splits.filter(pc.equal(splits["split"], "train"))["image_id"]


def spherical_kmeans(
    unit_ND: np.ndarray, num_clusters: int, *, seed: int, n_iter: int, max_points: int = 256
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """K-means on the unit sphere (Dhillon & Modha 2001); trained on at most `max_points` rows a cluster.

    Returns:
        centroid_KD (float32, unit norm), cluster_N (int32), cosine_N (float32, to the own centroid).
    """
    centroid_KD = train_centroids(unit_ND, num_clusters, seed=seed, n_iter=n_iter, max_points=max_points)
    return centroid_KD, *assign(unit_ND, centroid_KD)


def train_centroids(
    unit_ND: np.ndarray | UnitRows,
    num_clusters: int,
    *,
    seed: int,
    n_iter: int,
    max_points: int = 256,
    rows_M: np.ndarray | None = None,
) -> np.ndarray:
    """The centroids alone, (K, D) float32, unit norm.

    Args:
        unit_ND: Rows of norm 1.
        num_clusters: K; no more than there are rows to learn from.
        seed: Of the sample and of the first centroids.
        n_iter: Iterations.
        max_points: Rows a cluster to learn from, drawn by chance where there are more.
        rows_M: The rows that may be learned from; None: all.
    """
    import faiss

    num_clusters = min(num_clusters, len(unit_ND if rows_M is None else rows_M))
    if rows_M is not None and len(rows_M) > max_points * num_clusters:  # or faiss samples a copy of them all
        rng = np.random.default_rng(seed)
        rows_M = np.sort(rng.choice(rows_M, max_points * num_clusters, replace=False))
    sample = unit_ND[:] if rows_M is None else unit_ND[rows_M]
    clustering = faiss.Kmeans(
        unit_ND.shape[1],
        num_clusters,
        niter=n_iter,
        seed=seed,
        spherical=True,
        min_points_per_centroid=1,
        max_points_per_centroid=max_points,
        gpu=faiss.get_num_gpus() > 0,  # random starts: k-means++ picks outliers, and TypiClust was worse with it
    )
    clustering.train(np.ascontiguousarray(sample, dtype=np.float32))
    return np.asarray(clustering.centroids)


def assign(unit_ND: np.ndarray | UnitRows, centroid_KD: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nearest centroid by cosine: cluster_N (int32) and cosine_N (float32); block by block."""
    import faiss

    index = faiss.IndexFlatIP(centroid_KD.shape[1])
    index.add(np.ascontiguousarray(centroid_KD, dtype=np.float32))
    cluster_N, cosine_N = np.empty(len(unit_ND), np.int32), np.empty(len(unit_ND), np.float32)
    for rows in row_blocks(len(unit_ND)):
        cosine_B1, cluster_B1 = index.search(np.ascontiguousarray(unit_ND[rows], dtype=np.float32), 1)
        cluster_N[rows], cosine_N[rows] = cluster_B1[:, 0], cosine_B1[:, 0]
    return cluster_N, cosine_N


def _plane(unit_ND: UnitRows, train: np.ndarray) -> np.ndarray:
    """First two principal components of the training pool; the sign is fixed so that runs agree."""
    sample = principal_components.evenly_spaced(unit_ND, train)
    mean_D = sample.mean(0)
    axes_D2 = principal_components.leading_axes(sample - mean_D, 2).astype(np.float32)
    xy_N2 = np.zeros((len(unit_ND), 2), np.float32)  # two scans span a line
    for rows in row_blocks(len(unit_ND)):
        xy_N2[rows, : axes_D2.shape[1]] = (unit_ND[rows] - mean_D) @ axes_D2
    return xy_N2
