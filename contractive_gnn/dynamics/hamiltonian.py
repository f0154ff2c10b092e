r"""Hamiltonian flow: positions and momenta exchange energy and lose none."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from contractive_gnn.checks import check_whole
from contractive_gnn.dynamics.base import Dynamics
from contractive_gnn.dynamics.conservative.shear import sheared
from contractive_gnn.dynamics.graph_gradient_flow import GraphGradientFlow
from contractive_gnn.graph import Graph
from contractive_gnn.integrators import Invariant


class HamiltonianFlow(Dynamics):
    r"""The Hamiltonian flow of ``H(q, p) = ‖p‖²/2 + Φ(q)``, with Φ the potential of a :class:`GraphGradientFlow`.

    .. math::
        \dot q = p, \qquad \dot p = -\nabla\Phi(q)

    The state is ``(q | p)``, two halves of the channels. It conserves H and volume, but contracts nothing: with
    ``∇²Φ`` between ``k_0 = κ`` and ``k_1 = ν + μ`` of the gradient flow, ``μ₂(DX) = ½ max_k |1 − k|``, and an Euler
    step has the largest singular value of ``[[1, h], [−hk, 1]]`` at an end of ``[k_0, k_1]`` (the norm of a matrix that
    is affine in k is convex in k): both are declared, as expansion. Graph networks of this kind: GraphCON (Rusch et
    al., ICML 2022) and HANG (Zhao et al., NeurIPS 2023), which bound no constant.

    Euler's scheme keeps nothing of what the flow keeps. By its two :meth:`parts` a symplectic scheme follows it:
    ``Flow(dynamics.on(graph), scheme="stormer-verlet", step=0.1, constrained=False)``.

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
    conserves = frozenset[Invariant]({"energy", "symplectic", "volume"})

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

    def parts(self) -> tuple[Dynamics, ...]:
        """``(q̇ = p, ṗ = −∇Φ(q))``, two shears."""
        return Drift(), Kick(self.descent)

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

    def energy(self, x: Tensor, graph: Graph, *, anchor: Tensor | None = None) -> Tensor:
        """``‖p‖²/2 + Φ(q) − Φ(0)``, a scalar tensor.

        Raises:
            NotImplementedError: where σ does not say what its potential is.
        """
        q, p = x.chunk(2, dim=1)
        flow = self.descent.gradient_flow(graph)
        energy = p.square().sum() / 2 + flow.sigma.potential(flow.operator(q)).sum()
        pulled = q / 2 if anchor is None else q / 2 - anchor.chunk(2, dim=1)[0]
        return energy + self.descent.mu * (q * pulled).sum()


class Drift(Dynamics):
    """``q̇ = p, ṗ = 0``: the positions move with the momenta, which stay. Its flow is ``q + tp``."""

    norm = "l2"
    conserves = frozenset[Invariant]({"symplectic", "volume"})
    shear = True

    def field(self, x: Tensor, graph: Graph, *, anchor: Tensor | None = None, t: Tensor | float = 0.0) -> Tensor:
        """``(p | 0)``."""
        _, p = x.chunk(2, dim=1)
        return torch.cat([p, torch.zeros_like(p)], dim=1)

    def rate(self, graph: Graph) -> float:
        """−½: the symmetric part of ``[[0, 1], [0, 0]]``."""
        return -0.5

    def max_step(self, graph: Graph) -> float:
        """0: no step contracts."""
        return 0.0

    def lipschitz(self, graph: Graph, step: Tensor | float) -> Tensor | float:
        """``‖[[1, h], [0, 1]]‖``, for every h."""
        return sheared(step, graph.edge_weight)

    def field_lipschitz(self, graph: Graph) -> float:
        """1."""
        return 1.0

    @property
    def uniform(self) -> bool:
        """True: no graph is read."""
        return True

    @property
    def anchor_lipschitz(self) -> float:
        """0."""
        return 0.0

    def structure_lipschitz(self, graph: Graph, x: Tensor | None = None) -> float:
        """0."""
        return 0.0


class Kick(Dynamics):
    """``q̇ = 0, ṗ = −∇Φ(q)``: the momenta are pushed, and the positions stay. Its flow is ``p − t∇Φ(q)``.

    Args:
        descent: ``−∇Φ``, in ℓ2.
    """

    norm = "l2"
    conserves = frozenset[Invariant]({"symplectic", "volume"})
    shear = True

    def __init__(self, descent: GraphGradientFlow) -> None:
        super().__init__()
        self.descent = descent

    def field(self, x: Tensor, graph: Graph, *, anchor: Tensor | None = None, t: Tensor | float = 0.0) -> Tensor:
        """``(0 | −∇Φ(q))``."""
        q, _ = x.chunk(2, dim=1)
        pull = self.descent.field(q, graph, anchor=None if anchor is None else anchor.chunk(2, dim=1)[0], t=t)
        return torch.cat([torch.zeros_like(q), pull], dim=1)

    def curvature(self, graph: Graph) -> Tensor:
        """A bound of ``‖∇²Φ‖``."""
        top = self.descent.smoothness(graph) + self.descent.mu
        return torch.maximum(top, torch.as_tensor(self.descent.rate(graph), dtype=top.dtype, device=top.device).abs())

    def rate(self, graph: Graph) -> Tensor:
        """``−k/2``: the symmetric part of ``[[0, 0], [−k, 0]]``."""
        return -self.curvature(graph) / 2

    def max_step(self, graph: Graph) -> float:
        """0: no step contracts."""
        return 0.0

    def lipschitz(self, graph: Graph, step: Tensor | float) -> Tensor | float:
        """``‖[[1, 0], [−hk, 1]]‖``, for every h."""
        return sheared(step * self.curvature(graph), graph.edge_weight)

    def field_lipschitz(self, graph: Graph) -> Tensor:
        """``k``."""
        return self.curvature(graph)

    @property
    def certified(self) -> bool:
        """Whether the gradient flow's constants are proved."""
        return self.descent.certified

    @property
    def anchor_lipschitz(self) -> float:
        """``μ``."""
        return self.descent.mu

    def structure_lipschitz(self, graph: Graph, x: Tensor | None = None) -> float:
        """That of the gradient flow at the positions."""
        return self.descent.structure_lipschitz(graph, None if x is None else x.chunk(2, dim=1)[0])
