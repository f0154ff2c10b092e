"""What can go wrong with a checkpoint: each error says what was given, what was expected and what to do."""

from __future__ import annotations


class PretrainedError(ValueError):
    """Base of every error that :mod:`contractive_gnn.pretrained` raises on purpose; by itself: there is no such one."""


class MissingCheckpointError(PretrainedError):
    """The checkpoint does not come with the package and has not been made on this machine."""


class AlteredCheckpointError(PretrainedError):
    """The file is not the one that was written, or its tensors do not fit the model."""


class WrongGraphError(PretrainedError):
    """The graph, or its split, is not the one that the model was trained on."""
