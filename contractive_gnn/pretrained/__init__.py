"""Trained models by name: checkpoints that come with the package, and those that one command makes.

Each was trained as the benchmark trains (``contractive-gnn bench``), with its packaged preset, on the fixed split.
:func:`load_pretrained` reads one, :func:`checkpoints` lists them.
"""

from contractive_gnn.pretrained.digests import graph_digest, prediction_digest, split_digest
from contractive_gnn.pretrained.errors import (
    AlteredCheckpointError,
    MissingCheckpointError,
    PretrainedError,
    WrongGraphError,
)
from contractive_gnn.pretrained.loading import load_pretrained
from contractive_gnn.pretrained.manifest import Checkpoint, checkpoints, find

__all__ = [
    "AlteredCheckpointError",
    "Checkpoint",
    "MissingCheckpointError",
    "PretrainedError",
    "WrongGraphError",
    "checkpoints",
    "find",
    "graph_digest",
    "load_pretrained",
    "prediction_digest",
    "split_digest",
]
