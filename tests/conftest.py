"""What several rooms share: one local Ray for the whole session."""

import pytest


@pytest.fixture(scope="session")
def ray_session():
    """A RayEngine on two CPUs; Ray is started once, every start costs seconds."""
    from pipeline.contracts.config import EngineConfig
    from pipeline.runtime.engine import RayEngine

    engine = RayEngine(EngineConfig(num_cpus=2, max_retries=2, object_store_mb=80))
    engine.start()
    yield engine
    engine.close()
