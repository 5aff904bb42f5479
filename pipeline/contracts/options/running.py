"""Options of running: where work runs, who is told, who may read the files."""

from typing import Literal

from pydantic import Field

from pipeline.contracts.options.section import Section


class EngineConfig(Section):
    """Where the work runs."""

    backend: Literal["auto", "ray", "serial"] = Field(
        "auto",
        description="auto: in this process for a pool of fewer than ray_from_scans, through Ray for more, for networks "
        "to train, and on a cluster (a Ray job, or RAY_ADDRESS). serial: in this process, whatever comes.",
    )
    ray_from_scans: int = Field(
        2000,
        ge=0,
        description="auto: a pool of so many scans goes through Ray, whose start it pays for.",
    )
    num_cpus: int | None = Field(None, ge=1, description="CPUs of a local Ray; null: all of the machine.")
    num_gpus_per_task: float = Field(
        0.0, ge=0.0, le=16.0, description="GPUs of an embedding task; other tasks ask for none."
    )
    use_gpu: bool | None = Field(None, description="Train networks on GPUs; null: where there is one.")
    threads_per_task: int = Field(1, ge=1, le=256, description="CPU threads of a task.")
    driver_threads: int = Field(
        1,
        ge=1,
        le=256,
        description="CPU threads of the arithmetic outside tasks (k-means, neighbours, intervals). More are quicker on "
        "a large pool; another number moves the last digits of results, so it is not taken from the machine.",
    )
    max_retries: int = Field(2, ge=0, le=100, description="Retries of a task whose worker died.")
    object_store_mb: int = Field(
        256,
        ge=80,
        description="Object store of a local Ray, MiB. Rows on their way to tasks take half of it, or one task's: "
        "where heads of many rows (50,000 of 256 numbers are 49 MiB) leave CPUs idle, give it more.",
    )
    shrunk_gb: float = Field(
        20.0,
        ge=0.0,
        description="Disk that shrunk scans may take in the cache folder of a machine, GB: what later stages ask of a "
        "large scan is kept when it is first read, and its file is decoded once. 0: nothing is kept.",
    )


class TrackConfig(Section):
    """Who else is told of a run: options, the metrics of each round, the report."""

    mlflow: str | None = Field(
        None,
        description="Address of an MLflow server (https://…), or of a folder (file:///…, which MLflow 3 takes where "
        "MLFLOW_ALLOW_FILE_STORE is true). The report goes there too, and shows scans. Needs `cxr-ssl[mlflow]`. "
        "null: none.",
    )
    tensorboard: bool = Field(
        False,
        description="Write the metrics of each round to `tensorboard/` in the run. Needs `cxr-ssl[tensorboard]`.",
    )


class PrivacyConfig(Section):
    """Who may see what a run writes."""

    readable_by: Literal["owner", "group", "everyone"] = Field(
        "owner", description="Who may read the files of the run; group: who works together under one Unix group."
    )
