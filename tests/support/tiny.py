"""Tiny pools and a way to call the command line in this process."""

import atexit
import contextlib
import functools
import io
import json
import logging
import shutil
import sys
import tempfile
import zlib
from pathlib import Path
from unittest import mock

import numpy as np
import typer
from PIL import Image

from pipeline import cli
from pipeline.audit import probes
from pipeline.predict import calibration
from tests.support import sketched_chart, tiny_backbone

WEIGHTS = tiny_backbone.path_in(Path(tempfile.mkdtemp(prefix="cxr-ssl-tests-")))  # written when first called for
atexit.register(shutil.rmtree, WEIGHTS.parent, ignore_errors=True)
# Serial, small pictures, a small network, few bootstraps and what `small` holds: a run of two rounds takes seconds.
FAST = [
    "--set",
    "engine.backend=serial",
    "--set",
    "preprocess.size_px=64",
    "--set",
    f"backbone.name={tiny_backbone.NAME}",
    "--set",
    f"backbone.weights={WEIGHTS}",
    "--set",
    "evaluate.num_bootstrap=20",
    "--set",
    "rounds.reference=false",
    "--set",
    "embed.features=pooled",
    "--set",
    "stop.num_repeats=2",
    "--set",
    "audit.num_bootstrap=20",
    "--set",
    "duplicates.changed=false",  # what is meant for copies that were turned takes a sixth of a small run
    "--set",
    "audit.block_shortcut_auroc=1",  # scans of few grey levels are told by their file
]
CLASSES = ("normal", "sick")


class Answer:
    """What a command left: exit code and both streams."""

    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err

    @property
    def message(self):
        """What went wrong, without the log."""
        lines = self.err.splitlines()
        start = next(
            i for i, line in enumerate(lines) if line.startswith(("error:", "waiting:", "internal", "stopped:"))
        )
        return "\n".join(lines[start:])

    @property
    def json(self):
        return json.loads(self.out)


@functools.cache
def _commands():
    """The command line; to build it takes as long as many a command."""
    return typer.main.get_command(cli.app)


@contextlib.contextmanager
def small():
    """As long as this is open, probes of an audit have few trees and folds, a calibration few redraws."""
    with (
        mock.patch.object(probes, "NUM_TREES", 8),
        mock.patch.object(probes, "NUM_FOLDS", 3),
        mock.patch.object(calibration, "NUM_REDRAWS", 40),
    ):
        yield


def call(*argv, drawn=False):
    """Run `cxr-ssl argv` in this process; argv and logging are put back. Charts are sketched, or `drawn`."""
    if f"backbone.weights={WEIGHTS}" in argv:
        tiny_backbone.weights(WEIGHTS.parent)
    out, err = io.StringIO(), io.StringIO()
    root, before = logging.getLogger(), logging.getLogger().handlers[:]
    levels = {logging.getLogger(name): logging.getLogger(name).level for name in ("", "pipeline", "embeddings", "jobs")}
    code = 0
    with (
        mock.patch.object(sys, "argv", ["cxr-ssl", *map(str, argv)]),
        mock.patch.object(cli, "app", _commands()),
        small(),
        sketched_chart.drawn() if drawn else sketched_chart.sketched(),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            cli.main()
        except SystemExit as end:
            code = end.code or 0
        finally:
            root.handlers[:] = before
            for logger, level in levels.items():
                logger.setLevel(level)
    return Answer(code, out.getvalue(), err.getvalue())


def picture(seed, bright=0, size=64):
    blocks = np.random.default_rng(seed).integers(0, 180, (8, 8)).astype(np.uint8) + np.uint8(bright)
    return Image.fromarray(blocks).resize((size, size), Image.Resampling.BICUBIC)


def make_pool(folder, num=24, columns=("label", "patient_id"), row=None):
    """A manifest and `num` pictures, two scans a patient; `row(i)` gives the columns' values."""
    folder.mkdir(parents=True)
    row = row or (lambda i: (CLASSES[i // 2 % 2], f"p{i // 2}"))
    lines = [",".join(("image_path", *columns))]
    for i in range(num):
        picture(i, bright=60 * (i // 2 % 2)).save(folder / f"s{i:03d}.png")
        lines.append(",".join((f"s{i:03d}.png", *row(i))))
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n", "utf-8")
    return folder


def bomb(path, side=30_000):
    """A PNG of side x side black pixels, of one bit each, in a few kilobytes."""

    def chunk(kind, data):
        return len(data).to_bytes(4) + kind + data + zlib.crc32(kind + data).to_bytes(4)

    packer = zlib.compressobj(9)
    row = bytes(1 + -(-side // 8))
    pixels = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    header = side.to_bytes(4) * 2 + bytes((1, 0, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b""))
