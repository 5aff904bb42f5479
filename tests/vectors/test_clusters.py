"""The options of the clusters stage change what it leaves, each its own part and no other."""

import numpy as np
import pytest
from safetensors.numpy import load_file

from pipeline.contracts.tables import CLUSTERS
from pipeline.runtime import run_files
from pipeline.vectors import clusters
from tests.support.synthetic_run import options, synthetic_run

BASE = {
    "cluster__num_clusters": 12,
    "cluster__n_iter": 20,
    "cluster__max_points_per_centroid": 256,
    "pseudo__num_neighbors": 15,
    "pseudo__propagate": 1.0,
    "train__num_components": 8,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return synthetic_run(tmp_path_factory.mktemp("clusters"), num_scans=400, distance=1.0)


def left_by(run, **changed):
    """The clusters, the number of neighbours and the number of components that the stage leaves."""
    told = clusters.run(options(run, **BASE | changed))
    table = CLUSTERS.read(run.folder)
    neighbors = load_file(run.folder / run_files.NEIGHBORS)
    widths = {array.shape[1] for array in neighbors.values() if array.ndim == 2}
    cluster_N, similarity_N = (np.asarray(table[name]) for name in ("cluster", "similarity"))
    num_components = np.load(run.folder / run_files.FEATURES).shape[1]
    assert told["num_components"] == num_components
    return cluster_N, similarity_N, widths, num_components


def test_cluster_n_iter_iterations_make_the_clusters_tighter(run):
    first_N, loose_N, *_ = left_by(run, cluster__n_iter=1)
    last_N, tight_N, *_ = left_by(run)
    assert (first_N != last_N).any() and tight_N.mean() > loose_N.mean()


def test_cluster_max_points_per_centroid_bounds_what_they_learn_from(run):
    """Two clusters of 340 scans: 39 a centroid is a sample, 170 is all of them."""
    few_N, all_N, more_N = (
        left_by(run, cluster__num_clusters=2, cluster__max_points_per_centroid=num)[1] for num in (39, 170, 4000)
    )
    assert (all_N == more_N).all() and (few_N != all_N).any()
    assert len(few_N) == len(all_N) == 400  # every scan is placed all the same


@pytest.mark.parametrize("num", [3, 15])
def test_pseudo_num_neighbors_is_the_width_of_the_graph(run, num):
    *_, widths, num_components = left_by(run, pseudo__num_neighbors=num)
    assert widths == {num} and num_components == 8


@pytest.mark.parametrize(("asked", "made"), [(2, 2), (7, 7), (4096, 12)])
def test_train_num_components_is_how_many_the_head_sees_up_to_those_there_are(run, asked, made):
    *_, widths, num_components = left_by(run, train__num_components=asked)
    assert num_components == made and widths == {15}


def test_neighbours_are_sought_only_where_labels_spread_over_them(run):
    left_by(run)
    assert (run.folder / run_files.NEIGHBORS).exists()
    clusters.run(options(run, **BASE | {"pseudo__propagate": 0.0}))
    assert not (run.folder / run_files.NEIGHBORS).exists()
