"""Options of labelling: which scans are asked, of whom, on what page, and what reports may say."""

from typing import Literal

from pydantic import Field, model_validator

from pipeline.contracts.options.section import Section, Share


class StrategyConfig(Section):
    """How representatives are chosen."""

    name: str = Field(
        "rare_class_herding",
        description="rare_class_herding, uncertainty_herding, max_herding, prob_cover, facility_location, typiclust, "
        "kmedoids, core_set, badge, margin, entropy, bald, drop_query, slice_stratified or random.",
    )
    bandwidth: float = Field(
        0.5,
        gt=0.0,
        le=10.0,
        description="The herdings, slice_stratified: width of the Gaussian kernel between centred features of norm 1, "
        "its standard deviation.",
    )
    max_reference: int = Field(
        2000,
        ge=100,
        description="Scans of a larger pool, drawn at random, over which the herdings, prob_cover, facility_location "
        "and slice_stratified measure coverage.",
    )
    max_candidates: int = Field(
        50_000, ge=1000, description="Scans, drawn at random, that a strategy chooses among in a larger pool."
    )
    min_purity: float = Field(
        0.95, gt=0.0, le=1.0, description="prob_cover: share of the balls that hold scans of one cluster alone."
    )
    slice_column: Literal["source", "population", "view", "sex"] = Field(
        "source", description="slice_stratified: column of the manifest whose values are the parts of the pool."
    )
    num_neighbors: int = Field(20, ge=1, le=200, description="typiclust: neighbours of the typicality.")
    min_cluster_size: int = Field(5, ge=1, description="typiclust, kmedoids: smaller clusters are passed over.")
    max_cluster_members: int = Field(
        2000, ge=50, description="Members of one cluster that are compared with each other."
    )


class QueueConfig(Section):
    """What the experts see."""

    budget: int = Field(20, ge=1, description="Expert labels a round.")
    uniform_share: Share = Field(0.2, description="Share of the budget drawn uniformly: it alone estimates prevalence.")
    holdout_budget: int = Field(
        100,
        ge=0,
        description="Scans of the sealed holdout asked for once, when the pool brings no labels for it.",
    )
    min_seconds: float = Field(
        1.0,
        ge=0.0,
        le=60.0,
        description="Nobody looks at a scan and answers faster. The page takes a faster answer when it is given again, "
        "and a reader whose median is shorter is named in status and report. 0: neither.",
    )
    design: Literal["readers", "two_and_adjudicator", "two_of_three"] = Field(
        "readers",
        description="readers: as many as `readers_per_scan` and `double_read_share` say; two_and_adjudicator: two read "
        "every scan, and where they differ an adjudicator, who sees both answers and not whose they are, decides; "
        "two_of_three: two read every scan, where they differ a third one, and two of three decide.",
    )
    readers_per_scan: int = Field(1, ge=1, le=20, description="Annotators who read every scan. An oracle reads once.")
    double_read_share: Share = Field(0.0, description="Share of the scans that one annotator more reads.")
    recheck_share: Share = Field(
        0.05, description="Share of the budget spent on pseudo-labels, drawn uniformly, asked blind. Not by an oracle."
    )
    reread_share: Share = Field(
        0.05, description="An annotator's own answers of earlier rounds, asked again blind, per scan she reads."
    )
    second_look_share: Share = Field(
        0.1, description="Largest share of the budget spent on disputes and likely label errors, asked again."
    )
    wished_share: Share = Field(
        0.5,
        description="Largest share of the budget spent on scans that people wished for in `cxr-ssl explore`; they take "
        "the place of representatives, never of the uniform slice.",
    )

    @model_validator(mode="after")
    def _the_design_says_how_many_read(self) -> "QueueConfig":
        if self.design != "readers" and (self.readers_per_scan != 1 or self.double_read_share):
            raise ValueError(
                f"design: {self.design} says how many read a scan; leave out readers_per_scan and double_read_share"
            )
        return self


class Definition(Section):
    """What one answer means, for those who give it."""

    text: str = Field("", max_length=2000, description="When this answer is right, in a few sentences.")
    examples: tuple[str, ...] = Field(
        (), max_length=12, description="Scans that show it: paths or URIs of files, or image ids of the run."
    )


class AnnotateConfig(Section):
    """The labelling page."""

    project: str = Field("", max_length=80, description="The project's name, at the top of the page.")
    language: Literal["en", "de"] = Field("en", description="Of the page: English or German.")
    definitions: dict[str, Definition] = Field(
        {},
        description="Of each class or finding, and of each remark: what it means, and scans that show it, to be looked "
        "up at the page.",
    )


class ReportsConfig(Section):
    """What radiology reports say of the scans: never a certificate, never a reading, never in the sealed holdout."""

    rules: str = Field(
        "en",
        description="How reports are read: en, de, or a rules file of your own, see docs/how-to/reports.md.",
    )
    min_precision: float = Field(
        0.8,
        gt=0.5,
        lt=0.999,
        description="Lower bound of its precision, by blind checks of experts, from which on what reports say of a "
        "finding is used; until then it trains nothing. .80 needs 17 checks without an error at .95 confidence.",
    )
    confidence: float = Field(0.95, ge=0.5, lt=1.0, description="Of that bound, at all looks together.")
    check_share: Share = Field(
        0.2,
        description="Largest share of a queue drawn by chance, blind, from scans whose reports say what is not yet "
        "known to be right or wrong often enough. 0: the uniform slice alone checks them.",
    )
    weight: float = Field(
        1.0,
        ge=0.0,
        le=1.0,
        description="Weight in training of a label by report that is used, next to an expert's of 1; 0: none trains.",
    )
    rank: bool = Field(
        True, description="Seek representatives first where no report that is used has told the class already."
    )
