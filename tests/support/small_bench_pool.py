"""A pool for simulated histories: two classes in six features, patients of two scans."""

import numpy as np

from pipeline.baselines.curves.bench_pool import BenchPool


def small_pool(seed=0, num=120, num_train=80, distance=4.0):
    """Two classes so far apart in one of six features, a quarter of the scans ill; patients of two scans."""
    rng = np.random.default_rng(seed)
    class_N = (rng.random(num) < 0.25).astype(np.int64)
    x_NP = rng.normal(size=(num, 6)).astype(np.float32)
    x_NP[:, 0] += distance * class_N
    own, other = slice(0, num_train), slice(num_train, num)
    group = np.arange(num) // 2
    return BenchPool(
        findings=("normal", "pneumonia"),
        x_TP=x_NP[own],
        similar_TP=x_NP[own],
        class_T=class_N[own],
        group_T=group[own],
        x_HP=x_NP[other],
        similar_HP=x_NP[other],
        class_H=class_N[other],
    )
