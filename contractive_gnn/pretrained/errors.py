"""What can go wrong with a checkpoint: each error says what was given, what was expected and what to do."""

from __future__ import annotations


class CheckpointError(ValueError):
    """Base of every error that :mod:`contractive_gnn.pretrained` raises on purpose; by itself: there is no such one."""


class MissingCheckpointError(CheckpointError):
    """The checkpoint does not come with the package and has not been made on this machine."""


class AlteredCheckpointError(CheckpointError):
    """The file is not the one that was written, or its tensors do not fit the model."""


class WrongGraphError(CheckpointError):
    """The graph, or its split, is not the one that the model was trained on."""
