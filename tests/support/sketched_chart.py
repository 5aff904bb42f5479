"""Charts of which only the words are written, for tests that look at something else."""

import html
from contextlib import AbstractContextManager
from unittest import mock

import numpy as np
from matplotlib.figure import Figure

from pipeline.pages import svg_chart


def sketched() -> AbstractContextManager[object]:
    """As long as this is open, of charts only the words are written."""
    return mock.patch.object(svg_chart, "Figure", Sketch)


def drawn() -> AbstractContextManager[object]:
    """As long as this is open, charts are as people see them."""
    return mock.patch.object(svg_chart, "Figure", Figure)


class Sketch:
    """A chart of which only the words are written: to draw it takes nearly half of a small run."""

    def __init__(self, **_):
        self._axes = SketchedAxes()

    def add_subplot(self):
        return self._axes

    def savefig(self, sink, **_):
        words = "".join(f"<text>{html.escape(word)}</text>" for word in self._axes.words)
        sink.write(f'<svg viewBox="0 0 1 1">{words}</svg>')


class Anything:
    """Takes whatever is asked of it."""

    def __getattr__(self, _):
        return self

    def __getitem__(self, _):
        return self

    def __call__(self, *_, **__):
        return self


class SketchedAxes:
    """Refuses values that matplotlib refuses to draw, and keeps the words."""

    xaxis = yaxis = spines = Anything()

    def __init__(self):
        self.words, self._series = [], []

    def __getattr__(self, name):
        return Anything() if name.startswith("set_") or name in ("grid", "minorticks_off") else self._draw

    def _draw(self, *values, label=None, **_):
        np.broadcast_arrays(*(np.asarray(value, float) for value in values))
        if label and not label.startswith("_"):
            self._series.append(label)

    def set(self, *, xlabel="", ylabel="", **_):
        self.words += [word for word in (xlabel, ylabel) if word]

    def text(self, x, y, word, **_):
        self._draw(x, y)
        self.words.append(word)

    def annotate(self, word, xy, *_, **__):
        self.text(*xy, word)

    def legend(self, **_):
        self.words += self._series

    def get_ylim(self):
        return 0.0, 1.0

    def get_yticklabels(self):
        return []
