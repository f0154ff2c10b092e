r"""The coupled bound: what features and edges can do to the output of a whole model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from contractive_gnn import inputs
from contractive_gnn.dynamics import Dynamics, OnGraph
from contractive_gnn.graph import Graph
from contractive_gnn.nn.parametrizations import Constraint
from contractive_gnn.nn.plain import altered, plain_type, reduced_precision
from contractive_gnn.nn.sparse import Linear
from contractive_gnn.norms import family, number, operator_norm


@dataclass(frozen=True)
class LayerBound:
    r"""The constants of one step ``F⁺ = Φ(F; A)``, ``A⁺ = Ψ(A)``.

    Attributes:
        step: h.
        features: ``‖Φ(F; A) − Φ(G; A)‖ ≤ features · ‖F − G‖`` for a fixed anchor.
        anchor: the same for the anchor: ``hμ``.
        structure: ``‖Φ(F; Ã) − Φ(F; A)‖ ≤ structure · Σ|ã − a|``, uniform over all F.
        structure_here: the same at this layer's F on the given graph: at most ``structure``.
        adjacency: Lipschitz constant of Ψ in vec-ℓ1; 1 where A is kept.
        largest: the largest ``|a_ij|`` of this layer's A off its diagonal; 0 where A is still the given one.
        misread: what Ψ adds to the distance, for each flipped entry: its activation differs on and off the edges.
        root: ``‖Φ(F; Ã) − Φ(F; A)‖ ≤ root · (Σ|ã − a|)^½`` at this layer's F; ``inf`` where that is not known.
        limit: and it is at most ``limit`` for every Ã ≥ 0: the influence of the edges saturates.
        read: how far the weights that this layer reads move, for each unit of the given A.
        passed: how much of this layer's own change the output moves by at most.
    """

    step: float
    features: float
    anchor: float
    structure: float
    structure_here: float
    adjacency: float = 1.0
    largest: float = 0.0
    misread: float = 0.0
    root: float = math.inf
    limit: float = math.inf
    read: float = 1.0
    passed: float = 1.0

    def moved(self, change: float) -> float:
        """The largest change of ``Φ(F; A)`` at this layer's F where the given A changes by ``change`` in vec-ℓ1."""
        read = _times(self.read, change)
        return min(_times(self.structure_here, read), _times(self.root, math.sqrt(read)), self.limit) if read else 0.0


@dataclass(frozen=True)
class CoupledBound:
    r"""How far the output of a model moves if its features and its edges are changed.

    .. math::
        \|Z(\tilde X, \tilde A) - Z(X, A)\| \le c_X \|\tilde X - X\| + c_A \sum_{ij} |\tilde a_{ij} - a_{ij}|

    for the given A of weights 0 and 1 and every flip of edges (each flipped pair counts 2). Over the layers,
    ``e ← features · e + anchor · e₀ + structure · (1 or a + largest · δ)`` bounds the distance of the features and
    ``a ← adjacency · a + misread · δ`` that of the adjacency, from ``e₀ = c_enc ‖X̃ − X‖`` and ``a = δ = Σ|ã − a|``. A
    layer reads A on the edges of the graph that it is given: a flipped pair is read on one of the two graphs only,
    which is what ``largest`` pays for. Where A is kept none of this is needed, and any weights Ã ≥ 0 are allowed.

    Many flips do less than that: ``structure · r`` may be replaced by ``min(structure · r, root · r^½, limit)``, layer
    by layer, and :meth:`change` does. With a bounded σ no node is pulled further than sup|σ| in either direction,
    however many edges it has.

    The bound is one of exact arithmetic, with weights in the model's own precision.

    Attributes:
        norm: of the features and of the output, over all entries; ``"l2-degree"`` is turned into the plain ℓ2 norm.
        features: ``c_X``, for a fixed graph.
        structure: ``c_A``, uniform over all features X.
        structure_here: ``c_A`` along the trajectory of the given features: evaluated at the states that the model goes
            through on the clean graph. At most ``structure``.
        layers: the constants of each step.
        encoder: Lipschitz constant of what comes before the first step.
        decoder: and of what comes after the last one.
        heaviest: the largest weight that a flip removes or adds: 1, or the graph's largest.
        certified: whether it is proved; where not, :attr:`reason` says why and constants may be ``inf``.
        reason: empty if certified.
    """

    norm: str
    features: float
    structure: float
    structure_here: float
    layers: tuple[LayerBound, ...]
    encoder: float
    decoder: float
    heaviest: float
    certified: bool
    reason: str = ""

    def change(self, *, features: float = 0.0, flips: int = 0) -> float:
        """The largest change of the output, in :attr:`norm`.

        ``c_X ‖X̃ − X‖`` plus what every layer passes on of its own change; at most the two terms of the class's text,
        and growing in both arguments. ``inf`` where a constant is not known.

        Args:
            features: ``‖X̃ − X‖`` in :attr:`norm`, finite.
            flips: number of undirected edges that are removed, or added with a weight of at most ``heaviest``.

        Raises:
            TypeError: for features that are no real number, and flips that are no integer.
            ValueError: for negative arguments, and features that are not finite.
        """
        size: object = features
        count: object = flips
        if isinstance(size, bool) or not isinstance(size, Real):
            raise TypeError(f"features must be a real number, the norm of a change, got {features!r}")
        if isinstance(count, bool) or not isinstance(count, Integral):
            raise TypeError(f"flips must be an integer, a number of undirected edges, got {flips!r}")
        if not 0 <= features < math.inf or flips < 0:
            raise ValueError(f"features and flips must not be negative, nor infinite, got {features!r} and {flips!r}")
        moved = _times(self.features, float(features))
        change = 2 * min(int(flips), _PAIRS) * self.heaviest
        saturated = sum(_times(layer.passed, layer.moved(change)) for layer in self.layers)
        return moved + min(_times(self.structure_here, change), saturated)


_PAIRS = 2**60
"""More flips than any graph has pairs."""


def compose(
    layers: Sequence[LayerBound],
    weights: Sequence[Tensor | None],
    *,
    norm: str,
    encoder: float,
    decoder: float,
    certified: bool,
    reason: str,
    heaviest: float = 1.0,
) -> CoupledBound:
    """The constants of a model from those of its steps.

    Args:
        layers: the steps.
        weights: for each step the weights of its norm on the nodes, or None.
        norm: of the steps.
        encoder: before the steps, in the unweighted norm.
        decoder: after them.
        certified: whether the fields' own constants are proved.
        reason: why not, or why constants are infinite.
        heaviest: the graph's largest weight.
    """
    enter, leave = 1.0, 1.0
    if weights and weights[0] is not None:
        last = weights[-1]
        assert last is not None
        enter, leave = float(weights[0].max()) ** 0.5, float(last.min()) ** -0.5
    feature = anchored = enter
    uniform, here, adjacency = 0.0, 0.0, 1.0
    reads: list[float] = []
    growths: list[float] = []  # of what comes from before a step
    for index, (layer, weight) in enumerate(zip(layers, weights, strict=True)):
        before = weights[index - 1] if index else None
        change = 1.0
        if weight is not None and before is not None:  # the norm itself changes from step to step
            change = float((weight / before).max()) ** 0.5
            feature, uniform, here = change * feature, change * uniform, change * here
            anchored = anchored * change
        read = adjacency + layer.largest
        reads.append(read)
        growths.append(change * layer.features)
        feature = _times(layer.features, feature) + _times(layer.anchor, anchored)
        uniform = _times(layer.features, uniform) + _times(layer.structure, read)
        here = _times(layer.features, here) + _times(layer.structure_here, read)
        adjacency = layer.adjacency * adjacency + layer.misread
    out = leave * decoder
    made: list[LayerBound] = []
    passed = out
    for layer, read, growth in zip(reversed(layers), reversed(reads), reversed(growths), strict=True):
        made.insert(0, replace(layer, read=read, passed=passed))
        passed = passed * growth
    totals = [_times(out, feature * encoder), _times(out, uniform), _times(out, here)]
    proved = certified and math.isfinite(totals[0]) and math.isfinite(totals[2]) and not math.isnan(totals[1])
    return CoupledBound(
        norm="l2" if family(norm) == "l2" else norm,
        features=totals[0],
        structure=totals[1],
        structure_here=min(totals[1:]),
        layers=tuple(made),
        encoder=encoder,
        decoder=decoder,
        heaviest=max(1.0, heaviest),
        certified=proved,
        reason="" if proved else reason or "a field declares no constant in the structure or in its anchor",
    )


def doubt(model: nn.Module, linear: Sequence[nn.Module], exactly: Mapping[type, Sequence[nn.Module]]) -> str:
    """Why a model may compute something else than its constants are those of; empty if it does not.

    What :mod:`contractive_gnn.nn.plain` finds, parametrisations other than those of
    :mod:`contractive_gnn.nn.parametrizations`, and the rounding of half precision are outside the proof.

    Args:
        model: the whole.
        linear: its maps before and after the steps.
        exactly: modules that must be of just that type.

    Raises:
        ValueError: for parameters that are not finite: no constant is one.
    """
    for name, parameter in model.named_parameters():
        if not bool(torch.isfinite(parameter.detach()).all()):
            raise ValueError(f"the parameter {name} has entries that are not finite: train the model anew, or load it")
        if parameter.dtype not in (torch.float32, torch.float64):
            return f"{name} is {parameter.dtype}, whose rounding the bound does not cover: take model.float()"
    reason = altered(model, trusted=[part for module in linear for part in constraints(module)])
    if reason := reason or reduced_precision(list(model.parameters())):
        return reason
    for kind, modules in ((Linear, linear), *exactly.items()):
        for module in modules:
            if plain_type(module) is not kind:
                return f"{type(module).__name__} stands in the place of {kind.__name__}, and may compute something else"
            if is_parametrized(module) and not constraints(module):
                return f"a {kind.__name__} has a parametrisation whose constants are not known"
    return ""


def constraints(module: nn.Module) -> list[nn.Module]:
    """The parts of a module's parametrisations where all of them are ours, or torch's behind one of ours."""
    if not is_parametrized(module):
        return []
    chains = [list(cast(nn.ModuleList, chain)) for chain in cast(nn.ModuleDict, module.parametrizations).values()]
    parts = [part for chain in chains for part in chain]
    known = all(type(part).__module__ in (Constraint.__module__, "torch.nn.utils.parametrizations") for part in parts)
    return parts if known and all(isinstance(chain[-1], Constraint) for chain in chains) else []


def unknown(reason: str, norm: str) -> CoupledBound:
    """The bound of a model about which nothing is proved: every change is ``inf``."""
    inf = math.inf
    step = LayerBound(step=inf, features=inf, anchor=inf, structure=inf, structure_here=inf)
    return CoupledBound(family(norm), inf, inf, inf, (step,), inf, inf, 1.0, certified=False, reason=reason)


def simple(graph: Graph) -> Graph:
    """The graph itself, if it is one that the constants are proved on.

    Raises:
        InputError: if it is not undirected and simple, with finite weights of at least 0.
    """
    return inputs.undirected(graph.edge_weight.new_empty(graph.num_nodes, 0), graph.edge_index, graph.edge_weight)


def simple_graphs(*fields: nn.Module) -> None:
    """Check every graph that a field is bound to, in its summands too.

    Raises:
        InputError: for one that is not undirected and simple, with finite weights of at least 0.
    """
    for field in fields:
        for part in field.modules():
            if isinstance(part, OnGraph):
                simple(part.graph)


def layer_bound(dynamics: Dynamics, graph: Graph, x: Tensor, step: Tensor | float) -> LayerBound:
    """The constants of one Euler step of a field at ``x`` on ``graph``, with A kept.

    Where the field's norm is weighted by degrees, a changed graph has another norm: the steps are then compared on the
    clean graph, at the unknown state of the changed one, so only the uniform constant may be used.
    """
    h = number(step)
    everywhere = here = root = limit = math.inf
    if dynamics.uniform:
        state = None if dynamics.norm_weight(graph) is not None else x
        everywhere = h * dynamics.structure_lipschitz(graph, None)
        here = everywhere if state is None else h * dynamics.structure_lipschitz(graph, state)
        root, limit = (h * constant for constant in dynamics.structure_saturation(graph, state))
    return LayerBound(
        step=h,
        features=number(dynamics.lipschitz(graph, h)),
        anchor=h * dynamics.anchor_lipschitz,
        structure=everywhere,
        structure_here=here,
        root=root,
        limit=limit,
    )


def linear_norm(part: nn.Module, norm: str) -> float:
    """An upper bound of the norm of ``X ↦ XWᵀ`` for rows: exact sums in ℓ∞, a singular value plus rounding in ℓ2."""
    kind, weight = family(norm), cast(Tensor, part.weight)
    slack = 1.0 + 4 * max(weight.shape) * torch.finfo(weight.dtype).eps
    # Over all entries of X: in ℓ∞ the worst entry of a row, in ℓ1 and ℓ2 a sum over rows.
    return slack * float(operator_norm(weight.detach(), kind))


def _times(a: float, b: float) -> float:
    return 0.0 if a == 0 or b == 0 else a * b
