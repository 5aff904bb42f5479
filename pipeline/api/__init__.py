"""The commands from Python: tables as pandas with the scans' paths, errors as exceptions; works in a notebook.

In: arguments of Python. Out: what each command does; the names in `__all__` are stable and typed.
"""

import warnings

from pipeline.api.classifier import Classifier
from pipeline.api.functions import audit, compare, embed, run, select
from pipeline.api.results import Audit, Comparison, Embeddings
from pipeline.api.runs import Run
from pipeline.contracts.errors import AuditBlocked, CxrSslError, InputError, WaitingForLabels

# Of bars that libraries inside would like to draw in a notebook, and that nobody asked for.
warnings.filterwarnings("ignore", message="IProgress not found")

__all__ = [
    "Audit",
    "AuditBlocked",
    "Classifier",
    "Comparison",
    "CxrSslError",
    "Embeddings",
    "InputError",
    "Run",
    "WaitingForLabels",
    "audit",
    "compare",
    "embed",
    "run",
    "select",
]
