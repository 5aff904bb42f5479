"""FAISS: spherical k-means of the pool, its neighbour lists, and a 2-D map for people."""

import logging
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.contracts.tables import CLUSTERS, SPLIT_TABLE
from pipeline.runtime import run_files
from pipeline.runtime.context import StageContext
from pipeline.vectors import neighbor_graph, principal_components
from pipeline.vectors.matrix import Vectors, unit_rows

# N scans, D dimensions, K clusters

log = logging.getLogger(__name__)


def run(ctx: StageContext) -> dict[str, Any]:
    """Cluster the training pool, place every scan in its cluster, and link the training pool's neighbours."""
    vectors = Vectors.open(ctx.folder)
    config = ctx.config.cluster
    train = vectors.positions(train_ids(run_files.read(ctx.folder, SPLIT_TABLE)))
    num_components = principal_components.write(ctx.folder, vectors.emb_ND, train, ctx.config.train.num_components)
    principal_components.write_similarity(ctx.folder, vectors.own_ND, train, num_components)
    unit_ND = unit_rows(principal_components.load_similarity(ctx.folder))  # centred on the training pool
    num_clusters = min(config.num_clusters or int(np.clip(np.sqrt(len(train) / 2), 8, 1000)), len(train))
    seed = int(ctx.rng("clusters").integers(2**31))
    centroid_KD, _, _ = spherical_kmeans(
        unit_ND[train],
        num_clusters,
        seed=seed,
        n_iter=config.n_iter,
        max_points=config.max_points_per_centroid,
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
    index_NK, neighbor_cosine_NK = neighbor_graph.neighbors(unit_ND[train], ctx.config.pseudo.num_neighbors)
    neighbor_graph.save(ctx.folder / run_files.NEIGHBORS, index_NK, neighbor_cosine_NK)
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
    import faiss

    num, dim = unit_ND.shape
    clustering = faiss.Kmeans(
        dim,
        min(num_clusters, num),
        niter=n_iter,
        seed=seed,
        spherical=True,
        min_points_per_centroid=1,
        max_points_per_centroid=max_points,
        gpu=faiss.get_num_gpus() > 0,  # random starts: k-means++ picks outliers, and TypiClust was worse with it
    )
    clustering.train(np.ascontiguousarray(unit_ND, dtype=np.float32))
    centroid_KD = np.asarray(clustering.centroids)
    return centroid_KD, *assign(unit_ND, centroid_KD)


def assign(unit_ND: np.ndarray, centroid_KD: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nearest centroid by cosine: cluster_N (int32) and cosine_N (float32)."""
    import faiss

    index = faiss.IndexFlatIP(centroid_KD.shape[1])
    index.add(np.ascontiguousarray(centroid_KD, dtype=np.float32))
    cosine_N1, cluster_N1 = index.search(np.ascontiguousarray(unit_ND, dtype=np.float32), 1)
    return cluster_N1[:, 0].astype(np.int32), cosine_N1[:, 0]


def _plane(unit_ND: np.ndarray, train: np.ndarray) -> np.ndarray:
    """First two principal components of the training pool; the sign is fixed so that runs agree."""
    mean_D = unit_ND[train].mean(0)
    axes_D2 = principal_components.leading_axes(unit_ND[train] - mean_D, 2)
    xy_N2 = np.zeros((len(unit_ND), 2), np.float32)  # two scans span a line
    xy_N2[:, : axes_D2.shape[1]] = (unit_ND - mean_D) @ axes_D2.astype(np.float32)
    return xy_N2
