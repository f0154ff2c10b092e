"""Adversarially robust graph neural networks from contractive ODEs, as PyTorch Geometric modules."""

__version__ = "0.1.0"
