"""The one place for options: a frozen, strict schema with type, bound, unit and help of each.

"auto" values are resolved once, into a second object that is recorded with the run (`resolved.yaml`); nothing is
mutated. `config_file` reads and writes it.
"""

from typing import Annotated, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from pipeline.contracts import conditions
from pipeline.contracts.healthy_class import is_negative

KNOWN_COLUMNS = (
    "image_path",
    "label",
    "patient_id",
    "source",
    "population",
    "age",
    "sex",
    "view",
    "official_split",
    "reader",
)
# Rules by which files that are no frontal chest radiographs are left out, in the order they are asked.
SetAside = Literal["other-modality", "localizer", "other-body-part", "for-processing", "lateral"]
SET_ASIDE_RULES: tuple[SetAside, ...] = get_args(SetAside)
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Channels = Annotated[tuple[float, ...], Field(min_length=1, max_length=3)]
White = Annotated[int, Field(ge=1, le=65_535)]


def _as_name(value: object) -> object:
    """`0` and `1` are names of classes too: YAML reads them as numbers."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value) if isinstance(value, int | float) else value


Name = Annotated[str, BeforeValidator(_as_name)]


class Section(BaseModel):
    """A strict, frozen group of options."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class PoolConfig(Section):
    """Where the scans come from and what their columns mean."""

    uri: str = Field(
        "phantom:",
        description="Folder, ZIP archive, DICOMDIR, a table of scans (CSV, TSV, XLSX or Parquet, also packed with "
        "gzip), a public set as its owner ships it (`nih:FOLDER`, `chexpert:FOLDER`, ...), `medmnist:NAME`, "
        "`phantom:`.",
    )
    root: str | None = Field(
        None,
        description="Folder that the paths in the table begin in; a relative one lies beside the table. null: the "
        "table's own, or a folder above it where the files are.",
    )
    where: dict[str, conditions.Written] = Field(
        default_factory=dict,
        description="Which scans are taken: a column of the table, or view, age, sex, laterality, manufacturer, to a "
        "value, a list of values or a comparison: {view: [PA], age: '>= 18', modality: not CT}. The others are counted "
        "by reason; where a value is not known, the scan is left out unless `unknown` is in the list.",
    )
    columns: dict[str, str] = Field(
        default_factory=dict,
        description=f"Known column to the manifest's own column name; known: {', '.join(KNOWN_COLUMNS)}.",
    )
    patient_regex: str | None = Field(
        None, description="Regular expression on the path inside the pool; its first group is the patient id."
    )
    findings: tuple[Name, ...] | None = Field(
        None, description="Classes, or independent findings, in a fixed order; null takes the pool's labels, sorted."
    )
    findings_are: Literal["exclusive", "independent"] = Field(
        "exclusive",
        description="exclusive: every scan is of one class; independent: it may show several findings, or none, and "
        "of each it is known or not (NaN) whether it is there.",
    )
    finding: Name | None = Field(
        None,
        description="Of independent findings the one this run is about; a run sets it in its folders findings/NAME.",
    )
    positive: Name | None = Field(
        None,
        description="Of two classes the finding, which sensitivity, specificity and AUPRC are of. null: the "
        "one that is not called healthy (normal, no finding, none, negative, control, no X, non-X).",
    )
    reports: str | None = Field(
        None,
        description="Radiology reports of the scans: a column of the pool's table with their text, a folder of .txt "
        "files, or a table (CSV, TSV, XLSX, Parquet) with a column of scan or study ids and one of text. They are read "
        "by `reports.rules`; the text stays in the pool. null: none.",
    )
    report_labels: dict[Name, str] = Field(
        default_factory=dict,
        description="Finding to the column of the pool's table that another model filled from the reports (1 present, "
        "0 absent, -1 uncertain, blank not mentioned): a second source, or one without the text.",
    )
    max_pixels: int = Field(
        100_000_000, ge=1, description="A scan with more pixels is quarantined before it is decoded."
    )
    max_bytes: int = Field(
        268_435_456, ge=1, le=1_073_741_824, description="A longer file is quarantined; no more of it is read."
    )
    max_memory_mb: int = Field(
        512,
        ge=16,
        le=65_536,
        description="A scan whose picture would take more memory while it is decoded, pixels times bytes a pixel, is "
        "quarantined before it is.",
    )
    max_frames: int = Field(
        1000, ge=1, description="A file with more pictures in it is quarantined; of fewer the first is used."
    )
    allow_outside: tuple[Literal["links", "parents", "addresses"], ...] = Field(
        (),
        description="What may lead out of the pool's folder: links, `..` in a path (parents), addresses of another "
        "storage than the table's own, such as http:// or chained ones. What is not allowed is quarantined unread.",
    )
    allow_burned_in_text: bool = Field(
        False,
        description="Hand on the pictures of scans into which text seems to be burnt, or is by their tags, too. false: "
        "they stay out of queue files, reports, manifests for others and releases; the page of `annotate` shows them.",
    )
    max_seconds: float = Field(
        30.0, gt=0.0, le=3600.0, description="A scan that takes longer to decode is quarantined; its decoder is ended."
    )
    white: Literal["auto"] | White | Annotated[tuple[White, ...], Field(min_length=1)] = Field(
        "auto",
        description="Grey value that is white, in files of 16 bits that do not say how many bits count. auto: the pool "
        "decides once, by the largest values of its scans (255, 1023, 4095, 16383, 32767 or 65535). Of several: the "
        "smallest that holds the values of the scan, as `evaluate --pool` and `predict` set it to those of the run.",
    )
    set_aside: tuple[SetAside, ...] = Field(
        SET_ASIDE_RULES,
        description="DICOM files that are left out, counted by reason: of another modality (CT, ...), localizers, of "
        "another body part, raw detector values (for-processing), lateral views. [] keeps them all.",
    )

    @property
    def asks_several(self) -> bool:
        """Whether a run of this pool asks for several findings of each scan."""
        return self.findings_are == "independent" and self.finding is None

    @model_validator(mode="after")
    def _columns_are_known(self) -> "PoolConfig":
        independent = self.findings_are == "independent"
        own = (*(self.findings or ()), *([self.finding] if self.finding else [])) if independent else ()
        for name, written in self.where.items():
            try:
                conditions.parse(written)
            except ValueError as error:
                raise ValueError(f"where.{name}: {error}") from None
        empty = [finding for finding in own if is_negative(finding)]
        if empty:
            raise ValueError(
                f"findings: {empty[0]!r} says that there is none; leave it out: a scan is read so by that word, or by "
                "a column of that name"
            )
        unknown = sorted(set(self.columns) - {*KNOWN_COLUMNS, *own})
        if unknown:
            raise ValueError(f"columns: unknown {unknown}; known are {', '.join(KNOWN_COLUMNS)}")
        fewest = 1 if independent else 2
        if self.findings is not None and len(set(self.findings)) < max(fewest, len(self.findings)):
            raise ValueError(f"findings: name at least {'one' if independent else 'two classes'}, and none twice")
        if self.finding is not None and not independent:
            raise ValueError(
                "finding: only one of independent findings can be chosen; set findings_are: independent, or "
                "findings (with an s) to name the classes of scans that have one each"
            )
        if self.finding is not None and self.findings is not None and self.finding not in self.findings:
            raise ValueError(f"finding: {self.finding!r} is not among findings")
        if self.positive is not None and independent:
            raise ValueError("positive: of independent findings each is asked for by itself; leave it out")
        return self


class DuplicatesConfig(Section):
    """When two scans count as the same picture."""

    max_bits: int = Field(44, ge=0, le=100, description="Candidates: differing bits of the picture hash, of 255.")
    min_correlation: float = Field(
        0.75, ge=0.5, le=1.0, description="Confirmed: correlation of fine detail at 128x128 pixels, after alignment."
    )
    changed: bool = Field(
        True,
        description="Also look for copies that were turned, mirrored, shifted, cropped, padded or written upon. "
        "Reads every scan once more.",
    )
    min_block_correlation: float = Field(
        0.55,
        ge=0.5,
        le=1.0,
        description="Confirmed, for those: median correlation of detail over 7x7 blocks of 128x128 pixels, after "
        "alignment.",
    )
    max_block_shift_px: float = Field(
        0.4,
        gt=0.0,
        le=5.0,
        description="And median shift that the blocks still ask for, in pixels of 128; films of a person ask more.",
    )
    min_kept_detail: float = Field(
        0.4,
        ge=0.0,
        le=2.0,
        description="And of the finest detail of the poorer picture, the part that both share: phantoms share none.",
    )
    looks_a_scan: float = Field(
        0.3,
        ge=0.0,
        le=10.0,
        description="Candidates, for those: pairs a scan that are worth reading their pixels, beside the nearly sure.",
    )


_PUBLIC_SALTS = ("cxr-ssl", "change-me")  # stood in older versions for everybody to read


class SplitsConfig(Section):
    """How the sealed holdout is set apart."""

    column: Literal["auto", "none"] = Field(
        "auto", description="auto: the pool's own split column where it has one; none: ignore it."
    )
    holdout_fraction: float = Field(
        0.2, gt=0.0, lt=0.9, description="Share of groups sealed when the pool brings no split."
    )
    holdout_source: str | None = Field(
        None, description="Seal every scan of this source: an external test. Wins over column and holdout_fraction."
    )
    draw: str = Field(
        "cxr-ssl",
        min_length=1,
        description="Name of the draw. One name seals the same patients of a pool in every run; another name seals "
        "others.",
    )
    salt: str | None = Field(
        None,
        min_length=1,
        exclude=True,
        repr=False,
        description="Secret key of the hash that hides the ids of patients. null: the run draws its own. It is kept in "
        "`private/salt` of the run and nowhere else. Give several runs one secret where their patients must be "
        "matched.",
    )

    @field_validator("salt")
    @classmethod
    def _is_secret(cls, salt: str | None) -> str | None:
        return None if salt in _PUBLIC_SALTS else salt


class PreprocessConfig(Section):
    """From file to the network's input."""

    size_px: int = Field(
        224,
        ge=32,
        le=1024,
        description="Side of the square input; the scan is resized to it. Left out, it is the size the backbone was "
        "made for, where that is known.",
    )


class BackboneConfig(Section):
    """The frozen network behind the embeddings."""

    name: str = Field(
        "efficientnet_lite0",
        description="efficientnet_lite0 (ships offline), `timm:NAME`, `torchvision:NAME`, or the folder that "
        "`cxr-ssl pretrain` wrote.",
    )
    weights: str | None = Field(
        None,
        description="Local .safetensors or .pth (weights_only) file of any published layout, or a folder as Hugging "
        "Face publishes it; null: the backbone's own pretrained ones.",
    )
    mean: Channels | None = Field(
        None,
        description="Mean of the grey values, in [0, 1], that the network was trained with: one number, or one for "
        "each of 3 channels. null: what lies beside the weights, else the library's.",
    )
    std: Channels | None = Field(None, description="The same, their standard deviation; goes with mean.")
    pooling: Literal["auto", "cls", "mean", "cls+mean"] = Field(
        "auto",
        description="What becomes the vector: the class token of a transformer, the mean of its patches, or both; "
        "auto: what the library says of the architecture.",
    )
    licence: str | None = Field(
        None, description="Licence of the weights, for cards and reports. null: what lies beside the weights says so."
    )

    @model_validator(mode="after")
    def _check_normalisation(self) -> "BackboneConfig":
        if (self.mean is None) != (self.std is None):
            raise ValueError("mean and std go together; give both, or neither")
        if self.mean is not None and self.std is not None:
            if {len(self.mean), len(self.std)} - {1, 3}:
                raise ValueError("mean and std are 1 number, or 3: one for each channel")
            if min(self.std) <= 0.0:
                raise ValueError(f"std is a standard deviation, above 0, not {min(self.std)}")
        return self


class AugmentConfig(Section):
    """Random views of a scan that leave its findings as they are; never upside down."""

    crop: float = Field(0.2, ge=0.0, lt=1.0, description="Largest share of the side that a view leaves out.")
    rotate_degrees: float = Field(8.0, ge=0.0, le=45.0, description="Largest turn to either side, degrees.")
    shift: float = Field(0.04, ge=0.0, le=0.5, description="Largest shift, share of the side.")
    stretch: float = Field(0.08, ge=0.0, le=0.5, description="Largest change of the aspect, natural logarithm.")
    gamma: float = Field(0.35, ge=0.0, le=2.0, description="Largest change of the exposure, log of the exponent.")
    window: float = Field(0.25, ge=0.0, le=2.0, description="Largest change of the window's width, natural logarithm.")
    level: float = Field(0.08, ge=0.0, le=0.5, description="Largest change of the window's level, share of the range.")
    noise: float = Field(0.02, ge=0.0, le=0.5, description="Noise of every third view, standard deviation.")
    flip: bool = Field(True, description="Mirror half of the views. Set false where the side matters (situs inversus).")


class PretrainConfig(Section):
    """Self-supervised training of the backbone on the training pool."""

    epochs: int = Field(0, ge=0, le=100_000, description="Passes over the pool; 0: `run` uses the backbone as it is.")
    method: Literal["simclr", "moco", "byol", "vicreg", "barlowtwins", "dino", "mae"] = Field(
        "simclr", description="What the network learns from unlabelled scans."
    )
    start: Literal["pretrained", "random"] = Field(
        "pretrained", description="pretrained: go on from the weights of backbone; random: from scratch."
    )
    size_px: int = Field(
        224, ge=32, le=1024, description="Side of the views; best that of preprocess, smaller for both is quicker."
    )
    batch_size: int = Field(64, ge=2, le=65_536, description="Scans a step and worker.")
    accumulate: int = Field(1, ge=1, le=4096, description="Steps whose gradients are added up before an update.")
    lr: float = Field(1e-3, gt=0.0, le=10.0, description="Highest learning rate of AdamW, for 256 scans an update.")
    weight_decay: float = Field(1e-4, ge=0.0, le=1.0, description="Of AdamW.")
    warmup_share: Share = Field(0.1, description="Share of the updates in which the learning rate rises.")
    temperature: float = Field(0.1, gt=0.0, le=10.0, description="simclr, moco: temperature of the similarities.")
    projection_dim: int = Field(128, ge=2, le=65_536, description="Dimensions the views are compared in.")
    hidden_dim: int = Field(512, ge=2, le=65_536, description="Hidden units of the projection.")
    momentum: float = Field(0.99, ge=0.0, lt=1.0, description="moco, byol, dino: of the slow network at the start.")
    mask_share: float = Field(0.75, gt=0.0, lt=1.0, description="mae: share of the patches that are hidden.")
    probe_every: int = Field(1, ge=1, description="Epochs between two looks at collapse and, with labels, probes.")
    max_probe_scans: int = Field(2000, ge=50, description="Scans of such a look.")
    checkpoint_every: int = Field(1, ge=1, description="Epochs between two checkpoints.")
    num_workers: int = Field(1, ge=1, le=4096, description="Processes that train together, through Ray Train.")
    precision: Literal["auto", "fp32", "amp"] = Field("auto", description="auto: mixed precision on a GPU.")
    augment: AugmentConfig = Field(
        AugmentConfig(crop=0.5, gamma=0.6, window=0.5, level=0.15),
        description="The views; stronger than those of the classifier.",
    )


Features = Literal["stages", "pooled"]


class EmbedConfig(Section):
    """How embeddings are computed and kept."""

    features: Features = Field(
        "stages",
        description="stages: every stage of the network pooled, of the scan and of its middle; twice the time and "
        "three times the numbers of pooled: the network's own embedding of the scan alone.",
    )
    runtime: Literal["auto", "onnx", "torch"] = Field("auto", description="auto: torch on a GPU, onnxruntime on a CPU.")
    batch_size: int = Field(32, ge=1, le=4096, description="Scans a forward pass.")
    shard_size: int = Field(256, ge=1, le=100_000, description="Scans a task; one file in the store.")
    store: str | None = Field(
        None,
        description="Folder shared by all runs, or a URL such as s3://bucket/embeddings, which needs no shared disk; "
        "null: CXR_SSL_CACHE or the user's cache folder.",
    )


class ClusterConfig(Section):
    """Clusters of the pool, for the map, the contact sheets and the slices."""

    num_clusters: int | None = Field(None, ge=2, description="null: about sqrt(N / 2), 8 to 1000.")
    n_iter: int = Field(25, ge=1, le=1000, description="k-means iterations.")
    max_points_per_centroid: int = Field(256, ge=39, description="k-means trains on a sample of this size times k.")


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


class TrainConfig(Section):
    """The classifier on top of the embeddings."""

    head: Literal["linear", "mlp"] = Field("linear", description="Logistic regression or one hidden layer.")
    hidden: int = Field(128, ge=1, le=8192, description="mlp: hidden units.")
    dropout: float = Field(0.2, ge=0.0, lt=1.0, description="mlp: dropout.")
    teacher_l2: float = Field(
        10.0, gt=0.0, description="L2 penalty of the head on expert labels (1/C of scikit-learn)."
    )
    student_l2: float = Field(
        0.5, gt=0.0, description="L2 penalty of the head on expert and pseudo-labels (1/C of scikit-learn)."
    )
    num_components: int = Field(
        256,
        ge=2,
        le=8192,
        description="Principal components of the embeddings the head sees; more is slower.",
    )
    max_rows: int = Field(50_000, ge=100, description="Scans the head learns from; a larger pool is sampled.")
    max_epochs: int = Field(60, ge=1, description="Passes of the optimiser.")
    patience: int = Field(8, ge=1, description="mlp: epochs without a better validation loss.")
    lr: float = Field(2e-3, gt=0.0, le=1.0, description="mlp: learning rate of AdamW.")
    batch_size: int = Field(256, ge=1, description="mlp: rows a step.")
    num_workers: int = Field(1, ge=1, description="1: a plain Ray task; more: Ray Train.")
    adapt: Literal["head", "partial", "adapter", "full"] = Field(
        "head",
        description="What learns: the head; the last stages, over cached activations; adapters of low rank in the "
        "same stages (LoRA); the whole network.",
    )
    adapt_rounds: Literal["last", "all"] = Field(
        "last", description="The rounds that adapt the network; no queue needs it before the last."
    )
    findings: Literal["together", "apart"] = Field(
        "together",
        description="Of independent findings. together: one adapted network learns all of them, in the time of one; "
        "apart: each finding has a network of its own.",
    )


class NetworkConfig(Section):
    """How a network is trained: `train.adapt` partial, adapter and full, and the baselines."""

    last_stages: int = Field(
        3, ge=1, le=100, description="partial, adapter: stages that learn; the others run once a view."
    )
    num_views: int = Field(4, ge=1, le=64, description="partial, adapter: views a scan whose activations are cached.")
    adapter_rank: int = Field(8, ge=1, le=1024, description="adapter: rank of the matrices that learn.")
    adapter_alpha: float = Field(
        16.0, gt=0.0, le=10_000.0, description="adapter: their product counts alpha / rank times."
    )
    epochs: int = Field(1, ge=1, le=10_000, description="Passes over the scans.")
    min_steps: int = Field(160, ge=1, description="A small pool is passed over as often as it takes to make so many.")
    lr: float = Field(4e-4, gt=0.0, le=1.0, description="Highest learning rate of AdamW.")
    weight_decay: float = Field(0.01, ge=0.0, le=1.0, description="Of AdamW.")
    warmup_share: Share = Field(0.1, description="Share of the steps in which the learning rate rises; then a cosine.")
    batch_size: int = Field(32, ge=1, le=65_536, description="Scans a step, over all workers.")
    accumulate: int = Field(1, ge=1, le=4096, description="Parts a step is computed in, where memory is short.")
    balance: Literal["none", "weights", "sampling"] = Field(
        "none", description="Classes of equal weight in the loss, or drawn equally often."
    )
    label_smoothing: float = Field(0.0, ge=0.0, lt=1.0, description="Share of a target spread over all classes.")
    focal_gamma: float = Field(0.0, ge=0.0, le=10.0, description="Focal loss; 0: cross-entropy.")
    mixup: float = Field(0.0, ge=0.0, le=10.0, description="Alpha of mixup; 0: none.")
    ema: float = Field(0.0, ge=0.0, lt=1.0, description="Decay of the moving average of the weights; 0: none.")
    consistency: float = Field(
        0.0,
        ge=0.0,
        le=100.0,
        description="Weight of the loss that holds a view of an open scan to what the plain scan surely is (FixMatch).",
    )
    patience: int = Field(
        0,
        ge=0,
        description="Epochs without a better loss on a fifth of the expert labels, of other patients (the head "
        "it starts from knows them, so it stops early rather than late); 0: no early stopping.",
    )
    precision: Literal["auto", "fp32", "amp"] = Field("auto", description="auto: mixed precision on a GPU.")
    augment: AugmentConfig = Field(AugmentConfig(), description="The views.")


class PseudoConfig(Section):
    """Pseudo-labels: estimated for training, certified for release."""

    gate: Literal["estimated", "certified", "off"] = Field(
        "estimated",
        description="estimated: out-of-fold precision admits; certified: only what blind checks prove; off: none.",
    )
    precision: float = Field(0.97, gt=0.5, lt=1.0, description="The promise: precision of accepted labels.")
    confidence: float = Field(0.95, gt=0.5, lt=1.0, description="Of the one-sided bound of the certificate.")
    queue_below: float = Field(
        0.7,
        ge=0.0,
        le=1.0,
        description="Calibrated probability under which a scan is marked as worth an expert.",
    )
    max_share: float = Field(
        0.9,
        gt=0.0,
        le=1.0,
        description="Largest share of the scans predicted as a class that may be accepted.",
    )
    cap_per_class: float | None = Field(
        None,
        gt=0.0,
        le=100.0,
        description="Most pseudo-labels of a class, as a multiple of how many the open scans should hold by the "
        "estimated prevalence; the surest stay. null: no cap.",
    )
    cap_per_cluster: float | None = Field(
        None,
        gt=0.0,
        le=1.0,
        description="Largest share of all accepted pseudo-labels that may lie in one cluster; the surest stay. null: "
        "no cap.",
    )
    second_opinion: Literal["report", "require"] = Field(
        "report",
        description="What the nearest expert-labelled scans of other patients say. report: how often they agree with "
        "the pseudo-labels; require: a pseudo-label they do not agree with is not accepted.",
    )
    second_opinion_neighbors: int = Field(5, ge=1, le=200, description="Expert labels that vote on a scan.")
    propagate: float = Field(
        1.0,
        ge=0.0,
        le=1.0,
        description="Weight of neighbour-propagated soft targets for scans left open; 0 trains on accepted ones only.",
    )
    num_neighbors: int = Field(15, ge=1, le=200, description="Neighbours of the propagation graph.")
    spread_alpha: float = Field(0.5, ge=0.0, lt=1.0, description="Share of a label that neighbours hand on.")
    rollback_auroc: float = Field(
        0.005,
        ge=0.0,
        le=1.0,
        description="A round that costs more calibration AUROC than this is rolled back.",
    )
    rollback_accuracy: float = Field(
        0.03, ge=0.0, le=1.0, description="Likewise of the accuracy of the most probable class."
    )
    rollback_brier: float = Field(0.02, ge=0.0, le=1.0, description="Likewise a rise of the Brier score, 0 to 1.")


class ReleaseConfig(Section):
    """Pseudo-labels for others: what is frozen, promised and checked; the confidence is `pseudo.confidence`."""

    promise: float = Field(
        0.9,
        gt=0.5,
        lt=0.999,
        description="Precision that is certified before anything is released; .90 needs 36 clean checks at .95 "
        "confidence, .95 needs 72.",
    )
    freeze_round: int | None = Field(
        None,
        ge=0,
        description="Freeze after this round, or the first later one that accepts something; 0: never. null: after the "
        "last round whose remaining queues can pay for the checks planned; a shorter run freezes nothing.",
    )
    run_share: Share = Field(
        0.4,
        description="Largest share of all the labels of a run planned as checks: they are planned for as many errors "
        "as it pays for. The later a release is frozen, the better the model it comes from.",
    )
    check_share: Share = Field(
        0.9,
        description="Share of the budget of a queue spent on checks of a frozen release while they are needed; they go "
        "before the uniform slice.",
    )
    surest_share: Share = Field(
        0.25,
        description="Share of the release that is its surest tier, which holds sooner than the whole; it has room for "
        "twice the clean checks where the release has.",
    )
    begin_with: Literal["auto", "surest", "whole"] = Field(
        "auto",
        description="What is certified first: surest, the surest tier; whole: all. auto: the whole where the "
        "classifier holds nearly all of it to be right, else the surest tier; decided before the first check.",
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


class CalibrateConfig(Section):
    """Out-of-fold calibration."""

    num_folds: int = Field(5, ge=2, le=20, description="Patient-grouped folds over the expert labels.")


class RoundsConfig(Section):
    """The loop."""

    num: int = Field(5, ge=1, le=1000, description="Rounds of queue, labels, training and pseudo-labels.")
    reference: bool = Field(
        True, description="With --oracle, also run random selection on the same budget as a reference curve."
    )


class StopConfig(Section):
    """When further labels are no longer worth their price: advice, and whether the rounds end by it."""

    advise: bool = Field(
        True, description="After every round, forecast what further labels would buy, and compare its predictions."
    )
    when: Literal["never", "stable", "forecast"] = Field(
        "never",
        description="What ends the rounds before rounds.num: nothing; stable predictions; a forecast that further "
        "labels buy too little. Not while blind checks of a release are to come.",
    )
    agreement: float = Field(
        0.99,
        gt=0.0,
        le=1.0,
        description="stable: Cohen's kappa of consecutive rounds' predictions, the mean of the last comparisons.",
    )
    num_comparisons: int = Field(3, ge=1, le=100, description="stable: comparisons that the mean is taken over.")
    num_scans: int = Field(
        2000, ge=10, description="stable: scans of the training pool, drawn once by chance, that are compared."
    )
    horizons: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (20, 50, 100), min_length=1, description="Numbers of further labels whose gain is forecast, rising."
    )
    confidence: float = Field(0.9, ge=0.5, lt=1.0, description="Of the forecast's interval.")
    min_gain: float = Field(
        0.01,
        ge=0.0,
        lt=1.0,
        description="forecast: gain in AUROC by the last of the horizons that is worth the labels; less is said to be "
        "too little only where the upper end of the interval is below it.",
    )
    min_labels: int = Field(30, ge=10, description="Expert labels below which nothing is forecast.")
    num_repeats: int = Field(
        10, ge=2, le=200, description="Draws of subsets of the labels that the learning curve is the mean of."
    )

    @model_validator(mode="after")
    def _horizons_rise(self) -> "StopConfig":
        if list(self.horizons) != sorted(set(self.horizons)):
            raise ValueError(f"horizons must rise, not {list(self.horizons)}")
        return self


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
        0.05, description="Share of labels that look wrong (lower bound), beyond what hard cases explain."
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
    object_store_mb: int = Field(256, ge=80, description="Object store of a local Ray, MiB.")
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


class Config(Section):
    """Everything a run depends on."""

    seed: int = Field(0, ge=0, le=2**31 - 1, description="Root of all randomness.")
    oracle: bool = Field(False, description="Hide the training pool's labels and reveal those the queue asks for.")
    pool: PoolConfig = PoolConfig()
    duplicates: DuplicatesConfig = DuplicatesConfig()
    splits: SplitsConfig = SplitsConfig()
    preprocess: PreprocessConfig = PreprocessConfig()
    backbone: BackboneConfig = BackboneConfig()
    pretrain: PretrainConfig = PretrainConfig()
    embed: EmbedConfig = EmbedConfig()
    cluster: ClusterConfig = ClusterConfig()
    strategy: StrategyConfig = StrategyConfig()
    queue: QueueConfig = QueueConfig()
    annotate: AnnotateConfig = AnnotateConfig()
    rounds: RoundsConfig = RoundsConfig()
    stop: StopConfig = StopConfig()
    train: TrainConfig = TrainConfig()
    network: NetworkConfig = NetworkConfig()
    calibrate: CalibrateConfig = CalibrateConfig()
    pseudo: PseudoConfig = PseudoConfig()
    release: ReleaseConfig = ReleaseConfig()
    reports: ReportsConfig = ReportsConfig()
    audit: AuditConfig = AuditConfig()
    predict: PredictConfig = PredictConfig()
    monitor: MonitorConfig = MonitorConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    engine: EngineConfig = EngineConfig()
    track: TrackConfig = TrackConfig()
    privacy: PrivacyConfig = PrivacyConfig()

    @model_validator(mode="after")
    def _last_round_is_known(self) -> "Config":
        if self.stop.when != "never" and self.train.adapt != "head" and self.train.adapt_rounds == "last":
            raise ValueError(
                f"stop.when: {self.stop.when} may end the rounds before the last one, which alone would adapt the "
                "network; set train.adapt_rounds: all, or stop.when: never"
            )
        return self
