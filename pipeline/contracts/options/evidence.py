"""Options of evidence: the audit, the holdout, and scans that come later."""

from typing import Annotated, Literal

from pydantic import Field

from pipeline.contracts.options.section import Section, Share


class AuditConfig(Section):
    """From where on the audit warns, and from where on it blocks."""

    strict: bool = Field(False, description="Warnings block too.")
    max_scans: int = Field(2000, ge=100, description="Scans the probes look at; a larger pool is sampled by patient.")
    num_bootstrap: int = Field(300, ge=0, le=100_000, description="Patient-cluster replicates of a probe's interval.")
    warn_duplicate_share: Share = Field(0.05, description="Share of scans that copy another one, exactly or nearly.")
    max_pictures: int = Field(
        600, ge=0, description="Scans that are looked at for what is no upright chest X-ray; 0: none."
    )
    warn_not_chest_share: Share = Field(0.0, description="Share of them that is none, as far as can be seen.")
    warn_wrong_label_share: Share = Field(
        0.02, description="Share of labels that look wrong, as estimated, where hard cases do not explain them."
    )
    warn_conflict_share: Share = Field(
        0.2, description="Share of a patient's near copies with different labels; fewer may be two visits taken alike."
    )
    block_conflict_share: Share = Field(0.02, description="Scans of copied pictures with different labels.")
    warn_quarantined_share: Share = Field(0.005, description="Share of files that cannot be read.")
    warn_patient_share: Share = Field(
        0.05, description="Share of the scans under one patient id, where the usual patient has far fewer."
    )
    warn_unknown_patient_share: Share = Field(0.05, description="Share of scans of unknown patient.")
    warn_unknown_share: Share = Field(0.2, description="Share of scans of unknown age, sex, view or source.")
    warn_min_class_share: Share = Field(0.02, description="Share of the rarest class.")
    warn_min_patients: int = Field(10, ge=1, description="Patients of the rarest class.")
    warn_min_test_patients: int = Field(5, ge=1, description="Patients of a class in the test.")
    warn_association: Share = Field(0.3, description="Cramér's V of a class with a source or population.")
    block_association: Share = Field(0.8, description="The same; or a class that no other class shares a source with.")
    warn_age_gap_years: float = Field(
        10.0, ge=0.0, description="Difference of the median age of a class from that of the others."
    )
    warn_source_auroc: Share = Field(0.98, description="AUROC of telling one source from the others by embedding.")
    warn_shortcut_auroc: Share = Field(
        0.7, description="AUROC of a label from what is not the lungs (lower bound), within sources where it can be."
    )
    block_shortcut_auroc: Share = Field(
        0.95, description="The same for file metadata and population: too good. 1: nothing blocks, it is only said."
    )
    max_equalised_scans: int = Field(
        600, ge=0, description="Labelled scans that are embedded once more with their histogram equalised; 0: none."
    )
    warn_grey_loss: Share = Field(
        0.03,
        description="AUROC lost when the scans' histograms are equalised, where it is not chance (95 %) and grey "
        "levels alone tell the class too.",
    )
    warn_external_drop: Share = Field(0.2, description="AUROC lost on a source that was left out.")
    warn_holdout_reads: int = Field(100, ge=1, description="Evaluations of the sealed holdout before it wears out.")


class EvaluateConfig(Section):
    """The evidence on the sealed holdout."""

    num_bootstrap: int = Field(1000, ge=0, le=100_000, description="Patient-cluster bootstrap replicates.")
    operating_point: Literal["pool", "balanced", "prevalence"] = Field(
        "pool",
        description="pool: halfway to the valley between the two hills of the pool's scores, where there are "
        "two classes, each at least 15 % of it, and else balanced; balanced: best balanced accuracy; prevalence: "
        "argmax of the probability at the pool's prevalence.",
    )
    site: str | None = Field(
        None,
        description="Address, as of a pool, of unlabelled scans of the place where the model will be used, 100 at "
        "least: from their scores an operating point `adapted to the site` is set beside the run's own. Two classes, "
        "each at least 15 % there; no scan or patient of the holdout or of the labelled ones. null: none.",
    )
    prevalences: tuple[Annotated[float, Field(gt=0.0, lt=1.0)], ...] = Field(
        (0.01, 0.05, 0.1, 0.3), description="Deployment prevalences that PPV and NPV are stated for."
    )
    promise_error: float | None = Field(
        None,
        ge=0.001,
        le=0.5,
        description="Error rate that the answers a model gives alone must stay below, yes and no each: with it "
        "`act_or_defer.json` is written, from which `predict` says yes, no or ask a person. Fix it before the labels "
        "of the holdout are read; 0.05 takes 72 labels a side at least, 0.1 takes 36. null: no such thresholds.",
    )
    promise_of: Literal["class", "decided", "both"] = Field(
        "class",
        description="What `promise_error` is a share of. class: of the scans with the finding those answered no alone, "
        "and of the scans without it those answered yes alone; decided: of the scans answered no (or yes) alone those "
        "answered wrongly, at the prevalence of the holdout; both: neither is above.",
    )


class PredictConfig(Section):
    """What `cxr-ssl predict` and the exported model say of scans that are not the run's own."""

    false_alarm_rate: float = Field(
        0.05,
        gt=0.0,
        lt=1.0,
        description="Share of scans like the run's own held-out ones that may be called outside what the model knows; "
        "a rate of 1 in 20 takes 19 held-out scans at least, of 1 in 100 takes 99.",
    )


class MonitorConfig(Section):
    """When `cxr-ssl monitor` says that scans have moved, and when the model is no longer to be relied on."""

    false_alarm_rate: float = Field(
        0.05,
        gt=0.0,
        lt=0.5,
        description="Chance that a batch like the reference is called moved, over all of its streams together.",
    )
    num_permutations: int = Field(
        1999, ge=99, le=100_000, description="Permutations of patients behind every p-value; 1999 give 0.0005 at least."
    )
    max_scans: int = Field(
        2000, ge=100, description="Scans of a batch, and of the reference, that are compared; of more some are drawn."
    )
    retrain_outside_share: Share = Field(
        0.2, description="From this share of scans outside what the model knows on, a batch that moved says retrain."
    )
    retrain_accuracy_loss: Share = Field(
        0.05,
        description="So does an estimated accuracy whose interval lies by more than this below that of the holdout.",
    )
