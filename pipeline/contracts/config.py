"""The one place for options: a frozen, strict schema with type, bound, unit and help of each.

"auto" values are resolved once, into a second object that is recorded with the run (`resolved.yaml`); nothing is
mutated. `config_file` reads and writes it.
"""

from pydantic import Field, model_validator

from pipeline.contracts.options.evidence import AuditConfig, EvaluateConfig, MonitorConfig, PredictConfig
from pipeline.contracts.options.labelling import AnnotateConfig, QueueConfig, ReportsConfig, StrategyConfig
from pipeline.contracts.options.learning import (
    CalibrateConfig,
    NetworkConfig,
    PseudoConfig,
    ReleaseConfig,
    RoundsConfig,
    StopConfig,
    TrainConfig,
)
from pipeline.contracts.options.running import EngineConfig, PrivacyConfig, TrackConfig
from pipeline.contracts.options.scans import DuplicatesConfig, PoolConfig, SplitsConfig
from pipeline.contracts.options.section import Section
from pipeline.contracts.options.vectors import (
    BackboneConfig,
    ClusterConfig,
    EmbedConfig,
    PreprocessConfig,
    PretrainConfig,
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
