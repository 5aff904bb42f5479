"""`cxr-ssl serve`: a run's model over HTTP; see `pipeline.predict.deployed.service`."""

from pathlib import Path

from pipeline.contracts.errors import InputError


def serve(run: Path, host: str, port: int, token_file: Path | None, max_bytes: int) -> None:
    """Serve until told to end; see `service.serve`.

    Raises:
        InputError: see there; or the extra `serve` is not installed.
    """
    try:
        import prometheus_client  # noqa: F401
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise InputError(f"{error.name} is not installed", where="serve", fix="pip install 'cxr-ssl[serve]'") from error
    from pipeline.predict.deployed import service

    service.serve(run, host, port, token_file, max_bytes)
