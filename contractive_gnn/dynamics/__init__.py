"""Vector fields that declare their norm, their contraction rate and their largest contractive step."""

from contractive_gnn.dynamics.adjacency import Adjacency, AdjacencyFlow
from contractive_gnn.dynamics.base import Dynamics
from contractive_gnn.dynamics.diffusion import Diffusion
from contractive_gnn.dynamics.gradient_flow import GradientFlow

__all__ = ["Adjacency", "AdjacencyFlow", "Diffusion", "Dynamics", "GradientFlow"]
