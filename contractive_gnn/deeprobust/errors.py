"""The error where DeepRobust is not installed."""

from __future__ import annotations


class DeepRobustMissing(ImportError):
    """DeepRobust, or something that it needs, is not installed."""
