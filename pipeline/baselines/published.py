"""Figures that are quoted for such sets, each with what it was measured on and how well we know it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """A figure beside ours.

    Attributes:
        model: What was trained.
        measured_on: The scans it was measured on.
        accuracy: 0..1.
        sensitivity: Of COVID; None where none is quoted.
        specificity: Of COVID; None where none is quoted.
        standing: Where the figure comes from, and whether we could read it there.
    """

    model: str
    measured_on: str
    accuracy: float
    sensitivity: float | None
    specificity: float | None
    standing: str


THREE_CLASSES = (
    Figure(
        "plain ConvNet, 50 x 50 pixels",
        "COVID-19 Radiography Database, first release; 40 test scans a class",
        0.883,
        None,
        None,
        "as quoted, one split; no text of it that we could read",
    ),
    Figure(
        "InceptionV3, ImageNet transfer",
        "the same",
        0.925,
        None,
        None,
        "as quoted, one split; no text of it that we could read",
    ),
)
SMALL = (
    Figure(
        "VGG16, ImageNet transfer, as quoted",
        "25 COVID-19 and 25 normal scans; 10 of them for the test",
        0.90,
        0.80,
        1.00,
        "as quoted; one mistake in ten scans, as in the tutorial, but on the other class",
    ),
    Figure(
        "VGG16, ImageNet transfer, tutorial",
        "25 COVID-19 and 25 normal scans; 10 of them for the test",
        0.90,
        1.00,
        0.80,
        "A. Rosebrock, Detecting COVID-19 in X-ray images, PyImageSearch, 2020; read in copies of its text",
    ),
)
