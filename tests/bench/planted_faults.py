"""The faults that are planted, what must be said of each, and what looks like a fault and is none."""

from dataclasses import dataclass, field
from typing import Any

from tests.bench import planted_pictures as pictures
from tests.bench import planted_rows as table
from tests.bench.planted_rows import Plant

CHANGED = {"duplicates.changed": True}


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        plant: Changes the rows of a clean pool; pictures that it makes lie in the folder it is given.
        check: The check that must fire; of several, one.
        reason: A pattern of its message or of what its evidence says.
        base: The clean pool it is planted in.
        verdict: What the verdict must be; None: caution or worse.
        settings: Options that the audit needs for it.
    """

    plant: Plant
    check: str | tuple[str, ...]
    reason: str
    base: str = "phantoms"
    verdict: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def checks(self) -> tuple[str, ...]:
        """The checks of which one must fire."""
        return (self.check,) if isinstance(self.check, str) else self.check


def _copies(change: str, strength: object, reason: str) -> Fault:
    plant = pictures.copied_across(pictures.augmented(change, strength))
    return Fault(plant, "duplicates-across-splits", reason, "kermany", "invalid", CHANGED)


_SHOWN = ("lungs-masked-predicts-label", "metadata-predicts-label")
_RIGHT_SPLIT = "in training and in test"
_NO_SOURCE = "no source is known"
FAULTS = {
    "10 % of labels wrong": Fault(table.relabelled(0.1), "labels-look-wrong", "labels look wrong"),
    "20 % of labels wrong": Fault(table.relabelled(0.2), "labels-look-wrong", "labels look wrong"),
    "10 % of labels wrong, kermany": Fault(table.relabelled(0.1), "labels-look-wrong", "labels look wrong", "kermany"),
    "20 % of labels wrong, kermany": Fault(table.relabelled(0.2), "labels-look-wrong", "labels look wrong", "kermany"),
    "30 % of pneumonia called normal, kermany": Fault(
        table.relabelled(0.3, "pneumonia"), "labels-look-wrong", "labels look wrong", "kermany"
    ),
    "3 ages of 400": Fault(table.impossible("age", "400"), "missing-metadata", "not understood.*400"),
    "3 ages of −3": Fault(table.impossible("age", "-3"), "missing-metadata", "not understood.*-3"),
    "3 study dates in the future": Fault(
        table.impossible("StudyDate", "2999-01-01"), "missing-metadata", "in the future"
    ),
    "3 study dates of no calendar": Fault(table.impossible("StudyDate", "2020-02-30"), "missing-metadata", "no day of"),
    "all study dates moved to hide them": Fault(table.moved_dates, "missing-metadata", "moved to hide them"),
    "ids respelled across the split": Fault(table.respelled, "patient-ids-doubtful", "differ in spelling alone"),
    "ids are names of files": Fault(table.named_after_files, "patient-ids-doubtful", "names of their files"),
    "a placeholder as an id": Fault(table.placeholder("99999", 0.125), "patient-ids-doubtful", "of .* scans"),
    "two patients under one id": Fault(table.merged, "patient-id-collision", "two sexes|ages far apart", "nih"),
    "scans again under other patients": Fault(
        pictures.copied(None, share=0.03, other="patient_id"), "duplicates-across-patients", "more than one patient"
    ),
    "patients in training and test": Fault(table.across("train"), "patient-across-splits", _RIGHT_SPLIT),
    "patients in validation and test": Fault(table.across("val"), "patient-across-splits", "in validation and in test"),
    "a class 14 years older": Fault(table.older, "population-confounding", "pneumonia.* older|age"),
    "a class of men, nih": Fault(table.goes_with("sex", "M", "F"), "population-confounding", "sex", "nih"),
    "a class lying (AP), the others standing (PA), nih": Fault(
        table.goes_with("view", "AP", "PA"), "population-confounding", "view", "nih"
    ),
    "the age of a class is not known": Fault(table.blanked("age"), "population-confounding", "not known"),
    "class shares differ in the test": Fault(
        table.other_shares("test"), "classes-differ-across-splits", "in training and .* in the test"
    ),
    "class shares differ in validation": Fault(
        table.other_shares("val"), "classes-differ-across-splits", "in training and .* in validation"
    ),
    "a test of 3 patients a class": Fault(table.small_holdout, "too-few-cases", "in the test"),
    "4 scans of a class": Fault(table.rare, ("class-imbalance", "too-few-cases"), "pneumonia"),
    "sources reversed in the test": Fault(table.reversed_sources, "source-label-confounding", "part alone"),
    "a class from one hospital": Fault(table.own_source, "source-label-confounding", "pneumonia.* source", "kermany"),
    "one source in three spellings": Fault(
        table.spelled("Site A", "site-a", "SITE_A"), "missing-metadata", "spelled in several ways"
    ),
    "sources that differ by blanks": Fault(
        table.spelled("north wing", "north  wing", " north wing"), "missing-metadata", "spelled in several ways"
    ),
    "6 broken files": Fault(pictures.broken, "quarantined-scans", "6 of .* cannot be read", "kermany"),
    "3 pictures of noise": Fault(pictures.repainted(3, pictures.noise), "not-chest-x-rays", "3 noise"),
    "3 near-blanks": Fault(pictures.repainted(3, pictures.blank), "not-chest-x-rays", "3 almost blank"),
    "3 drawings": Fault(pictures.repainted(3, pictures.drawing), "not-chest-x-rays", "drawing"),
    "3 colour pictures": Fault(pictures.repainted(3, pictures.photograph), "not-chest-x-rays", "3 in colour"),
    "a strip of 1 × 60,000 pixels": Fault(pictures.repainted(1, pictures.strip), "not-chest-x-rays", "long and thin"),
    "a hip, an extremity, a CT": Fault(
        pictures.other_parts("RG2_UNC", "RG3_UNC", "SC1_UNC"), "not-chest-x-rays", "unlike all", "kermany"
    ),
    "a CT alone, kermany": Fault(pictures.other_parts("SC1_UNC"), "not-chest-x-rays", "1 unlike all", "kermany"),
    "a CT alone, nih": Fault(pictures.other_parts("SC1_UNC"), "not-chest-x-rays", "unlike all", "nih"),
    "a CT alone": Fault(pictures.other_parts("SC1_UNC"), "not-chest-x-rays", "1 unlike all"),
    "5 scans inverted": Fault(pictures.repainted(5, pictures.inverted), "not-chest-x-rays", "inverted"),
    "5 scans inverted, kermany": Fault(
        pictures.repainted(5, pictures.inverted), "not-chest-x-rays", "inverted", "kermany"
    ),
    "5 scans turned by 90 degrees": Fault(pictures.repainted(5, pictures.turned(90)), "not-chest-x-rays", "by 90"),
    "5 scans turned by 180 degrees": Fault(pictures.repainted(5, pictures.turned(180)), "not-chest-x-rays", "by 180"),
    "5 scans turned by 90 degrees, nih": Fault(
        pictures.repainted(5, pictures.turned(90)), "not-chest-x-rays", "by 90", "nih"
    ),
    "5 scans mirrored": Fault(pictures.repainted(5, pictures.mirrored), "not-chest-x-rays", "mirror"),
    "5 scans mirrored, kermany": Fault(
        pictures.repainted(5, pictures.mirrored), "not-chest-x-rays", "mirror", "kermany"
    ),
    "exact copies across the split": Fault(
        pictures.copied_across(None), "duplicates-across-splits", _RIGHT_SPLIT, "kermany", "invalid"
    ),
    "copies turned by 3 degrees across it": _copies("turned by degrees", 3, "turned a little"),
    "copies mirrored": _copies("mirrored", 1, "mirrored"),
    "copies turned by 90 degrees": _copies("turned by quarters, degrees", 90, "turned by 90 degrees"),
    "copies cropped by 8 %": _copies("cropped on every side by a share", 0.08, "cropped"),
    "copies padded by 6 %": _copies("padded on every side by a share", 0.06, "padded"),
    "copies shifted by 5 %": _copies("shifted both ways by a share", 0.05, "shifted"),
    "copies with a caption": _copies("captioned, lines", 1, _RIGHT_SPLIT),
    "copies through 64 px": _copies("resized through pixels", 64, _RIGHT_SPLIT),
    "copies changed in three ways": _copies("three of these together, strength", 1, _RIGHT_SPLIT),
    "10 % of the scans again, recompressed": Fault(
        pictures.copied(pictures.augmented("JPEG of quality", 30), share=0.1, other=""),
        "near-duplicates",
        "repeat",
        "kermany",
    ),
    "copies with another label": Fault(
        pictures.copied(None, share=0.04, other="label"), "label-conflict", "different labels", "kermany"
    ),
    "a letter on 70 % of a class": Fault(
        pictures.of_class(pictures.marker, 0.7), "lungs-masked-predicts-label", "bright at the top right"
    ),
    "electrodes on 70 % of a class": Fault(
        pictures.of_class(pictures.electrodes, 0.7), "lungs-masked-predicts-label", "bright at the"
    ),
    "a tube in 70 % of a class": Fault(
        pictures.of_class(pictures.tube, 0.7), "lungs-masked-predicts-label", "bright at the .*cent"
    ),
    "a rail below 70 % of a class": Fault(pictures.of_class(pictures.table_edge, 0.7), _SHOWN, "bottom|grey levels"),
    "a class of its own exposure": Fault(
        pictures.of_class(pictures.augmented("gamma", 0.5)), "metadata-predicts-label", "grey levels"
    ),
    "JPEG quality goes with the class": Fault(
        pictures.saved_anew(pictures.jpeg(30), pictures.jpeg(90)),
        "metadata-predicts-label",
        _NO_SOURCE,
        verdict="invalid",
    ),
    "size goes with the class": Fault(
        pictures.saved_anew(pictures.jpeg(90, 160), pictures.jpeg(90, 128)),
        "metadata-predicts-label",
        _NO_SOURCE,
        verdict="invalid",
    ),
    "bit depth goes with the class": Fault(
        pictures.saved_anew(pictures.png16, pictures.png8), "metadata-predicts-label", _NO_SOURCE, verdict="invalid"
    ),
    "25 and 25 told by their files": Fault(
        pictures.twenty_five, "metadata-predicts-label", _NO_SOURCE, "kermany", "invalid"
    ),
    "COVID adults and healthy children, no source": Fault(
        pictures.adults_and_children, _SHOWN, _NO_SOURCE, "kermany", "invalid"
    ),
}
# What looks like a fault and is none.
HARMLESS: dict[str, tuple[Plant, tuple[str, ...]]] = {
    "the word unknown as an id": (
        table.placeholder("unknown", 0.04),
        ("patient-across-splits", "patient-ids-doubtful", "patient-id-collision"),
    ),
}
