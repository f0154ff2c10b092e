"""Layers with a known Lipschitz constant in ℓ2, behind one interface."""

from contractive_gnn.nn.lipschitz.base import NONEXPANSIVE, LipschitzModule, Sequential, certified, lipschitz

__all__ = ["NONEXPANSIVE", "LipschitzModule", "Sequential", "certified", "lipschitz"]
