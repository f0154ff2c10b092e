"""Graphs, attacked graphs, embedded data and generators."""

if __name__ != "contractive_gnn.datasets":
    raise ImportError(
        f"this folder is the package contractive_gnn.datasets, but it was imported as {__name__!r}; "
        "install the project (pip install -e .) and import contractive_gnn.datasets. If you wanted Hugging Face's "
        "`datasets`, run Python from another folder."
    )

from contractive_gnn.datasets.degree_corrected import degree_corrected_sbm
from contractive_gnn.datasets.digits import digits
from contractive_gnn.datasets.errors import (
    AlteredFileError,
    DatasetError,
    DownloadError,
    InvalidGraphError,
    InvalidImagesError,
    InvalidTrajectoriesError,
    MissingFileError,
    UnknownAttackError,
    UnknownBudgetError,
    UnknownDatasetError,
    UnknownSplitError,
    UnreadableFileError,
)
from contractive_gnn.datasets.fetch import FileStatus
from contractive_gnn.datasets.files import read
from contractive_gnn.datasets.maps import MAPS, BallMap
from contractive_gnn.datasets.noise import add_random_edges
from contractive_gnn.datasets.ogb import read_ogb
from contractive_gnn.datasets.protocol import random_split, validate, without_test_nodes
from contractive_gnn.datasets.published import has_published
from contractive_gnn.datasets.registry import DATASETS, Dataset, DatasetStatus, load, load_attacked, register, status
from contractive_gnn.datasets.sbm import contextual_sbm

__all__ = [
    "DATASETS",
    "MAPS",
    "AlteredFileError",
    "BallMap",
    "Dataset",
    "DatasetError",
    "DatasetStatus",
    "DownloadError",
    "FileStatus",
    "InvalidGraphError",
    "InvalidImagesError",
    "InvalidTrajectoriesError",
    "MissingFileError",
    "UnknownAttackError",
    "UnknownBudgetError",
    "UnknownDatasetError",
    "UnknownSplitError",
    "UnreadableFileError",
    "add_random_edges",
    "contextual_sbm",
    "degree_corrected_sbm",
    "digits",
    "has_published",
    "load",
    "load_attacked",
    "random_split",
    "read",
    "read_ogb",
    "register",
    "status",
    "validate",
    "without_test_nodes",
]
