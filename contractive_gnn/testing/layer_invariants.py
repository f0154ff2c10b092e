r"""What the steps of a layer keep on a graph, measured at each of them.

================ ============================================================== ===============================
what             measured, of the states ``x_0, x_1, …``                        how
================ ============================================================== ===============================
``mass``         ``max_c |Σ_i x_k − Σ_i x_0| / max_c Σ_i |x_0|``, channels c    drift over all steps
``symplectic``   ``√N |ω(M_k u, M_k v) − ω(u, v)| / (‖u‖ ‖v‖)``                 at each step, random u and v
``volume``       ``|log |det M_k||``                                            at each step
================ ============================================================== ===============================

``M_k`` is the Jacobian of step k, N its size, and ``ω(u, v) = ⟨u_q, v_p⟩ − ⟨u_p, v_q⟩``. The form is tried by tangent
vectors, so on a graph of any size: for independent normal u and v the number is about ``‖MᵀJM − J‖_F/‖J‖_F``, times a
standard normal one. A determinant needs the whole Jacobian, so a small graph.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from contractive_gnn.checks import check_whole
from contractive_gnn.graph import Graph
from contractive_gnn.integrators import Invariant, Scheme, integrate, trajectory
from contractive_gnn.nn.flow import FlowConv

LARGEST = 2000
"""Entries of a state whose whole Jacobian is looked at."""

Step = Callable[[Tensor], Tensor]


def layer_violations(
    layer: FlowConv,
    x: Tensor,
    edge_index: Tensor,
    edge_weight: Tensor | None = None,
    *,
    of: Iterable[Invariant],
    num_steps: int | None = None,
    scheme: str | Scheme | None = None,
    seed: int = 0,
) -> dict[Invariant, float]:
    """The largest violation of each invariant over the steps of a layer from x; see the module's table.

    Args:
        layer: whose field, step and scheme are meant, a :class:`~contractive_gnn.nn.ConservativeConv` or another; the
            field has no anchor here.
        x: the state at the start, ``[n, c]``; in float64, rounding leaves about 1e-14.
        edge_index: the graph.
        edge_weight: ``[E]`` or None.
        of: ``"mass"``, ``"symplectic"``, ``"volume"``; the layer's field need not conserve them.
        num_steps: K ≥ 1; None for the layer's own.
        scheme: None for the layer's own; another one, with the same step, to see what it loses.
        seed: of the tangent vectors.

    Returns:
        the largest violation over all steps, by invariant; ``inf`` where a state is not finite.

    Raises:
        ValueError: for another invariant, the form of an odd number of channels, and the volume of a state of more than
            2,000 entries.

    Example:
        >>> from contractive_gnn.dynamics import VolumeCoupling
        >>> from contractive_gnn.nn import ConservativeConv
        >>> from contractive_gnn.testing.graphs import cycle
        >>> layer, ring = ConservativeConv(VolumeCoupling(4).double()), cycle(5)
        >>> start = torch.ones(5, 4, dtype=torch.float64)
        >>> layer_violations(layer, start, ring.edge_index, of=["volume"])["volume"] < 1e-12
        True
    """
    asked = list(dict.fromkeys(of))
    if strangers := set(asked) - {"mass", "symplectic", "volume"}:
        raise ValueError(f"a step of a layer may keep mass, symplectic form and volume, got {', '.join(strangers)}")
    if "symplectic" in asked and x.size(1) % 2:
        raise ValueError(f"the form needs positions and momenta, an even number of channels, got {x.size(1)}")
    if "volume" in asked and x.numel() > LARGEST:
        raise ValueError(
            f"the volume needs the whole Jacobian, of at most {LARGEST} rows, got {x.numel()}: take a subgraph"
        )
    count = layer.num_steps if num_steps is None else num_steps
    check_whole("num_steps", count, least=1)
    method = layer.scheme if scheme is None else scheme
    graph = Graph.of(x, edge_index, edge_weight)
    field, h = layer.dynamics.on(graph), layer.step_size(graph)
    h = h.detach() if isinstance(h, Tensor) else h
    generator = torch.Generator().manual_seed(seed)

    def step(y: Tensor) -> Tensor:
        return integrate(field, y, step=h, num_steps=1, scheme=method)

    worst: dict[Invariant, float] = dict.fromkeys(asked, 0.0)
    mass, size = x.sum(dim=0), float(x.detach().abs().sum(dim=0).max()) or 1.0
    with torch.no_grad():
        for k, y in enumerate(trajectory(field, x, step=h, num_steps=count, scheme=method)):
            found: dict[Invariant, float] = {}
            if "mass" in asked:
                found["mass"] = float(((y.sum(dim=0) - mass).abs() / size).max())
            if k < count and "symplectic" in asked:
                found["symplectic"] = _form(step, y, generator)
            if k < count and "volume" in asked:
                matrix = torch.func.jacfwd(step)(y).reshape(y.numel(), y.numel())
                found["volume"] = abs(float(torch.linalg.slogdet(matrix).logabsdet))
            for name, value in found.items():
                worst[name] = max(worst[name], value if math.isfinite(value) else math.inf)
    return worst


def _form(step: Step, x: Tensor, generator: torch.Generator) -> float:
    """How far a step changes the form of two random tangent vectors."""
    u, v = torch.randn(2, *x.shape, dtype=x.dtype, generator=generator).to(x.device)
    moved = [torch.func.jvp(step, (x,), (tangent,))[1] for tangent in (u, v)]
    change = _omega(*moved) - _omega(u, v)
    return float(math.sqrt(x.numel()) * change.abs() / (u.norm() * v.norm()))


def _omega(u: Tensor, v: Tensor) -> Tensor:
    (u_q, u_p), (v_q, v_p) = u.chunk(2, dim=1), v.chunk(2, dim=1)
    return (u_q * v_p).sum() - (u_p * v_q).sum()
