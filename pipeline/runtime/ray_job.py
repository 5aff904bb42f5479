"""The Ray job that this process is, if it is one: its id, and the revision of the code that was sent with it."""

import json
import os
from typing import Any

REVISION = "CXR_SSL_REVISION"  # of the code that was uploaded: a working directory arrives without its .git
_RAY_SETS = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # for the entry point of a submitted job


def is_in_a_job() -> bool:
    """Whether this process was started by `ray job submit`."""
    return _RAY_SETS in os.environ or "RAY_JOB_ID" in os.environ


def job() -> dict[str, Any] | None:
    """{"id","entry"} of the job, None outside one; `entry` is the line that goes on with the run, if one is known."""
    if not is_in_a_job():
        return None
    try:
        metadata = json.loads(os.environ.get(_RAY_SETS, "{}")).get("metadata") or {}
    except ValueError:
        metadata = {}
    return {
        "id": metadata.get("job_submission_id") or os.environ.get("RAY_JOB_ID"),
        "entry": metadata.get("entry"),
    }


def revision() -> str | None:
    """The revision of the code that was sent with the job."""
    return os.environ.get(REVISION) or None
