"""Options of vectors: squares, backbone, pretraining, embedding, clusters."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipeline.contracts.options.section import Section, Share

Channels = Annotated[tuple[float, ...], Field(min_length=1, max_length=3)]


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
