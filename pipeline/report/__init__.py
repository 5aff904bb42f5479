"""The evidence report of a run: one self-contained page, a model card, and the annotators' contact sheets."""

from pipeline.report.contact_sheet import queue_html
from pipeline.report.page import build, run

__all__ = ["build", "queue_html", "run"]
