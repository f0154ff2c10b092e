"""The models by the name of what they promise: robust, and provably contractive."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from contractive_gnn import activations
from contractive_gnn.activations import Activation, GroupFirm
from contractive_gnn.checks import check_flag, check_real, check_whole
from contractive_gnn.deprecated import renamed
from contractive_gnn.dynamics import GraphGradientFlow
from contractive_gnn.nn.flow import FlowConv
from contractive_gnn.nn.similarity.flow import SimilarityFlowGNN
from contractive_gnn.nn.similarity.weights import Similarity


@renamed(hidden="hidden_channels", num_steps="num_layers", sigma="activation")
def robust(
    in_channels: int,
    out_channels: int,
    *,
    hidden_channels: int = 64,
    num_layers: int = 10,
    mu: float = 0.1,
    threshold: float = 4.0,
    epsilon: float = 0.1,
    dropout: float = 0.6,
    row_norm: float = 4.0,
    calibrated: bool = False,
    similarity: bool = True,
    activation: str = "group-mcp",
    **similarities: Any,
) -> SimilarityFlowGNN:
    """The redescending :class:`SimilarityFlowGNN`, by default ``φ(s) = (1 − s)₊``: beyond λ an edge has no pull at all.

    Its steps contract only where ``μ > 2ρ``, ρ the steepest descent of φ(s)s, which these values do not reach: nothing
    is certified. ``similarity=False`` keeps the given weights; ``activation="identity"`` keeps A(0) through the
    flow.

    Args:
        in_channels: number of features, -1 to infer it.
        out_channels: number of classes.
        hidden_channels: width of the hidden layer.
        num_layers: number of Euler steps.
        mu: μ.
        threshold: λ.
        epsilon: ε, added to the degrees.
        dropout: see :class:`SimilarityFlowGNN`.
        row_norm: see :class:`SimilarityFlowGNN`.
        calibrated: see :class:`SimilarityFlowGNN`.
        similarity: whether to weigh the edges by :class:`Similarity`.
        activation: a group activation by name.
        **similarities: hyperparameters of :class:`Similarity`.
    """
    return SimilarityFlowGNN(
        in_channels,
        out_channels,
        _conv(
            hidden_channels,
            activations.activation(activation, threshold=threshold),
            num_layers=num_layers,
            mu=mu,
            epsilon=epsilon,
        ),
        similarity=_similarity(similarity, similarities),
        calibrated=calibrated,
        hidden_channels=hidden_channels,
        dropout=dropout,
        row_norm=row_norm,
    )


@renamed(hidden="hidden_channels", num_steps="num_layers")
def robust_provable(
    in_channels: int,
    out_channels: int,
    *,
    hidden_channels: int = 64,
    num_layers: int = 10,
    mu: float = 0.1,
    threshold: float = 1.2,
    epsilon: float = 0.1,
    dropout: float = 0.6,
    row_norm: float = 4.0,
    calibrated: bool = False,
    similarity: bool = True,
    **similarities: Any,
) -> SimilarityFlowGNN:
    """The contractive :class:`SimilarityFlowGNN`: :class:`GroupFirm` that falls as steeply as the fidelity allows.

    Radial ``r`` up to λ, then down with slope ``κ = 0.99 μ/2`` to 0. With ``‖G‖² ≤ 2`` in the norm that weights a node
    by its degree the rate is ``μ − 2κ = 0.01 μ > 0``: every step contracts, for a fixed A(0) and a fixed F⁰.
    ``similarity=False`` keeps the given weights.

    Args:
        in_channels: number of features, -1 to infer it.
        out_channels: number of classes.
        hidden_channels: width of the hidden layer.
        num_layers: number of Euler steps.
        mu: μ > 0.
        threshold: λ.
        epsilon: ε, added to the degrees.
        dropout: see :class:`SimilarityFlowGNN`.
        row_norm: see :class:`SimilarityFlowGNN`.
        calibrated: see :class:`SimilarityFlowGNN`.
        similarity: whether to weigh the edges by :class:`Similarity`.
        **similarities: hyperparameters of :class:`Similarity`.
    """
    check_real("mu", mu, above=0)  # without fidelity nothing outweighs a redescending force
    sigma = GroupFirm(threshold, kappa=0.99 * mu / 2.0)
    return SimilarityFlowGNN(
        in_channels,
        out_channels,
        _conv(hidden_channels, sigma, num_layers=num_layers, mu=mu, epsilon=epsilon, constrained=True),
        similarity=_similarity(similarity, similarities),
        calibrated=calibrated,
        hidden_channels=hidden_channels,
        dropout=dropout,
        row_norm=row_norm,
    )


def _similarity(wanted: bool, options: Mapping[str, Any]) -> Similarity | None:
    check_flag("similarity", wanted)
    if wanted:
        return Similarity(**options)
    if options:
        raise TypeError(f"similarity=False takes no {', '.join(options)}; leave them out or set similarity=True")
    return None


def _conv(
    hidden_channels: int, sigma: Activation, *, num_layers: int, mu: float, epsilon: float, constrained: bool = False
) -> FlowConv:
    """Steps of ``1/(1 + μ)``: ``x ← (x − D⁻¹ Σ a σ + μ x⁰)/(1 + μ)``."""
    check_whole("hidden_channels", hidden_channels, least=1)
    check_whole("num_layers", num_layers, least=1)
    check_real("mu", mu, least=0)
    field = GraphGradientFlow(
        hidden_channels, activation=sigma, normalization="degree", mu=mu, learn_weight=False, epsilon=epsilon
    )
    return FlowConv(field, num_steps=num_layers, step=1.0 / (1.0 + mu), constrained=constrained)
