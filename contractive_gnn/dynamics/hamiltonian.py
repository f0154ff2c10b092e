r"""Hamiltonian flow: positions and momenta exchange energy and lose none."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from contractive_gnn.checks import check_whole
from contractive_gnn.dynamics.base import Dynamics
from contractive_gnn.dynamics.graph_gradient_flow import GraphGradientFlow
from contractive_gnn.graph import Graph


class HamiltonianFlow(Dynamics):
    r"""The Hamiltonian flow of ``H(q, p) = ‖p‖²/2 + Φ(q)``, with Φ the potential of a :class:`GraphGradientFlow`.

    .. math::
        \dot q = p, \qquad \dot p = -\nabla\Phi(q)

    The state is ``(q | p)``, two halves of the channels. It conserves H and volume, but contracts nothing: with
    ``∇²Φ`` between ``k_0 = κ`` and ``k_1 = ν + μ`` of the gradient flow, ``μ₂(DX) = ½ max_k |1 − k|``, and an Euler
    step has the largest singular value of ``[[1, h], [−hk, 1]]`` at an end of ``[k_0, k_1]`` (the norm of a matrix that
    is affine in k is convex in k): both are declared, as expansion. Graph networks of this kind: GraphCON (Rusch et
    al., ICML 2022) and HANG (Zhao et al., NeurIPS 2023), which bound no constant.

    Args:
        channels: number of feature channels, even.
        **flow: arguments of :class:`GraphGradientFlow`, whose norm must be ``"l2"``: normalisation ``"sym"`` or
            ``"none"``.

    Shapes:
        state ``[n, channels]``.

    Raises:
        ValueError: for an odd number of channels, another norm, or as :class:`GraphGradientFlow`.
    """

    norm = "l2"

    def __init__(self, channels: int, **flow: Any) -> None:
        super().__init__()
        check_whole("channels", channels, least=2)
        if channels % 2:
            raise ValueError(f"channels must be even (positions and momenta), got {channels!r}")
        self.descent = GraphGradientFlow(channels // 2, **flow)
        if self.descent.norm != "l2":
            raise ValueError(
                f"a Hamiltonian flow needs a symmetric Hessian: normalization 'sym' or 'none', got "
                f"{self.descent.normalization!r}"
            )

    def field(self, x: Tensor, graph: Graph, *, anchor: Tensor | None = None, t: Tensor | float = 0.0) -> Tensor:
        """``(p | −∇Φ(q))``; the anchor's first half is that of Φ's fidelity term."""
        q, p = x.chunk(2, dim=1)
        pull = self.descent.field(q, graph, anchor=None if anchor is None else anchor.chunk(2, dim=1)[0], t=t)
        return torch.cat([p, pull], dim=1)

    def curvature(self, graph: Graph) -> tuple[Tensor, Tensor]:
        """``(k_0, k_1)``: the eigenvalues of ``∇²Φ`` lie between them."""
        top = self.descent.smoothness(graph) + self.descent.mu
        return torch.as_tensor(self.descent.rate(graph), dtype=top.dtype, device=top.device), top

    def rate(self, graph: Graph) -> Tensor:
        """``−½ max_k |1 − k|``: not positive."""
        bottom, top = self.curvature(graph)
        return -torch.maximum((1 - bottom).abs(), (1 - top).abs()) / 2

    def max_step(self, graph: Graph) -> float:
        """0: no step contracts."""
        return 0.0

    def lipschitz(self, graph: Graph, step: Tensor | float) -> Tensor:
        """The largest singular value of ``[[1, h], [−hk, 1]]`` over ``k ∈ {k_0, k_1}``, for every h."""
        norms = []
        for k in self.curvature(graph):
            total, area = 2 + step**2 * (1 + k.square()), 1 + step**2 * k  # ‖·‖_F² and the determinant
            norms.append(((total + (total.square() - 4 * area.square()).clamp(min=0).sqrt()) / 2).sqrt())
        return torch.maximum(*norms)

    @property
    def anchor_lipschitz(self) -> float:
        """``μ``."""
        return self.descent.mu

    def structure_lipschitz(self, graph: Graph, x: Tensor | None = None) -> float:
        """That of the gradient flow at the positions."""
        return self.descent.structure_lipschitz(graph, None if x is None else x.chunk(2, dim=1)[0])

    def energy(self, x: Tensor, graph: Graph) -> Tensor:
        """``‖p‖²/2 + Φ(q) − Φ(0)`` without an anchor, a scalar tensor.

        ``Φ(q) − Φ(0) = ∫₀¹ ⟨∇Φ(sq), q⟩ ds`` by Gauss–Legendre with 64 points: exact for a linear σ.
        """
        q, p = x.chunk(2, dim=1)
        energy = p.square().sum() / 2
        for node, weight in zip(*np.polynomial.legendre.leggauss(64), strict=True):
            energy = energy - weight / 2 * (self.descent.field((node + 1) / 2 * q, graph) * q).sum()
        return energy
