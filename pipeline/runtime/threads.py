"""How many threads arithmetic takes in this process: OpenMP, BLAS, torch and faiss.

Sums of another number of threads differ in their last digits. A number that is stated gives a laptop, a job on a
cluster and a run without Ray the same ones.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def set_threads(num_threads: int) -> None:
    """Set the threads of what is imported here; what is imported later reads the environment.

    onnxruntime has threads of its own, which a session is given: see `embeddings.onnx_file`.
    """
    _limit_pools(num_threads)
    _set_others(num_threads)


def _set_others(num_threads: int) -> None:
    """Set the environment and the libraries that threadpoolctl does not reach."""
    for name in VARIABLES:
        os.environ[name] = str(num_threads)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(num_threads)
    if "faiss" in sys.modules:
        sys.modules["faiss"].omp_set_num_threads(num_threads)


@contextmanager
def limited(num_threads: int) -> Iterator[None]:
    """Set the threads for a while; what was imported before has its own number again afterwards."""
    environment = {name: os.environ.get(name) for name in VARIABLES}
    torch, faiss = (sys.modules.get(name) for name in ("torch", "faiss"))
    of_torch = torch.get_num_threads() if torch else 0
    of_faiss = faiss.omp_get_max_threads() if faiss else 0
    pools = _limit_pools(num_threads)
    _set_others(num_threads)
    try:
        yield
    finally:
        for name, value in environment.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        if pools is not None:
            pools.restore_original_limits()
        if torch:
            torch.set_num_threads(of_torch)
        if faiss:
            faiss.omp_set_num_threads(of_faiss)


def _limit_pools(num_threads: int) -> Any:
    """Limit the thread pools of the libraries; what restores them, None before any of them is imported."""
    if "numpy" not in sys.modules:
        return None
    import threadpoolctl

    return threadpoolctl.threadpool_limits(num_threads)  # looks through all that is loaded: milliseconds
