import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from pipeline.vectors import neighbor_graph
from pipeline.vectors.matrix import unit_rows


def two_blobs(size=20, seed=0):
    rng = np.random.default_rng(seed)
    class_N = np.repeat([0, 1], size)
    return unit_rows(np.eye(6)[class_N] + 0.1 * rng.normal(size=(2 * size, 6))), class_N


def test_neighbours_are_those_of_an_exhaustive_search():
    unit_ND = unit_rows(np.random.default_rng(0).normal(size=(80, 5)))
    index_NK, cosine_NK = neighbor_graph.neighbors(unit_ND, 6)
    theirs = NearestNeighbors(n_neighbors=7, metric="cosine").fit(unit_ND).kneighbors(unit_ND, return_distance=False)
    np.testing.assert_array_equal(index_NK, theirs[:, 1:])
    np.testing.assert_allclose(cosine_NK, (unit_ND[:, None] * unit_ND[index_NK]).sum(2), atol=1e-5)
    assert index_NK.dtype == np.int32


def test_copies_and_a_small_pool_still_leave_oneself_out():
    unit_ND = unit_rows(np.ones((12, 4)))
    index_NK, cosine_NK = neighbor_graph.neighbors(unit_ND, 5)
    assert (index_NK != np.arange(12)[:, None]).all()
    np.testing.assert_allclose(cosine_NK, 1.0, atol=1e-5)
    assert neighbor_graph.neighbors(unit_ND[:3], 15)[0].shape == (3, 2)


def test_one_row_alone_has_no_neighbour():
    for rows_M in (None, np.array([3])):
        unit_ND = np.eye(5, dtype=np.float32)[: 1 if rows_M is None else 5]
        index_MK, cosine_MK = neighbor_graph.neighbors(unit_ND, 10, rows_M)
        assert index_MK.shape == cosine_MK.shape == (1, 0)


def test_an_approximate_search_finds_nearly_all(monkeypatch):
    monkeypatch.setattr(neighbor_graph, "EXACT_UP_TO", 100)
    unit_ND = unit_rows(np.random.default_rng(0).normal(size=(2000, 4)))
    index_NK, _ = neighbor_graph.neighbors(unit_ND, 5)
    monkeypatch.undo()
    exact_NK, _ = neighbor_graph.neighbors(unit_ND, 5)
    assert (index_NK != np.arange(2000)[:, None]).all()
    hits = np.mean([len(set(a) & set(b)) / 5 for a, b in zip(index_NK, exact_NK, strict=True)])
    assert hits > 0.8


def test_neighbours_of_some_rows_are_those_of_these_rows_alone():
    unit_ND = unit_rows(np.random.default_rng(0).normal(size=(80, 5)))
    rows = np.arange(0, 80, 3)
    for ours, alone in zip(
        neighbor_graph.neighbors(unit_ND, 6, rows), neighbor_graph.neighbors(unit_ND[rows], 6), strict=True
    ):
        np.testing.assert_array_equal(ours, alone)


def spread_one(graph_NN, rows, classes, num_classes, alpha):
    return neighbor_graph.spread(graph_NN, [(rows, classes)], num_classes, alpha)[0]


@pytest.mark.parametrize(("alpha", "num"), [(0.0, 1), (0.5, 40), (0.9, 263)])
def test_there_are_as_many_steps_as_leave_out_a_million_millionth(alpha, num):
    assert neighbor_graph.num_iterations(alpha) == num
    assert alpha**num <= 1e-12


def test_folds_spread_together_as_each_alone():
    unit_ND, class_N = two_blobs()
    graph_NN = neighbor_graph.graph(*neighbor_graph.neighbors(unit_ND, 5))
    folds = [(rows, class_N[rows]) for rows in (np.array([0, 5, 30]), np.array([1, 22, 23]), np.array([39]))]
    together = neighbor_graph.spread(graph_NN, folds, 2, 0.5)
    for prob_NC, fold in zip(together, folds, strict=True):
        np.testing.assert_allclose(prob_NC, spread_one(graph_NN, *fold, 2, 0.5), rtol=1e-12)


def test_graph_is_symmetric_and_normalised():
    unit_ND, _ = two_blobs()
    index_NK, cosine_NK = neighbor_graph.neighbors(unit_ND, 4)
    graph_NN = neighbor_graph.graph(index_NK, cosine_NK).toarray()
    np.testing.assert_allclose(graph_NN, graph_NN.T)
    assert np.diag(graph_NN).max() == 0.0
    weight_NN = np.zeros((40, 40))
    np.put_along_axis(weight_NN, index_NK.astype(np.int64), np.exp((cosine_NK - 1.0) / 0.1), axis=1)
    weight_NN = np.maximum(weight_NN, weight_NN.T)
    scale_N = 1 / np.sqrt(weight_NN.sum(1))
    np.testing.assert_allclose(graph_NN, scale_N[:, None] * weight_NN * scale_N, rtol=1e-5)


def test_a_missing_neighbour_has_no_edge():
    graph_NN = neighbor_graph.graph(np.array([[1, -1], [0, -1], [1, -1]]), np.array([[0.9, -1], [0.9, -1], [0.5, -1]]))
    np.testing.assert_array_equal(graph_NN.toarray() > 0, [[0, 1, 0], [1, 0, 1], [0, 1, 0]])


@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.9])
def test_spread_is_the_closed_form(alpha):
    """F = (1 - alpha) (I - alpha S)^-1 Y of Zhou et al., then the class masses are made equal."""
    unit_ND, _ = two_blobs()
    graph_NN = neighbor_graph.graph(*neighbor_graph.neighbors(unit_ND, 5))
    rows, classes = np.array([0, 1, 25]), np.array([0, 0, 1])
    start_NC = np.zeros((40, 2))
    start_NC[rows, classes] = [0.5, 0.5, 1.0]
    exact_NC = np.linalg.solve(np.eye(40) - alpha * graph_NN.toarray(), (1 - alpha) * start_NC)
    exact_NC = exact_NC / exact_NC.sum(0)
    total_N = exact_NC.sum(1)
    exact_NC = np.where(total_N[:, None] > 1e-12, exact_NC / np.maximum(total_N, 1e-300)[:, None], 0.5)
    np.testing.assert_allclose(spread_one(graph_NN, rows, classes, 2, alpha), exact_NC, atol=1e-9)


def test_one_label_a_blob_names_the_blob():
    unit_ND, class_N = two_blobs()
    graph_NN = neighbor_graph.graph(*neighbor_graph.neighbors(unit_ND, 5))
    prob_NC = spread_one(graph_NN, np.array([3, 30]), np.array([0, 1]), 2, 0.9)
    np.testing.assert_array_equal(prob_NC.argmax(1), class_N)
    np.testing.assert_allclose(prob_NC.sum(1), 1.0)


def test_a_class_with_more_labels_does_not_win_by_number():
    unit_ND, class_N = two_blobs()
    graph_NN = neighbor_graph.graph(*neighbor_graph.neighbors(unit_ND, 30))  # everything is joined
    rows = np.array([*range(15), 30])
    prob_NC = spread_one(graph_NN, rows, class_N[rows], 2, 0.5)
    np.testing.assert_allclose(prob_NC[class_N == 1][:, 1].min(), 1.0, atol=0.45)
    assert (prob_NC.argmax(1) == class_N).mean() > 0.9


def test_what_no_label_reaches_is_undecided():
    graph_NN = neighbor_graph.graph(np.array([[1], [0], [3], [2]]), np.full((4, 1), 0.9))
    prob_NC = spread_one(graph_NN, np.array([0]), np.array([2]), 3, 0.5)
    np.testing.assert_allclose(prob_NC[:2], [[0, 0, 1], [0, 0, 1]])
    np.testing.assert_allclose(prob_NC[2:], 1 / 3)


def test_round_trip_on_disk(tmp_path):
    unit_ND, _ = two_blobs()
    index_NK, cosine_NK = neighbor_graph.neighbors(unit_ND, 4)
    neighbor_graph.save(tmp_path / "n.safetensors", index_NK, cosine_NK)
    found = neighbor_graph.load(tmp_path / "n.safetensors").toarray()
    np.testing.assert_allclose(found, neighbor_graph.graph(index_NK, cosine_NK).toarray(), atol=0.01)
    assert ((found > 0) == (neighbor_graph.graph(index_NK, cosine_NK).toarray() > 0)).all()
