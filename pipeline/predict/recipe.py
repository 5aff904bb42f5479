"""What it takes to predict with a run's latest model: small, for it travels with every task."""

import logging
from dataclasses import dataclass
from pathlib import Path

from embeddings.backbones import Backbone
from pipeline import __version__
from pipeline.contracts.config import Config
from pipeline.contracts.errors import InputError
from pipeline.contracts.options.vectors import Features
from pipeline.contracts.tables import PREDICTIONS
from pipeline.learn.classifier import refuse_other_format
from pipeline.pool.manifest import options_of
from pipeline.pool.reading import ReadingOptions
from pipeline.predict.dicom_objects.source import ModelIdentity
from pipeline.runtime import run_dir, run_files
from pipeline.runtime.context import StageContext
from pipeline.runtime.engine import SerialEngine
from pipeline.runtime.finding_folders import parts_in
from pipeline.vectors.embed import embedder_of

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Question:
    """What one classifier answers.

    Attributes:
        finding: Of independent findings the one it is about; None: it tells the run's classes apart.
        folder: Of the run, or of the finding in it.
        round_index: Whose classifier is used; None: the finding has none yet.
    """

    finding: str | None
    folder: Path
    round_index: int | None

    @property
    def model(self) -> Path:
        """The classifier's folder."""
        assert self.round_index is not None
        return run_files.round_folder(self.folder, self.round_index) / run_files.MODEL


@dataclass(frozen=True)
class Recipe:
    """All that a worker needs; the large things are named by where they lie.

    Attributes:
        run: The run's folder.
        questions: What is answered; at least one has a classifier.
        backbone: What embeds.
        features: What of the network is kept.
        embedder: ONNX file of that; None: torch.
        reading: How files are read, with the square that networks see.
        num_threads: Of a task.
        false_alarm_rate: Share of scans like the run's own that may be called outside.
    """

    run: Path
    questions: tuple[Question, ...]
    backbone: Backbone
    features: Features
    embedder: Path | None
    reading: ReadingOptions
    num_threads: int
    false_alarm_rate: float

    @property
    def size_px(self) -> int:
        """Side of the square that networks see."""
        assert self.reading.size_px is not None
        return self.reading.size_px


def of_run(folder: Path, config: Config) -> Recipe:
    """How to predict with a run.

    Args:
        folder: The run, or one finding's part of it.
        config: How to read the scans; `predict.*`.

    Raises:
        InputError: the run has no classifier yet, was made by another version, or its backbone cannot be had.
    """
    own = run_dir.config_of(folder)
    questions = _questions(folder)
    home = run_files.home(folder)
    backbone, embedder = embedder_of(StageContext(own, home, SerialEngine()))
    return Recipe(
        run=home.absolute(),
        questions=questions,
        backbone=backbone,
        features=own.embed.features,
        embedder=embedder,
        reading=_reading(config, own.preprocess.size_px),
        num_threads=own.engine.threads_per_task,
        false_alarm_rate=config.predict.false_alarm_rate,
    )


def identity(recipe: Recipe) -> ModelIdentity:
    """What DICOM objects and servers say of the model."""
    known = [question for question in recipe.questions if question.round_index is not None]
    files = [question.model / name for question in known for name in (run_files.CARD, run_files.MODEL_WEIGHTS)]
    return ModelIdentity(
        version=__version__,
        fingerprint=run_dir.fingerprint({"files": [run_dir.file_hash(file) for file in files]}),
        round_index=max(question.round_index or 0 for question in known),
    )


def _reading(config: Config, size_px: int) -> ReadingOptions:
    options = options_of(config, salt="")  # no id of a patient is kept
    return ReadingOptions(
        max_pixels=options.max_pixels,
        max_seconds=options.max_seconds,
        white=options.white,
        whites=tuple(options.whites),
        set_aside=tuple(options.set_aside),
        max_bytes=options.max_bytes,
        max_memory_mb=options.max_memory_mb,
        max_frames=options.max_frames,
        size_px=size_px,
    )


def _questions(folder: Path) -> tuple[Question, ...]:
    folder = folder.absolute()
    parts: list[tuple[str | None, Path]] = [*parts_in(folder).items()] or [(None, folder)]
    questions = tuple(Question(finding, part, _latest_classifier(part)) for finding, part in parts)
    if all(question.round_index is None for question in questions):
        raise InputError(
            "no round of this run has learned a classifier yet",
            value=str(folder),
            where="RUN",
            fix="finish a round with labels of two classes first: `cxr-ssl status RUN` says what is missing",
        )
    for question in questions:
        if question.round_index is None:
            log.warning("%s has no classifier yet: its columns are empty", question.finding)
        else:
            refuse_other_format(question.model)
    return questions


def _latest_classifier(folder: Path) -> int | None:
    """The last finished round, where it has a classifier."""
    last = run_files.last_round(folder)
    if last is None or not (folder / PREDICTIONS.file).exists():
        return None
    return last if (run_files.round_folder(folder, last) / run_files.MODEL / run_files.CARD).exists() else None
