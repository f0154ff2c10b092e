"""Vector fields that declare their norm, their contraction rate and their largest contractive step."""

from contractive_gnn.dynamics import registered_fields as _registered_fields  # noqa: F401  # importing registers them
from contractive_gnn.dynamics.adjacency import Adjacency, AdjacencyFlow
from contractive_gnn.dynamics.ascent import GradientAscent
from contractive_gnn.dynamics.base import Dynamics, OnGraph
from contractive_gnn.dynamics.conservative import (
    CenteredField,
    ConstantMatrix,
    CouplingField,
    HamiltonianField,
    MassField,
    PerceptronMatrix,
    SeparableHamiltonian,
    ShearField,
    SkewField,
    StateMatrix,
    TriangularMatrix,
)
from contractive_gnn.dynamics.coupled import CoupledFlow
from contractive_gnn.dynamics.diffusion import Diffusion
from contractive_gnn.dynamics.energy import Energy, PerceptronEnergy, QuadraticEnergy, SumEnergy
from contractive_gnn.dynamics.field import VectorField
from contractive_gnn.dynamics.fields import FIELDS, register_field
from contractive_gnn.dynamics.gradient_field import GradientField
from contractive_gnn.dynamics.gradient_flow import GradientFlow
from contractive_gnn.dynamics.graph_gradient_flow import GraphGradientFlow
from contractive_gnn.dynamics.hamiltonian import HamiltonianFlow
from contractive_gnn.dynamics.implicit import ImplicitFlow
from contractive_gnn.dynamics.mass_diffusion import MassDiffusion
from contractive_gnn.dynamics.pdes import registered as _registered_pdes  # noqa: F401  # likewise
from contractive_gnn.dynamics.perceptron import PerceptronField
from contractive_gnn.dynamics.polynomial_energy import PolynomialEnergy
from contractive_gnn.dynamics.presnov import PresnovHalves, presnov_halves
from contractive_gnn.dynamics.registry import DYNAMICS, register
from contractive_gnn.dynamics.ridge_energy import RidgeEnergy
from contractive_gnn.dynamics.sum_field import SumField
from contractive_gnn.dynamics.volume_coupling import VolumeCoupling

__all__ = [
    "DYNAMICS",
    "FIELDS",
    "Adjacency",
    "AdjacencyFlow",
    "CenteredField",
    "ConstantMatrix",
    "CoupledFlow",
    "CouplingField",
    "Diffusion",
    "Dynamics",
    "Energy",
    "GradientAscent",
    "GradientField",
    "GradientFlow",
    "GraphGradientFlow",
    "HamiltonianField",
    "HamiltonianFlow",
    "ImplicitFlow",
    "MassDiffusion",
    "MassField",
    "OnGraph",
    "PerceptronEnergy",
    "PerceptronField",
    "PerceptronMatrix",
    "PolynomialEnergy",
    "PresnovHalves",
    "QuadraticEnergy",
    "RidgeEnergy",
    "SeparableHamiltonian",
    "ShearField",
    "SkewField",
    "StateMatrix",
    "SumEnergy",
    "SumField",
    "TriangularMatrix",
    "VectorField",
    "VolumeCoupling",
    "presnov_halves",
    "register",
    "register_field",
]
