r"""Contractive and expansive steps in turn, with a certified total."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from contractive_gnn.checks import check_flag, check_real, check_whole
from contractive_gnn.dynamics import Dynamics, VectorField
from contractive_gnn.graph import Graph
from contractive_gnn.nn.arguments import (
    check_dynamics,
    check_features,
    check_field,
    check_floating,
    edge_list,
    refuse_export,
    widened,
)
from contractive_gnn.nn.batch import graph_by_graph
from contractive_gnn.nn.bound import simple, simple_graphs
from contractive_gnn.norms import number

FIRST_LOGIT = 2.0  # of the share of the longest step that a learned one takes first: 0.88


class _Pairs(nn.Module):
    """How many pairs of steps, and what they may come to; the two fields are arguments of its methods."""

    contracting: VectorField | Dynamics
    expanding: VectorField | Dynamics

    def __init__(self, *, num_pairs: int, bound: float) -> None:
        super().__init__()
        check_whole("num_pairs", num_pairs, least=1)
        check_real("bound", bound, above=0)
        self.num_pairs = num_pairs
        self.bound = float(bound)

    @property
    def certified(self) -> bool:
        """Whether both fields' constants are proved."""
        return self.contracting.certified and self.expanding.certified

    def reset_parameters(self) -> None:
        """Draw both fields' parameters anew."""
        self.contracting.reset_parameters()
        self.expanding.reset_parameters()

    def _lengths(self, contracting: VectorField, expanding: VectorField, like: Tensor) -> tuple[Tensor, Tensor]:
        """``(h_c, h_e)``, scalar tensors of the dtype and on the device of ``like``."""
        h_c = torch.as_tensor(contracting.max_step(), dtype=like.dtype, device=like.device)
        rate = torch.as_tensor(contracting.rate(), dtype=like.dtype, device=like.device)
        if not (number(rate) > 0 and number(h_c) > 0):
            raise ValueError(
                f"{contracting} does not contract{contracting.where} (rate {number(rate):.3g}): raise its mu"
            )
        # A step may contract to a point; nothing is gained from expanding without end after that.
        share = self.bound ** (1.0 / self.num_pairs) / (1.0 - h_c * rate).clamp(min=1e-3)
        if number(share) < 1.0:
            alone = number(1.0 - h_c * rate) ** self.num_pairs
            raise ValueError(
                f"{self.num_pairs} contracting steps alone are {alone:.3g}-Lipschitz{contracting.where}, above the "
                f"bound {self.bound:g}: raise bound, num_pairs or the rate"
            )
        return h_c, longest_step(expanding, share)

    def _follow(
        self, contracting: VectorField, expanding: VectorField, x: Tensor, steps: tuple[Tensor, Tensor]
    ) -> Tensor:
        """The pairs of steps from ``x``."""
        h_c, h_e = steps
        for _ in range(self.num_pairs):
            x = x + h_e * expanding(x)
            x = x + h_c * contracting(x)
        return x

    def _constant(self, contracting: VectorField, expanding: VectorField, steps: tuple[Tensor, Tensor]) -> float:
        """The product of the constants of all steps."""
        h_c, h_e = steps
        pair = number(contracting.lipschitz(h_c)) * number(expanding.lipschitz(h_e))
        return pair**self.num_pairs


class Alternating(_Pairs):
    r"""Pairs of Euler steps, of an expansive field and of a contracting one, at most ``bound``-Lipschitz in all.

    .. math::
        x \leftarrow x + h_e X_e(x), \qquad x \leftarrow x + h_c X_c(x)

    Lipschitz constants multiply (Celledoni et al., *Dynamical systems-based neural networks*, SISC 2023, section 3): a
    pair is ``q_c(h_c) q_e(h_e)``-Lipschitz. Here h_c is the longest contracting step, with ``q_c = 1 − h_c κ < 1``, and
    h_e the longest step with ``q_e(h_e) ≤ bound^{1/pairs}/q_c``: what the contraction saves is spent on expansion, and
    nothing more. Neither field gets an anchor.

    Where the constant of a step is affine in its length, as for :class:`~contractive_gnn.dynamics.GradientFlow`, h_e
    has a closed form; else it is searched for.

    Args:
        contracting: a field of any domain with a positive rate.
        expanding: a field in the same norm that declares a Lipschitz constant for some step.
        num_pairs: how many pairs.
        bound: of the whole layer.
        expanding_step: h_e > 0; None for the longest. A longer one than that is cut down to it.
        learn_step: learn which share of that length is taken, in (0, 1): ``share_logit``, its logit, starts at
            :data:`FIRST_LOGIT`.

    Shapes:
        ``x`` of any shape that the fields take, floating point; output of the same shape.

    Raises:
        TypeError: for a field that is no :class:`~contractive_gnn.dynamics.VectorField`.
        ValueError: for norms that differ; (called) where the field does not contract, and for a bound that it cannot
            reach.
    """

    contracting: VectorField
    expanding: VectorField
    share_logit: nn.Parameter | None

    def __init__(
        self,
        contracting: VectorField,
        expanding: VectorField,
        *,
        num_pairs: int = 4,
        bound: float = 1.0,
        expanding_step: float | None = None,
        learn_step: bool = False,
    ) -> None:
        super().__init__(num_pairs=num_pairs, bound=bound)
        if expanding_step is not None:
            check_real("expanding_step", expanding_step, above=0)
        check_flag("learn_step", learn_step)
        self.expanding_step = expanding_step
        self.register_parameter("share_logit", nn.Parameter(torch.tensor(FIRST_LOGIT)) if learn_step else None)
        self._held: tuple[float, float] | None = None
        self.contracting = check_field(contracting, type(self).__name__)
        self.expanding = check_field(expanding, type(self).__name__)
        if contracting.norm != expanding.norm:
            raise ValueError(
                f"both fields must be declared in one norm, got {contracting.norm} and {expanding.norm}; two weighted "
                "norms are one where their weights are equal"
            )

    def steps(self) -> tuple[Tensor, Tensor]:
        """``(h_c, h_e)``, scalar tensors in float64."""
        tensors = (*self.contracting.parameters(), *self.contracting.buffers())
        device = next((tensor.device for tensor in tensors), torch.device("cpu"))
        like = torch.empty((), dtype=torch.float64, device=device)
        if self._held is not None:
            return like.new_tensor(self._held[0]), like.new_tensor(self._held[1])
        h_c, h_e = self._lengths(self.contracting, self.expanding, like)
        if self.expanding_step is not None:
            h_e = h_e.clamp(max=self.expanding_step)
        if self.share_logit is not None:
            h_e = h_e * self.share_logit.to(h_e).sigmoid()
        return h_c, h_e

    def hold(self) -> None:
        """Take the present steps from now on, whatever becomes of the weights.

        :meth:`lipschitz` is then that of these steps, which may exceed ``bound`` once weights change.
        """
        h_c, h_e = self.steps()
        self._held = number(h_c), number(h_e)

    def reset_parameters(self) -> None:
        """Draw both fields' parameters anew."""
        super().reset_parameters()
        if self.share_logit is not None:
            nn.init.constant_(self.share_logit, FIRST_LOGIT)

    def forward(self, x: Tensor) -> Tensor:
        """The pairs of steps from ``x``; the result has its shape."""
        check_floating(x, type(self).__name__)
        refuse_export(self, "the length of its steps is searched for")
        return self._follow(self.contracting, self.expanding, x, self.steps()).to(x.dtype)

    def lipschitz(self) -> float:
        """The product of the constants of all steps; at most ``bound`` up to rounding, unless steps are held.

        Raises:
            InputError: for a field on a graph that is not undirected and simple, with finite weights of at least 0.
        """
        simple_graphs(self.contracting, self.expanding)
        return self._constant(self.contracting, self.expanding, self.steps())


class AlternatingConv(_Pairs):
    r"""Pairs of Euler steps on a graph, expansive and contracting, at most ``bound``-Lipschitz in all.

    .. math::
        x \leftarrow x + h_e X_e(x), \qquad x \leftarrow x + h_c X_c(x)

    Lipschitz constants multiply (Celledoni et al., *Dynamical systems-based neural networks*, SISC 2023, section 3): a
    pair is ``q_c(h_c) q_e(h_e)``-Lipschitz. Here h_c is the longest contracting step on the graph, with
    ``q_c = 1 − h_c κ < 1``, and h_e the longest step with ``q_e(h_e) ≤ bound^{1/pairs}/q_c``: what the contraction
    saves is spent on expansion, and nothing more. Neither field gets an anchor: a fidelity pulls to the origin, or it
    would only return what the anchor gained.

    Args:
        contracting: a field with a positive rate.
        expanding: a field in the same norm that declares :meth:`Dynamics.lipschitz` for some step.
        num_pairs: how many pairs.
        bound: of the whole layer.

    Shapes:
        ``x`` ``[n, c]``, ``edge_index`` ``[2, E]``, ``edge_weight`` ``[E]``, output ``[n, c]``.

    Raises:
        ValueError: for norms that differ or depend on the graph's weights, where the field does not contract, and for a
            bound that it cannot reach.
    """

    contracting: Dynamics
    expanding: Dynamics

    def __init__(self, contracting: Dynamics, expanding: Dynamics, *, num_pairs: int = 4, bound: float = 1.0) -> None:
        super().__init__(num_pairs=num_pairs, bound=bound)
        for dynamics in (contracting, expanding):
            check_dynamics(dynamics, type(self).__name__)
        if contracting.norm != expanding.norm or contracting.norm == "l2-degree":
            raise ValueError(
                f"both fields must be declared in one norm that no weights change, got {contracting.norm} and "
                f"{expanding.norm}"
            )
        self.contracting = contracting
        self.expanding = expanding

    def steps(self, graph: Graph) -> tuple[Tensor, Tensor]:
        """``(h_c, h_e)`` on this graph, scalar tensors."""
        return self._lengths(self.contracting.on(graph), self.expanding.on(graph), graph.edge_weight)

    def forward(
        self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None, batch: Tensor | None = None
    ) -> Tensor:
        """The pairs of steps from ``x``; shape ``[n, c]``; those of each graph by itself with ``batch`` ``[n]``."""
        if batch is not None:
            return graph_by_graph(self.forward, x, edge_index, edge_weight, batch)
        check_features(x, self)
        refuse_export(self, "the length of its steps is searched for on each graph")
        dtype, x = x.dtype, widened(x)
        graph = Graph.of(x, *edge_list(x, edge_index, edge_weight))
        return self._follow(self.contracting.on(graph), self.expanding.on(graph), x, self.steps(graph)).to(dtype)

    def lipschitz(self, graph: Graph) -> float:
        """The product of the constants of all steps on this graph; at most ``bound`` up to rounding.

        Raises:
            InputError: for a graph that is not undirected and simple, with finite weights of at least 0.
        """
        graph = simple(graph)
        return self._constant(self.contracting.on(graph), self.expanding.on(graph), self.steps(graph))


def longest_step(field: VectorField, share: Tensor) -> Tensor:
    """The longest step with a constant of at most ``share``, to a relative 1e-6, from below; 0 where there is none.

    A field may know it in closed form. Else: the constant q of a step is a convex function of it (a norm of something
    affine in h) that is 1 at 0. So the chord from 0 to a step that is too long lies above q, and where the chord meets
    ``share`` the step is short enough: one chord is exact where q is affine. The gradient is the chord's.
    """
    known = field.longest_step(share)
    if known is not None:
        return known
    allowed, h, longest = number(share), 1.0, 0.0
    for _ in range(50):
        gain = number(field.lipschitz(h)) - 1.0
        if gain == math.inf:  # nothing is declared for so long a step
            h = h / 2
            continue
        if gain <= allowed - 1.0 + 1e-12:
            if h <= longest * (1 + 1e-6) or h > 1e6:
                break
            longest = h
        h = h * (allowed - 1.0) / gain if gain > 0 else 2 * h
    if longest == 0.0:
        return share.new_tensor(0.0)
    gain_here = torch.as_tensor(field.lipschitz(longest), dtype=share.dtype, device=share.device) - 1
    if number(gain_here) <= 0:
        return share.new_tensor(longest)
    chord = (share - 1.0) / gain_here
    return longest * chord / chord.detach()
