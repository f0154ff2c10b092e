r"""Flows of the adjacency matrix: the published one and three corrected ones, dense and in ``O(|E| + n)``."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from contractive_gnn import activations
from contractive_gnn.activations import Activation, LeakyReLU
from contractive_gnn.checks import check_real
from contractive_gnn.deprecated import renamed
from contractive_gnn.dynamics.base import Dynamics
from contractive_gnn.graph import Graph
from contractive_gnn.norms import number
from contractive_gnn.seeding import drawing

Form = Literal["published", "l1-inside", "l1-outside", "max-outside", "unconstrained"]

FORMS: tuple[Form, ...] = ("published", "l1-inside", "l1-outside", "max-outside", "unconstrained")


@dataclass(frozen=True, eq=False)
class Adjacency:
    r"""A symmetric matrix ``A = S + diag(v) + u1ᵀ + 1uᵀ + c11ᵀ`` in ``O(|E| + n)`` numbers.

    S lives on the edges of a graph. The equivariant linear map M of the adjacency flow keeps this form exactly.

    Attributes:
        edge_index: ``[2, E]``, both orientations, no self-loops.
        on_edges: S, ``[E]``.
        diagonal: v, ``[n]``.
        offset: u, ``[n]``.
        constant: c, ``[]``.
        error: bound of the distance to the matrix that :meth:`AdjacencyFlow.forward_dense` gives, ``[]``.
        norm: the norm of that bound, ``"vec-l1"`` or ``"vec-linf"``.
    """

    edge_index: Tensor
    on_edges: Tensor
    diagonal: Tensor
    offset: Tensor
    constant: Tensor
    error: Tensor
    norm: str = "vec-l1"

    @classmethod
    def of(cls, graph: Graph) -> Adjacency:
        """The adjacency matrix of a graph, without its self-loops."""
        edge_index, weight = graph.edge_index, graph.edge_weight
        if not graph.loop_free:
            proper = graph.source != graph.target
            # without the question while compiling: the answer is in the values
            if torch.compiler.is_compiling() or not bool(proper.all()):
                edge_index, weight = edge_index[:, proper], weight[proper]
        zeros, zero = weight.new_zeros(graph.num_nodes), weight.new_zeros(())
        return cls(edge_index, weight, zeros, zeros, zero, error=zero)

    @property
    def num_nodes(self) -> int:
        """N."""
        return self.diagonal.size(0)

    def total(self, values: Tensor) -> Tensor:
        """The sum over the nodes of ``values`` ``[n]``, ``[]``."""
        return values.sum()

    def row_sums(self) -> Tensor:
        """``A1``, ``[n]``."""
        n = self.num_nodes
        row = self.diagonal + n * self.offset + (self.total(self.offset) + n * self.constant)
        return row.index_add(0, self.edge_index[1], self.on_edges)

    def background(self) -> Tensor:
        """``u_i + u_j + c`` on the edges, ``[E]``: what S adds to."""
        source, target = self.edge_index
        return self.offset[source] + self.offset[target] + self.constant

    def edge_weight(self) -> Tensor:
        """The entries of A on the edges, ``[E]``."""
        return self.on_edges + self.background()

    def graph(self) -> Graph:
        """The graph of the entries on the edges; what lies off the edges is bounded by :meth:`off_support`."""
        return Graph(self.edge_index, self.edge_weight(), self.num_nodes, loop_free=True)

    def error_in(self, norm: str) -> Tensor:
        """``error`` as a bound in ``norm``: a sum is at least its largest term, and at most n² times it."""
        return self.error * self.num_nodes**2 if (self.norm, norm) == ("vec-linf", "vec-l1") else self.error

    def largest_entry(self) -> Tensor:
        """An upper bound of ``|A_ij|`` over all pairs ``i ≠ j``, ``[]``."""
        entries = self.edge_weight().detach().abs()
        beside = self.largest_off_support()
        return torch.maximum(beside, entries.max()) if entries.numel() else beside

    def largest_off_support(self) -> Tensor:
        """An upper bound of ``|A_ij|`` over the pairs that are no edge: ``max_{i,j} |u_i + u_j + c|``, ``[]``."""
        u, c = self.offset.detach(), self.constant.detach()
        if u.numel() == 0:
            return c.abs()
        return torch.maximum((2 * u.max() + c).abs(), (2 * u.min() + c).abs())

    def off_support(self) -> Tensor:
        """An upper bound of the sum of ``|A_ij|`` over the pairs that are no edge: ``2n‖u‖₁ + n²|c|``, ``[]``."""
        n = self.num_nodes
        return 2 * n * self.offset.detach().abs().sum() + n * n * self.constant.detach().abs()

    def dense(self) -> Tensor:
        """The matrix itself, ``[n, n]``."""
        background = self.offset.unsqueeze(1) + self.offset.unsqueeze(0) + self.constant
        source, target = self.edge_index
        return background.index_put((target, source), self.on_edges, accumulate=True) + torch.diag(self.diagonal)

    def plus(self, other: Adjacency, scale: Tensor | float) -> Adjacency:
        """``self + scale · other`` (same edges); ``error`` stays self's."""
        return dataclasses.replace(
            self,
            on_edges=self.on_edges + scale * other.on_edges,
            diagonal=self.diagonal + scale * other.diagonal,
            offset=self.offset + scale * other.offset,
            constant=self.constant + scale * other.constant,
        )

    def activate(self, sigma: Activation) -> tuple[Adjacency, Tensor, Tensor]:
        """Apply σ to the entries on the edges and the diagonal, and ``s z`` to the others, s the mean slope at 0.

        An activation may differ from entry to entry as long as its slopes lie in ``[s_min, s_max]``: the proofs of
        :class:`AdjacencyFlow` hold for this one as they do for σ everywhere, and it keeps the form of the matrix.
        (A slope that follows the values off the edges would make the step discontinuous.)

        Returns:
            the activated matrix, and how far it is at most from the one with σ everywhere: the sum over all entries and
            the largest. Both are 0 for a linear σ.
        """
        slope, spread = _origin_slope(sigma), _spread(sigma)
        background, own = self.background(), 2 * self.offset + self.constant
        activated = dataclasses.replace(
            self,
            on_edges=sigma(self.on_edges + background) - slope * background,
            diagonal=sigma(self.diagonal + own) - slope * own,
            offset=slope * self.offset,
            constant=slope * self.constant,
        )
        return activated, spread * self.off_support(), spread * self.largest_off_support()


def _origin_slope(sigma: Activation) -> float:
    """The mean of the slopes of σ on the two sides of 0."""
    return sum(sigma.secants(-1e-6, 1e-6)) / 2


def _spread(sigma: Activation) -> float:
    """The largest ``|σ(z) − sz|/|z|``, s the slope at 0."""
    slope = _origin_slope(sigma)
    return max(sigma.slopes[1] - slope, slope - sigma.slopes[0])


@renamed(sigma="activation")
class AdjacencyFlow(Dynamics):
    r"""A permutation-equivariant flow of a symmetric matrix, and its explicit Euler step in ``O(|E| + n)``.

    As a vector field its state is the dense matrix, ``[n, n]``, whatever the graph; called, it takes one step of an
    :class:`Adjacency`.

    .. math::
        M(A) = k_1A + k_2\,\mathrm{diag}(\mathrm{diag} A) + \tfrac{k_3}{2n}(A11^\top + 11^\top A)
        + k_4\,\mathrm{diag}(A1) + \tfrac{k_5}{n^2}(1^\top A1)11^\top + \tfrac{k_6}{n}(1^\top A1)I \\
        + \tfrac{k_7}{n^2}(1^\top\mathrm{diag}A)11^\top + \tfrac{k_8}{n}(1^\top\mathrm{diag}A)I
        + \tfrac{k_9}{2n}(\mathrm{diag}(A)1^\top + 1\,\mathrm{diag}(A)^\top)

    with ``k₂…k₉`` learned, ``K = Σ_{i≥2} |k_i|`` and α ≤ 0. The forms:

    ================== ===================== ============================ ===================== ===================
    form               step                  k₁                           h at most             non-expansive in
    ================== ===================== ============================ ===================== ===================
    ``published``      ``A + hσ(M(A))``      ``α − K``                    ``2/(2K − α)``        nothing: refuted
    ``l1-inside``      ``A + hM(σ(A))``      ``α − K``                    ``2/(2K − α)``        ``Σ|A_ij|``
    ``l1-outside``     ``A + hσ(M(A))``      ``α − K/s_min``              ``2/(|k₁| + K)``      ``Σ|A_ij|``
    ``max-outside``    ``A + hσ(M(A))``,     ``α − K``                    ``2/(2K − α)``        ``max|A_ij|``
                       k₄ by n, k₆ by n²
    ``unconstrained``  ``A + hσ(M(A))``      learned                      given                 nothing
    ================== ===================== ============================ ===================== ===================

    ``published`` is the form of Eliasof et al. (arXiv 2311.06942): its claim of non-expansiveness in the vectorised ℓ1
    norm fails for a nonlinear σ, because σ' then multiplies the rows of M while the ℓ1 norm sums its columns: a column
    can keep its off-diagonal mass and lose its diagonal. ``unconstrained`` is their ECSGNN ablation. The proofs of the
    other three: column j of ``vec(I + hMD)``, ``0 ≤ D ≤ 1``, sums to at most ``|1 + h d_j k₁| + h d_j K ≤ 1``; column j
    of ``I + hDM``, ``s_min ≤ D ≤ 1``, to at most ``|1 + h d_j k₁| + hK ≤ 1``; row i of ``I + hDM`` to at most
    ``|1 + h d_i k₁| + h d_i K ≤ 1``, since after the division every term of M has row sums of at most 1.

    Args:
        form: one of the table's.
        activation: σ, an elementwise :class:`Activation` with slopes in [0, 1], or its name; ``l1-outside`` needs
            ``s_min > 0``.
        alpha: α ≤ 0, the decay that is left in the worst case.
        step: h > 0; at most the table's bound is taken (the bound follows the learned k).
        scale: ``k₂…k₉`` start uniform in ``±scale``.

    Raises:
        ValueError: if an argument is outside what the form allows.
    """

    on_features = False

    def __init__(
        self,
        *,
        form: Form = "l1-inside",
        activation: str | Activation | None = None,
        alpha: float = -1.0,
        step: float = 0.1,
        scale: float = 0.05,
    ) -> None:
        super().__init__()
        if form not in FORMS:
            raise ValueError(f"form must be one of {', '.join(FORMS)}, got {form!r}")
        check_real("alpha", alpha, most=0)
        check_real("step", step, above=0)
        check_real("scale", scale)
        self.sigma = LeakyReLU(0.2) if activation is None else activations.activation(activation)
        if self.sigma.group or self.sigma.slopes[0] < 0 or self.sigma.slopes[1] > 1:
            raise ValueError(
                f"the adjacency flow needs an elementwise activation with slopes in [0, 1], got {self.sigma} with "
                f"slopes {self.sigma.slopes}"
            )
        if form == "l1-outside" and self.sigma.slopes[0] <= 0:
            raise ValueError(
                f"the form 'l1-outside' needs an activation whose smallest slope is positive, got {self.sigma} with "
                f"slopes {self.sigma.slopes}; use LeakyReLU, or the form 'l1-inside'"
            )
        self.form = form
        self.alpha = float(alpha)
        self.step = float(step)
        self.scale = float(scale)
        self.k = nn.Parameter(torch.empty(9 if form == "unconstrained" else 8))
        self.reset_parameters()

    @property
    def norm(self) -> str:  # type: ignore[override]  # it follows the form
        """The norm of the claim: ``"vec-l1"`` (sum of all entries' sizes) or ``"vec-linf"`` (largest entry)."""
        return "vec-linf" if self.form == "max-outside" else "vec-l1"

    @property
    def certified(self) -> bool:
        """Whether the step is proved non-expansive in :attr:`norm`."""
        return self.form.startswith(("l1", "max")) or (self.form == "published" and self._linear)

    @property
    def _linear(self) -> bool:
        return self.sigma.slopes == (1.0, 1.0)

    def reset_parameters(self) -> None:
        """Draw the free coefficients uniformly in ``±scale``."""
        super().reset_parameters()
        with drawing():
            nn.init.uniform_(self.k, -self.scale, self.scale)

    def coefficients(self) -> Tensor:
        """``k₁…k₉``, ``[9]``, with k₁ from the table."""
        if self.form == "unconstrained":
            return self.k
        spread = self.k.abs().sum()
        if self.form == "l1-outside":
            spread = spread / self.sigma.slopes[0]
        return torch.cat([(self.alpha - spread).unsqueeze(0), self.k])

    def step_size(self) -> Tensor:
        """The step that is taken: ``step`` or the table's bound, whichever is smaller; a scalar tensor."""
        wanted = self.k.new_tensor(self.step)
        if self.form == "unconstrained":
            return wanted
        k = self.coefficients()
        mass = k.abs().sum().clamp(min=torch.finfo(k.dtype).tiny)  # = |k₁| + K = 2K − α where k₁ = α − K
        return torch.minimum(wanted, 2.0 / mass)

    def field(self, x: Tensor, graph: Graph, *, anchor: Tensor | None = None, t: Tensor | float = 0.0) -> Tensor:
        """``M(σ(A))`` or ``σ(M(A))`` of a dense symmetric matrix, ``[n, n]``; the graph is not read."""
        if self.form == "l1-inside":
            return self.linear_dense(self.sigma(x))
        return self.sigma(self.linear_dense(x))  # type: ignore[no-any-return]

    def rate(self, graph: Graph) -> Tensor | float:
        """``−α s_min``; as printed, 0, for the published form; minus a bound of the log norm for the unconstrained."""
        if self.form == "unconstrained":
            k = self.coefficients()
            return -(torch.maximum(k[0] * self.sigma.slopes[0], k[0] * self.sigma.slopes[1]) + k[1:].abs().sum())
        return 0.0 if self.form == "published" and not self._linear else -self.alpha * self.sigma.slopes[0]

    def max_step(self, graph: Graph) -> Tensor | float:
        """``2/(|k₁| + K + κ)``, the table's bound where κ = 0; 0 where the rate is negative."""
        rate = self.rate(graph)
        if number(rate) < 0:
            return 0.0
        return 2.0 / (self.coefficients().abs().sum() + rate).clamp(min=torch.finfo(self.k.dtype).tiny)

    def lipschitz(self, graph: Graph, step: Tensor | float) -> Tensor:
        """A Lipschitz constant of the step in :attr:`norm`, for every step and every form; 1 or less if certified.

        ``max_d |1 + h d k₁| + h d' K`` over the slopes d: with ``d' = d`` where a column (row) of the derivative has
        one slope, and ``d' = s_max`` in vec-ℓ1 with σ outside, where each of its entries has its own.
        """
        return self._step_lipschitz(step, shared=self._one_slope)

    def l1_lipschitz(self, step: Tensor | float) -> Tensor:
        """A Lipschitz constant of the step in vec-ℓ1, for every step and every form."""
        return self._step_lipschitz(step, shared=self.form == "l1-inside")

    @property
    def _one_slope(self) -> bool:
        return self.form in ("l1-inside", "max-outside")

    def _step_lipschitz(self, step: Tensor | float, *, shared: bool) -> Tensor:
        k = self.coefficients()
        spread = k[1:].abs().sum()
        ends = [
            (1.0 + step * d * k[0]).abs() + step * (d if shared else self.sigma.slopes[1]) * spread
            for d in self.sigma.slopes
        ]
        return torch.maximum(*ends)

    def state(self, graph: Graph, channels: int, *, generator: torch.Generator | None = None) -> Tensor:
        """A random symmetric matrix ``[n, n]`` in float64."""
        return self.project(torch.randn(graph.num_nodes, graph.num_nodes, dtype=torch.float64, generator=generator))

    def project(self, x: Tensor) -> Tensor:
        """The symmetric part."""
        return (x + x.mT) / 2

    def permute(self, x: Tensor, order: Tensor) -> Tensor:
        """Rows and columns."""
        return x[order][:, order]

    def misread(self, a: Adjacency, step: Tensor | float) -> Tensor:
        """What a flipped pair can add to the step's result in vec-ℓ1, for each of its two entries.

        On an edge σ is applied, off the edges the line of slope s (:meth:`Adjacency.activate`), and a flip swaps the
        two: they differ by at most ``spread · |z|`` at an entry z.
        """
        inside = self.form == "l1-inside"
        before = a if inside else self.linear(a)
        gain = self.coefficients().abs().sum() if inside else 1.0
        return step * gain * _spread(self.sigma) * before.largest_entry()

    def linear(self, a: Adjacency) -> Adjacency:
        """M(A), exact in ``O(|E| + n)``."""
        n = a.num_nodes
        k1, k2, k3, k4, k5, k6, k7, k8, k9 = self._scaled(n)
        own = a.diagonal + 2 * a.offset + a.constant  # diag A
        row = a.row_sums()
        total, trace = a.total(row), a.total(own)
        return dataclasses.replace(
            a,
            on_edges=k1 * a.on_edges,
            diagonal=k1 * a.diagonal + k2 * own + k4 * row + (k6 * total + k8 * trace),
            offset=k1 * a.offset + k3 * row + k9 * own,
            constant=k1 * a.constant + k5 * total + k7 * trace,
        )

    def linear_dense(self, a: Tensor) -> Tensor:
        """M(A) for a dense symmetric ``[n, n]`` matrix, term by term as printed."""
        n = a.size(0)
        k1, k2, k3, k4, k5, k6, k7, k8, k9 = self._scaled(n)
        ones, eye = a.new_ones(n, n), torch.eye(n, dtype=a.dtype, device=a.device)
        own, row = a.diagonal(), a.sum(1)
        total, trace = a.sum(), a.trace()
        return (
            k1 * a
            + k2 * torch.diag(own)
            + k3 * (a @ ones + ones @ a)
            + k4 * torch.diag(row)
            + k5 * total * ones
            + k6 * total * eye
            + k7 * trace * ones
            + k8 * trace * eye
            + k9 * (own.unsqueeze(1) + own.unsqueeze(0))
        )

    def _scaled(self, n: int) -> tuple[Tensor, ...]:
        """k₁…k₉ with the divisions by powers of n that stand in M."""
        divisors = [1.0, 1.0, 2 * n, 1.0, n**2, n, n**2, n, 2 * n]
        if self.form == "max-outside":
            divisors[3], divisors[5] = n, n**2
        return tuple(k / divisor for k, divisor in zip(self.coefficients().unbind(), divisors, strict=True))

    def forward(self, a: Adjacency) -> Adjacency:
        """One step in ``O(|E| + n)``; ``error`` of the result bounds the distance to :meth:`forward_dense`.

        The bound adds up over steps: an earlier error grows at most by the Lipschitz constant of the step.

        Raises:
            TypeError: where a subclass, or the object, has a ``field`` or ``linear_dense`` of its own and neither a
                ``forward`` nor a ``linear``: this step would be that of another matrix.
        """
        self._check_own()
        h = self.step_size()
        inside = self.form == "l1-inside"
        activated, total, largest = (a if inside else self.linear(a)).activate(self.sigma)
        moved = self.linear(activated) if inside else activated
        with torch.no_grad():
            missed = largest if self.norm == "vec-linf" else total
            if inside:
                missed = self.coefficients().abs().sum() * missed
            growth = self._step_lipschitz(h, shared=self._one_slope)
            error = growth * a.error_in(self.norm) + h * missed
        return dataclasses.replace(a.plus(moved, h), error=error, norm=self.norm)

    def _check_own(self) -> None:
        def own(name: str) -> bool:
            return name in vars(self) or getattr(type(self), name) is not getattr(AdjacencyFlow, name)

        changed = [name for name in ("field", "linear_dense") if own(name)]
        if changed and not own("linear"):
            raise TypeError(
                f"{type(self).__name__} has a {' and a '.join(changed)} of its own, which the step in O(|E| + n) does "
                "not read: write its forward (or linear) too, or call forward_dense"
            )

    def forward_dense(self, a: Tensor) -> Tensor:
        """One step of a dense symmetric ``[n, n]`` matrix: the reference, for n up to a few thousand."""
        if a.dim() != 2 or a.size(0) != a.size(1):
            raise ValueError(f"expected a square matrix, got shape {tuple(a.shape)}")
        no_edges = Graph(torch.zeros(2, 0, dtype=torch.long, device=a.device), a.new_zeros(0), a.size(0))
        return torch.add(a, self.step_size() * self.field(a, no_edges))

    def extra_repr(self) -> str:
        """Show what was chosen."""
        return f"form={self.form!r}, alpha={self.alpha}, step={self.step}"
