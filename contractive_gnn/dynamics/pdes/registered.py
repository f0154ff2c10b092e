"""Equations on small grids, as ``contractive-gnn verify`` tries them."""

from __future__ import annotations

from contractive_gnn.dynamics.fields import register_field
from contractive_gnn.dynamics.pdes.equations import advection, burgers, heat
from contractive_gnn.dynamics.pdes.finite_differences import FiniteDifferences
from contractive_gnn.dynamics.pdes.network import exact_network
from contractive_gnn.dynamics.perceptron import PerceptronField


@register_field("heat")
def _() -> FiniteDifferences:
    return FiniteDifferences(heat((5, 4), alpha=0.5, spacing=0.5))


@register_field("heat-between-walls")
def _() -> FiniteDifferences:
    return FiniteDifferences(heat((6,), alpha=0.5, spacing=0.5, boundary="dirichlet", order=4))


@register_field("heat-of-order-4")
def _() -> FiniteDifferences:
    return FiniteDifferences(heat((8,), alpha=0.3, order=4))


@register_field("heat-of-order-6")
def _() -> FiniteDifferences:
    return FiniteDifferences(heat((7, 8), alpha=0.3, spacing=(0.1, 0.07), boundary="neumann", order=6))


@register_field("heat-network")
def _() -> PerceptronField:
    return exact_network(heat((5, 4), alpha=0.5), learned=True)


@register_field("advection")
def _() -> FiniteDifferences:
    return FiniteDifferences(advection((5, 6), speed=(1.0, -0.5), order=4))


@register_field("burgers")
def _() -> FiniteDifferences:
    return FiniteDifferences(burgers((4, 5), viscosity=0.0))
