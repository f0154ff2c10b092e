"""Graphs from files of one's own; see :func:`read`."""

from contractive_gnn.datasets.files.masks import FILE_SPLITS
from contractive_gnn.datasets.files.reading import SUFFIXES, assemble, digest, read

__all__ = ["FILE_SPLITS", "SUFFIXES", "assemble", "digest", "read"]
