"""The dynamics by name, ours and other people's.

A registered name is a row of ``contractive-gnn verify`` and, if its state is node features, a model of
``contractive-gnn bench``. Importing a module that registers is all: nothing is loaded here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from contractive_gnn.activations import Identity, LeakyReLU
from contractive_gnn.dynamics.adjacency import AdjacencyFlow
from contractive_gnn.dynamics.ascent import GradientAscent
from contractive_gnn.dynamics.base import Dynamics
from contractive_gnn.dynamics.coupled import CoupledFlow
from contractive_gnn.dynamics.diffusion import Diffusion
from contractive_gnn.dynamics.fields import FIELDS
from contractive_gnn.dynamics.graph_gradient_flow import GraphGradientFlow
from contractive_gnn.dynamics.hamiltonian import HamiltonianFlow
from contractive_gnn.dynamics.implicit import ImplicitFlow
from contractive_gnn.dynamics.mass_diffusion import MassDiffusion
from contractive_gnn.dynamics.volume_coupling import VolumeCoupling
from contractive_gnn.names import unknown
from contractive_gnn.registry import Registry

Factory = Callable[..., Dynamics]
"""``factory(channels, **hyperparameters) -> Dynamics``; a class whose first argument is the channels is one."""

DYNAMICS: Registry[Factory] = Registry("dynamics")
DYNAMICS.give_way_to(FIELDS)  # one name is one row of ``verify``
FIELDS.give_way_to(DYNAMICS)

F = TypeVar("F", bound=Factory)


def register(name: str) -> Callable[[F], F]:
    """Register a class or a function ``(channels, **hyperparameters) -> Dynamics`` under a name.

    Args:
        name: lower-case words joined by hyphens.

    Raises:
        ValueError: if the name is taken by other code, or has other characters. The same code, imported under two names
            (as a plug-in and as a module, say), may register again.
    """
    return DYNAMICS.register(name)


def names() -> list[str]:
    """The names of all registered dynamics."""
    return DYNAMICS.names()


def select(wanted: Sequence[str] | None = None) -> list[str]:
    """The names in ``wanted``, all of them known; every registered name if there are none.

    Raises:
        ValueError: if a name is unknown, or given twice.
    """
    if strangers := [name for name in wanted or () if name not in DYNAMICS]:
        raise ValueError(unknown("dynamics", strangers, DYNAMICS))
    if wanted is not None and (twice := [name for name in wanted if wanted.count(name) > 1]):
        raise ValueError(f"the dynamics {twice[0]!r} is given twice; give each once")
    return list(wanted or DYNAMICS)


def build(name: str, channels: int, **hyperparameters: object) -> Dynamics:
    """Build a registered dynamics.

    Raises:
        ValueError: if the name is unknown.
    """
    return DYNAMICS.get(name)(channels, **hyperparameters)


register("gradient-flow")(GraphGradientFlow)


@register("gradient-flow-linear")
def _(channels: int, **flow: object) -> GraphGradientFlow:
    return GraphGradientFlow(channels, **{"activation": "identity", "mu": 0.1, **flow})  # type: ignore[arg-type]


@register("gradient-flow-degree")
def _(channels: int, **flow: object) -> GraphGradientFlow:
    return GraphGradientFlow(channels, **{"normalization": "degree", "mu": 0.1, **flow})  # type: ignore[arg-type]


@register("gradient-flow-unnormalised")
def _(channels: int, **flow: object) -> GraphGradientFlow:
    return GraphGradientFlow(channels, **{"normalization": "none", "activation": "group-huber", **flow})  # type: ignore[arg-type]


@register("redescending-flow")
def _(channels: int, **flow: object) -> GraphGradientFlow:
    # slopes down to −1 and ‖G‖² ≤ 2, so it contracts for μ > 2
    return GraphGradientFlow(channels, **{"activation": "group-mcp", "mu": 2.1, "learn_weight": False, **flow})  # type: ignore[arg-type]


@register("diffusion")
def _(channels: int, **flow: object) -> Diffusion:
    return Diffusion(**flow)  # type: ignore[arg-type]


@register("diffusion-linear")
def _(channels: int, **flow: object) -> Diffusion:
    return Diffusion(**{"activation": "identity", **flow})  # type: ignore[arg-type]


register("gradient-ascent")(GradientAscent)
register("hamiltonian-flow")(HamiltonianFlow)
register("implicit-flow")(ImplicitFlow)
register("mass-diffusion")(MassDiffusion)
register("volume-coupling")(VolumeCoupling)


def _adjacency(form: str, **defaults: object) -> Factory:
    def factory(channels: int, **flow: object) -> AdjacencyFlow:
        return AdjacencyFlow(**{"form": form, "scale": 0.5, **defaults, **flow})  # type: ignore[arg-type]

    return factory


register("adjacency-l1-inside")(_adjacency("l1-inside"))
register("adjacency-l1-outside")(_adjacency("l1-outside"))
register("adjacency-max-outside")(_adjacency("max-outside"))
register("adjacency-linear")(_adjacency("l1-inside", activation=Identity()))
register("adjacency-published")(_adjacency("published"))


@register("coupled-flow")
def _(channels: int, **flow: object) -> CoupledFlow:
    adjacency = AdjacencyFlow(form="l1-inside", activation=LeakyReLU(0.2), alpha=-1.0, scale=0.5)
    return CoupledFlow(Diffusion(), adjacency, **flow)  # type: ignore[arg-type]
