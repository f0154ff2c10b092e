"""Vector fields that declare their norm, their contraction rate and their largest contractive step."""

from contractive_gnn.dynamics.adjacency import Adjacency, AdjacencyFlow
from contractive_gnn.dynamics.ascent import GradientAscent
from contractive_gnn.dynamics.base import Dynamics, OnGraph
from contractive_gnn.dynamics.coupled import CoupledFlow
from contractive_gnn.dynamics.diffusion import Diffusion
from contractive_gnn.dynamics.field import VectorField
from contractive_gnn.dynamics.fields import FIELDS, register_field
from contractive_gnn.dynamics.gradient_flow import GradientFlow
from contractive_gnn.dynamics.hamiltonian import HamiltonianFlow
from contractive_gnn.dynamics.implicit import ImplicitFlow
from contractive_gnn.dynamics.registry import DYNAMICS, register

__all__ = [
    "DYNAMICS",
    "FIELDS",
    "Adjacency",
    "AdjacencyFlow",
    "CoupledFlow",
    "Diffusion",
    "Dynamics",
    "GradientAscent",
    "GradientFlow",
    "HamiltonianFlow",
    "ImplicitFlow",
    "OnGraph",
    "VectorField",
    "register",
    "register_field",
]
