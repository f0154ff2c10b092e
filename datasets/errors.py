"""What can go wrong with a dataset: each error says what was given, what was expected and what to do."""

from __future__ import annotations

from contractive_gnn.inputs import InputError


class DatasetError(ValueError):
    """Base of every error that :mod:`contractive_gnn.datasets` raises on purpose."""


class UnknownDatasetError(DatasetError):
    """No dataset has this name."""


class UnknownSplitError(DatasetError):
    """No split has this name or this seed, or the labels do not allow it."""


class UnknownAttackError(DatasetError):
    """No published attacked graph exists for this attack on this dataset."""


class UnknownBudgetError(DatasetError):
    """The attack is published, but not with this budget."""


class AlteredFileError(DatasetError):
    """A file's size or SHA-256 differs from the manifest's."""


class MissingFileError(DatasetError):
    """A file is in none of the places looked at, and may not be downloaded."""


class DownloadError(DatasetError):
    """A file could not be downloaded."""


class UnreadableFileError(DatasetError):
    """A file was found, but does not contain what its format promises."""


class InvalidGraphError(DatasetError, InputError):
    """A graph breaks the protocol (symmetric, binary, no self-loop, no duplicate), or cannot be generated."""


class InvalidImagesError(DatasetError, InputError):
    """Images or labels have another shape, type or range than they must have."""


class InvalidTrajectoriesError(DatasetError, InputError):
    """Trajectories have another shape or type than they must have, are not finite, or have no solution."""
