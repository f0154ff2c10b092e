"""Vector fields that declare their norm, their contraction rate and their largest contractive step."""

from contractive_gnn.dynamics import registered_fields as _registered_fields  # noqa: F401  # importing registers them
from contractive_gnn.dynamics.adjacency import Adjacency, AdjacencyFlow
from contractive_gnn.dynamics.ascent import GradientAscent
from contractive_gnn.dynamics.base import Dynamics, OnGraph
from contractive_gnn.dynamics.coupled import CoupledFlow
from contractive_gnn.dynamics.diffusion import Diffusion
from contractive_gnn.dynamics.field import VectorField
from contractive_gnn.dynamics.fields import FIELDS, register_field
from contractive_gnn.dynamics.gradient_flow import GradientFlow
from contractive_gnn.dynamics.graph_gradient_flow import GraphGradientFlow
from contractive_gnn.dynamics.hamiltonian import HamiltonianFlow
from contractive_gnn.dynamics.implicit import ImplicitFlow
from contractive_gnn.dynamics.perceptron import PerceptronField
from contractive_gnn.dynamics.registry import DYNAMICS, register
from contractive_gnn.dynamics.sum_field import SumField

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
    "GraphGradientFlow",
    "HamiltonianFlow",
    "ImplicitFlow",
    "OnGraph",
    "PerceptronField",
    "SumField",
    "VectorField",
    "register",
    "register_field",
]
