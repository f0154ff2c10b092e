r"""Parametrisations that keep a weight inside the condition of a contraction claim at every step of training.

They build on ``torch.nn.utils.parametrize``: the optimiser moves an unconstrained tensor, and the layer's weight is a
differentiable function of it that always satisfies the constraint. Each carries its own membership test,
``violation(weight)``, which is at most 0 inside and is evaluated in double precision, whatever the weight's own;
:func:`check` and :func:`require` walk a model and evaluate all of them.

>>> layer = spectral(torch.nn.Linear(8, 8), bound=0.9)
>>> check(layer)["weight"] <= 0
True

A parametrised module is saved by its ``state_dict``: torch cannot pickle its class.
"""

from __future__ import annotations

import contextlib
import math
from typing import TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrizations as torch_parametrizations
from torch.nn.utils import parametrize

from contractive_gnn.checks import check_flag
from contractive_gnn.dynamics import AdjacencyFlow
from contractive_gnn.operators import Conv2d, Dense, KnownNorm, Operator, rounding
from contractive_gnn.operators.base import require_finite
from contractive_gnn.operators.correlation import weighted_sums
from contractive_gnn.operators.known import prove_by
from contractive_gnn.operators.singular import largest_singular_value, require_decomposable

Layer = TypeVar("Layer", bound=nn.Module)

LARGEST_LOG = 10.0  # of a learned weight of a row


class Constraint(nn.Module):
    """A parametrisation with a membership test."""

    def forward(self, weight: Tensor) -> Tensor:
        """Map any tensor to one that satisfies the constraint."""
        raise NotImplementedError(f"{type(self).__name__} must define forward")

    def right_inverse(self, weight: Tensor) -> Tensor:
        """A tensor that :meth:`forward` maps to ``weight``, if that satisfies the constraint."""
        return weight

    def violation(self, weight: Tensor) -> float:
        """How far ``weight`` is outside; at most 0 inside."""
        raise NotImplementedError(f"{type(self).__name__} must define violation")


class Spectral(Constraint, KnownNorm):
    r"""``W ↦ W · min(1, bound/‖W‖₂)`` with a certified upper bound of the norm, never an estimate from below.

    The norm is that of :class:`contractive_gnn.operators.Dense` for a matrix, and for the kernel of a convolution that
    of :class:`contractive_gnn.operators.Conv2d` over all sizes of the input (which is up to 4 % above the largest: such
    a layer stays that much inside). A slack of about ``8 n eps``, n the sum of the weight's dimensions, covers the
    rounding: a weight whose norm *is* the bound shrinks by that much, ``n · 1e-6`` in single precision.

    Args:
        bound: > 0.
        kernel: stride, dilation, groups and so on of a convolution; None for a matrix.

    Raises:
        ValueError: if the bound is not positive and finite.
    """

    def __init__(self, bound: float, *, kernel: dict[str, object] | None = None) -> None:
        super().__init__()
        self.bound = _positive(bound)
        self.kernel = kernel

    def operator(self, weight: Tensor) -> Operator:
        """The linear map that the weight stands for."""
        return Dense(weight) if self.kernel is None else Conv2d(weight, **self.kernel)  # type: ignore[arg-type]

    def forward(self, weight: Tensor) -> Tensor:
        """Scale the whole weight."""
        # That of Dense without making one: this runs at every step of training.
        bound = largest_singular_value(weight) if self.kernel is None else self.operator(weight).norm_bound()
        norm = bound * (1.0 + 2 * rounding(sum(weight.shape), weight.dtype))
        return weight * (self.bound / norm.clamp(min=self.bound))

    def violation(self, weight: Tensor) -> float:
        """The certified norm minus the bound."""
        return float(self.operator(_exact(weight)).norm_bound()) - self.bound

    def promise(self, operator: nn.Module) -> float | None:
        """The bound, for a matrix, and for a convolution with the options that this was made for."""
        if self.kernel is None:
            return self.bound if isinstance(operator, Dense) else None
        if not isinstance(operator, Conv2d):
            return None
        return self.bound if self.kernel == _kernel_options(operator) else None

    def extra_repr(self) -> str:
        """Show the bound."""
        return f"bound={self.bound}"


class AlmostOrthogonal(Constraint, KnownNorm):
    r"""``A = DW`` with ``D_ii² = q_i / Σ_j M_ij q_j``, so that ``‖A‖₂ ≤ 1``: almost orthogonal rows.

    ``M_ij = Σ_t |R_ij(t)|`` sums the absolute values of the correlation ``R(t) = Σ_s W_{s+t} W_sᵀ`` of the rows; of a
    matrix it is ``|WWᵀ|_ij``. With ``p = q/diag(D)`` then ``(DMD)p = p``, so for every frequency ω

    .. math:: \|A(ω)\|_2^2 = \|D\,W(ω)W(ω)^*D\|_2 \le ρ(DMD) = 1

    (:mod:`contractive_gnn.operators.correlation`), with equality where the rows are orthogonal. It holds for a matrix,
    and for a convolution with zero padding at every size, with circular padding at every size (also where the kernel
    wraps onto itself), with any stride, dilation and groups. Prach and Lampert (ECCV 2022), q = 1; Araujo et al. (ICLR
    2023), q learned. Where there are more outputs than inputs in a group, more rows than dimensions cannot be
    orthogonal: then columns are scaled instead, ``A = WD`` with the correlation of the columns.

    No decomposition and no iteration; A does not depend on the scale of W. What rounding can add in the weight's
    precision is bounded and taken off: about 1e-4 of the norm in single precision. ``bound`` scales A.

    Args:
        bound: > 0.
        groups: of a convolution.
        rows: how many rows (or columns) are scaled in all; given, q is learned, as ``log_q``.

    Raises:
        ValueError: if the bound is not positive and finite; (called) for entries that are not finite.
        TypeError: (called) in half precision.
    """

    log_q: nn.Parameter | None

    def __init__(self, bound: float = 1.0, *, groups: int = 1, rows: int | None = None) -> None:
        super().__init__()
        self.bound = _positive(bound)
        self.groups = groups
        self.register_parameter("log_q", None if rows is None else nn.Parameter(torch.zeros(rows)))

    def forward(self, weight: Tensor) -> Tensor:
        """Scale the rows, or the columns."""
        require_decomposable(weight)
        if self.log_q is not None:
            require_finite(self.log_q)
        factor = self.scaling(weight)[0]
        if _kernel(weight, self.groups)[1]:  # of W: each input channel of each group
            blocks = weight.view(self.groups, -1, *weight.shape[1:])
            return (blocks * factor.view(self.groups, 1, -1, *[1] * (weight.dim() - 2))).view_as(weight)
        return weight * factor.view(-1, *[1] * (weight.dim() - 1))

    def scaling(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """The diagonal of D, and the vector p with ``(DMD)p = p`` up to the slack; each ``[groups, rows]``."""
        # AOL of cW is that of W for every c: a factor that is held fixed keeps squares from overflowing.
        largest = weight.detach().abs().amax()
        scale = torch.where(largest > 0, largest, torch.ones_like(largest))
        kernel, _ = _kernel(weight / scale, self.groups)
        groups, rows = kernel.shape[:2]
        if self.log_q is None:
            q = torch.ones(groups, rows, dtype=weight.dtype, device=weight.device)
        else:
            free = self.log_q.to(weight.dtype).view(groups, rows)
            q = (free - free.mean(dim=1, keepdim=True)).clamp(-LARGEST_LOG, LARGEST_LOG).exp()
        # More than what is lost of products below the smallest number; and a row of zeros has a gradient.
        sums = weighted_sums(kernel, q) + torch.finfo(weight.dtype).eps ** 2
        factor = (self.bound * (1.0 - 4 * torch.finfo(weight.dtype).eps)) * sums.rsqrt()
        return factor / scale, q / factor

    def violation(self, weight: Tensor) -> float:
        """The largest norm of the symbol of ``weight`` on a fine grid minus the bound, and the slack of that grid."""
        exact = _exact(weight)
        if exact.dim() == 2:
            return float(torch.linalg.matrix_norm(exact, 2)) - self.bound * (1 + 1e-12)
        operator = Conv2d(exact, groups=self.groups, size=_fine(exact), padding_mode="circular")
        return float(operator.norm_bound()) - self.bound * (1 + 1e-12)

    def promise(self, operator: nn.Module) -> float | None:
        """The bound, for every matrix and every convolution with as many groups."""
        if isinstance(operator, Conv2d):
            return self.bound if operator.groups == self.groups else None
        return self.bound if isinstance(operator, Dense) and self.groups == 1 else None

    def extra_repr(self) -> str:
        """Show the options."""
        return f"bound={self.bound}, groups={self.groups}, learned q={self.log_q is not None}"


class Witness(KnownNorm):
    r"""Proves a bound of a fixed weight by a vector: ``‖A‖² ≤ max_i (Mp)_i/p_i`` for any p > 0.

    M as in :class:`AlmostOrthogonal`. The sums are computed from the weight at every question, in double precision, so
    the bound is that of the weight, whatever became of it.

    Args:
        p: ``[groups, rows]``, positive.
    """

    p: Tensor

    def __init__(self, p: Tensor) -> None:
        super().__init__()
        self.register_buffer("p", p)

    def promise(self, operator: nn.Module) -> Tensor | None:
        """The bound, for a matrix or a convolution with as many groups; ``inf`` where p or an entry is no such number.

        p may have been loaded: with entries of both signs the quotients bound nothing.
        """
        groups = len(self.p)
        if not (operator.groups == groups if isinstance(operator, Conv2d) else isinstance(operator, Dense)):
            return None
        weight = operator.weight
        assert isinstance(weight, Tensor)
        if not bool((self.p > 0).all()):
            return weight.new_full((), math.inf)
        sums = weighted_sums(_kernel(weight.detach().double(), groups)[0], self.p.double())
        square = torch.nan_to_num(sums, nan=math.inf).max()
        return (square.sqrt() * (1.0 + 4 * torch.finfo(torch.float64).eps)).to(weight.device)


class RowSum(Constraint):
    r"""Every row scaled to ``Σ|w| ≤ bound``: the ℓ∞ operator norm of the layer is at most the bound.

    A row is what makes one output: ``[in]`` of a matrix, ``[in/groups, kh, kw]`` of a convolution's kernel. Rows that
    are inside stay as they are, but for a slack of ``2 n eps`` with n entries in a row.

    Args:
        bound: > 0.

    Raises:
        ValueError: if the bound is not positive and finite.
    """

    def __init__(self, bound: float) -> None:
        super().__init__()
        self.bound = _positive(bound)

    def forward(self, weight: Tensor) -> Tensor:
        """Scale the rows whose sum is too large."""
        size = weight.abs().flatten(1).sum(1) * (1.0 + 0.5 * rounding(weight[0].numel() + 4, weight.dtype))
        return weight * (self.bound / size.clamp(min=self.bound)).view(-1, *[1] * (weight.dim() - 1))

    def violation(self, weight: Tensor) -> float:
        """The largest row sum minus the bound."""
        return float(_exact(weight).abs().flatten(1).sum(1).max()) - self.bound

    def extra_repr(self) -> str:
        """Show the bound."""
        return f"bound={self.bound}"


class Orthogonal(Constraint):
    r"""Two Newton–Schulz steps ``W ← W(3I − WᵀW)/2`` (Björck and Bowie 1971) on a matrix that is nearly orthogonal.

    A defect ``δ = ‖WᵀW − I‖₂`` becomes about ``¾δ²``, so what a map to the orthogonal matrices lost to rounding is
    mended. :func:`orthogonal` puts it behind torch's parametrisation.

    Raises:
        TypeError: in half precision.
    """

    def forward(self, weight: Tensor) -> Tensor:
        """Mend ``weight``, ``[m, n]``."""
        _require_precise(weight)
        for _ in range(2):
            tall = weight.size(0) >= weight.size(1)
            gram = weight.t() @ weight if tall else weight @ weight.t()
            weight = 1.5 * weight - 0.5 * (weight @ gram if tall else gram @ weight)
        return weight

    def violation(self, weight: Tensor) -> float:
        """``‖WᵀW − I‖₂`` (``WWᵀ`` for more columns than rows) minus the slack ``32 n eps`` of the weight's dtype."""
        exact = _exact(weight)
        tall = exact if exact.size(0) >= exact.size(1) else exact.t()
        defect = tall.t() @ tall - torch.eye(tall.size(1), dtype=tall.dtype)
        return float(torch.linalg.matrix_norm(defect, 2)) - 8 * rounding(max(weight.shape), weight.dtype)


class RowLogNorm(Constraint):
    r"""``A = T − diag(|T|1) + γI``, whose log norm in ℓ∞ is at most γ: Jafarpour et al. (NeurIPS 2021), for any T.

    Row i has ``a_ii + Σ_{j≠i} |a_ij| = γ + t_ii − |t_ii|``; every A with ``μ_∞(A) ≤ γ`` is reached, with ``t_ii ≤ 0``.
    An equilibrium of ``x = φ(Ax + b)`` with slopes of φ in [0, 1] is unique where γ < 1. A slack of ``2 n eps |T|1``
    is taken from the diagonal.

    Args:
        bound: γ, of any sign.

    Raises:
        ValueError: if γ is not finite.
    """

    def __init__(self, bound: float) -> None:
        super().__init__()
        if not math.isfinite(bound):
            raise ValueError(f"bound must be finite, got {bound!r}")
        self.bound = float(bound)

    def forward(self, weight: Tensor) -> Tensor:
        """Take the row sums from the diagonal."""
        sums = weight.abs().sum(1)
        slack = (0.5 * rounding(len(weight) + 2, weight.dtype)) * (sums.detach() + abs(self.bound))
        return weight - torch.diag(sums + slack - self.bound)

    def right_inverse(self, weight: Tensor) -> Tensor:
        """T with the off-diagonal entries of ``weight``; too large a diagonal comes back lowered to the edge."""
        own = weight.diagonal()
        others = weight.abs().sum(1) - own.abs()
        # The slack of the forward pass cancels, up to its own rounding.
        slack = (0.5 * rounding(len(weight) + 2, weight.dtype)) * (others + own.abs() + abs(self.bound))
        inside = ((own + others + slack - self.bound) / 2).clamp(max=0.0)
        return weight - torch.diag(own - inside)

    def violation(self, weight: Tensor) -> float:
        """``μ_∞(A) − γ``."""
        exact = _exact(weight)
        own = exact.diagonal()
        return float((own + exact.abs().sum(1) - own.abs()).max()) - self.bound

    def extra_repr(self) -> str:
        """Show the bound."""
        return f"bound={self.bound}"


def spectral(module: Layer, name: str = "weight", *, bound: float = 1.0) -> Layer:
    r"""Keep ``‖W‖₂ ≤ bound``: the layer is ``bound``-Lipschitz in ℓ2. See :class:`Spectral`.

    Unlike ``torch.nn.utils.parametrizations.spectral_norm``, which divides by a power iteration's estimate (a lower
    bound, of the kernel reshaped to a matrix), and always.

    Args:
        module: a linear layer (any with a matrix ``[out, in]``, :class:`contractive_gnn.operators.Dense` too), or
            ``nn.Conv2d`` with zero or circular padding, or :class:`contractive_gnn.operators.Conv2d`.
        name: of its weight.
        bound: > 0.

    Returns:
        ``module``, changed in place.

    Raises:
        ValueError: if the bound is not positive and finite, for a weight without entries, or another padding mode.
        TypeError: if the weight is neither a matrix nor the kernel of an ``nn.Conv2d``.
    """
    weight = _weight(module, name)
    kernel: dict[str, object] | None = None
    if weight.dim() != 2:
        kernel = _kernel_options(_convolution(module, name, weight))
    constraint = Spectral(bound, kernel=kernel)
    constraint.operator(weight)  # refuses what it has no bound for
    return _register(module, name, constraint)


def almost_orthogonal(module: Layer, name: str = "weight", *, bound: float = 1.0, learn_weights: bool = True) -> Layer:
    """Keep ``‖A‖₂ ≤ bound`` by scaling rows, without a decomposition. See :class:`AlmostOrthogonal`.

    The operators of this library then know the bound: ``norm_bound()`` computes nothing.

    Args:
        module: as for :func:`spectral`.
        name: of its weight.
        bound: > 0.
        learn_weights: learn the vector q.

    Returns:
        ``module``, changed in place.

    Raises:
        ValueError: if the bound is not positive and finite, for a weight without entries, or another padding mode.
        TypeError: if the weight is neither a matrix nor the kernel of a convolution, or in half precision.

    Example:
        >>> from contractive_gnn.operators import Conv2d
        >>> operator = almost_orthogonal(Conv2d(nn.Parameter(torch.randn(4, 4, 3, 3)), padding=1))
        >>> float(operator.norm_bound())
        1.0
    """
    check_flag("learn_weights", learn_weights)
    weight, groups = _weight(module, name), 1
    require_decomposable(weight)
    if weight.dim() != 2:
        layer = _convolution(module, name, weight)
        groups = layer.groups
        Spectral(1.0, kernel=_kernel_options(layer)).operator(weight)  # refuses a padding that repeats entries
    rows = _kernel(weight, groups)[0].shape[:2].numel() if learn_weights else None
    constraint = AlmostOrthogonal(bound, groups=groups, rows=rows).to(weight)
    return _register(module, name, constraint)


def linf(module: Layer, name: str = "weight", *, bound: float = 1.0) -> Layer:
    """Keep every row sum of ``|W|`` at most ``bound``: ``bound``-Lipschitz in ℓ∞. See :class:`RowSum`.

    Arguments, result and errors are those of :func:`spectral`; a convolution may have any padding mode, since a
    reflected or repeated entry is still one of the input's.
    """
    weight = _weight(module, name)
    if weight.dim() != 2:
        _convolution(module, name, weight)
    return _register(module, name, RowSum(bound))


def orthogonal(module: Layer, name: str = "weight") -> Layer:
    """Keep a matrix orthogonal (``WᵀW = I`` or ``WWᵀ = I``): torch's own, by Cayley's map, and :class:`Orthogonal`.

    Cayley's map, because torch's other two lose it: ``"matrix_exp"`` errs by up to 0.08 where the unconstrained tensor
    has become large, and ``"householder"`` keeps signs on that tensor's diagonal and casts them to integers, so that
    the first step of weight decay makes them 0. Cayley's map solves a system whose condition number is about the norm
    of the unconstrained tensor, so it too is lost once that nears 1/eps. A tensor whose Frobenius norm is above
    ``eps^-½`` (2,896 in single precision) is therefore scaled down to it, which leaves out only rotations within
    ``2 eps^½`` of a half turn of the starting point.

    Args:
        module: holds a matrix.
        name: of the matrix.

    Returns:
        ``module``, changed in place.

    Raises:
        ValueError: for a weight without entries, with entries that are not finite (on a forward pass too), or whose
            rank is not full.
        TypeError: if the weight is no matrix, or in half precision; on a forward pass too.
    """
    weight = _weight(module, name)
    if weight.dim() != 2:
        raise TypeError(f"an orthogonal weight must be a matrix, got shape {list(weight.shape)}")
    _require_precise(weight)
    tall = weight.detach() if weight.size(0) >= weight.size(1) else weight.detach().t()
    if bool((torch.linalg.qr(tall).R.diagonal() == 0).any()):  # torch would start from columns of zeros
        raise ValueError(f"{name!r} of {type(module).__name__} has linearly dependent columns or rows; draw it anew")
    torch_parametrizations.orthogonal(module, name, orthogonal_map="cayley")
    chain = cast(nn.ModuleDict, module.parametrizations)[name]
    cast(nn.ModuleList, chain)[0].register_forward_pre_hook(_shorten)
    return _register(module, name, Orthogonal())


def linf_log_norm(module: Layer, name: str = "weight", *, bound: float = 0.0) -> Layer:
    """Keep ``μ_∞(A) ≤ bound`` for a square matrix: ``ẋ = Ax`` contracts at rate ``−bound`` in ℓ∞. See RowLogNorm.

    Args:
        module: holds a square matrix.
        name: of the matrix.
        bound: γ, of any sign.

    Returns:
        ``module``, changed in place.

    Raises:
        ValueError: if γ is not finite.
        TypeError: if the weight is no square matrix.
    """
    weight = _weight(module, name)
    if weight.dim() != 2 or weight.size(0) != weight.size(1):
        raise TypeError(f"a log norm needs a square matrix, got shape {list(weight.shape)}")
    return _register(module, name, RowLogNorm(bound))


def computed_once(module: nn.Module) -> contextlib.AbstractContextManager[None]:
    """Until the block ends, every parametrised weight is computed once; nothing is done where the module has none.

    torch keeps such weights for all threads of a process together (``parametrize.cached``): while one thread is inside,
    another one that trains a parametrised model would meet its weights of the step before. A module whose weights are
    fixed (:func:`fix`) stays out of that, and may be evaluated beside a training.

    Args:
        module: whose weights are asked for.
    """
    # a trace finds by itself what it has computed before
    if torch.compiler.is_compiling() or not any(map(parametrize.is_parametrized, module.modules())):
        return contextlib.nullcontext()
    return cast("contextlib.AbstractContextManager[None]", parametrize.cached())


@torch.no_grad()
def fix(module: nn.Module) -> None:
    """Compute every parametrised weight of a module once, and take the parametrisations away.

    A :class:`Witness` takes the place of :class:`AlmostOrthogonal`: the operator's bound stays known, and proved from
    the fixed weight. Without parametrisations the module can be pickled.

    Args:
        module: a parametrised module, changed in place; its children are left as they are.
    """
    weights: dict[str, Tensor] = {}
    witnesses: dict[str, Witness] = {}
    for name, chain in cast(nn.ModuleDict, module.parametrizations).items():
        weights[name] = getattr(module, name)
        *before, last = cast(nn.ModuleList, chain)
        if isinstance(last, AlmostOrthogonal):
            free = cast(Tensor, chain.original)
            for part in before:
                free = part(free)
            witnesses[name] = Witness(last.scaling(free)[1])
    # torch's remove_parametrizations changes the class, which copies of a module share: the others would lose theirs.
    module.__class__ = parametrize.type_before_parametrizations(module)
    del module.parametrizations
    for name, weight in weights.items():
        module.register_parameter(name, nn.Parameter(weight.clone(), requires_grad=False))
        if name in witnesses and isinstance(module, Operator):  # of another layer nobody asks for it
            prove_by(module, witnesses[name])


@torch.no_grad()
def check(model: nn.Module) -> dict[str, float]:
    """Every constraint of a model: by how much it is violated, at most 0 inside.

    Besides the weights with a :class:`Constraint`, named by their path (``inf`` where an entry is not finite), each
    ``AdjacencyFlow`` of a constrained form has ``PATH.k1``, the distance of k₁ to its table's value, and ``PATH.step``,
    the step that is taken minus the table's bound, both relative to it and less a slack of ``32 eps``.

    Args:
        model: any module, itself constrained or not.
    """
    found: dict[str, float] = {}
    for path, module in model.named_modules():
        prefix = f"{path}." if path else ""
        if parametrize.is_parametrized(module):
            for name, chain in cast(nn.ModuleDict, module.parametrizations).items():
                constraints = [part for part in cast(nn.ModuleList, chain) if isinstance(part, Constraint)]
                if constraints:
                    # The last one made the weight; those before it must hold for it all the same.
                    found[prefix + name] = math.inf
                    if _all_finite(*chain.parameters(), *chain.buffers()):
                        weight: Tensor = getattr(module, name)
                        if _all_finite(weight):
                            found[prefix + name] = max(part.violation(weight) for part in constraints)
        if isinstance(module, AdjacencyFlow) and module.form != "unconstrained":
            found[f"{prefix}k1"], found[f"{prefix}step"] = _adjacency(module)
    return found


def require(model: nn.Module) -> None:
    """Raise where :func:`check` finds a violation, or nothing at all.

    Raises:
        ValueError: naming every violated constraint, or if the model has none.
    """
    found = check(model)
    if not found:
        raise ValueError(f"{type(model).__name__} has no constraint to check: use spectral, linf, … on its layers")
    outside = {name: value for name, value in found.items() if not value <= 0}
    if outside:
        listed = ", ".join(f"{name} by {value:.3g}" for name, value in outside.items())
        raise ValueError(f"{len(outside)} of {len(found)} constraints are violated: {listed}")


def _adjacency(flow: AdjacencyFlow) -> tuple[float, float]:
    """The conditions of :class:`AdjacencyFlow`'s table, from its free coefficients."""
    if not _all_finite(flow.k):
        return math.inf, math.inf
    spread = float(_exact(flow.k).abs().sum())
    k1 = flow.alpha - (spread / flow.sigma.slopes[0] if flow.form == "l1-outside" else spread)
    mass = abs(k1) + spread  # 2K − α where k₁ = α − K
    slack = 32 * torch.finfo(flow.k.dtype).eps
    taken = float(_exact(flow.coefficients())[0])
    away = abs(taken - k1) / abs(k1) if k1 else abs(taken)
    beyond = float(_exact(flow.step_size())) * mass / 2.0 - 1.0
    return away - slack, beyond - slack


def _exact(weight: Tensor) -> Tensor:
    return weight.detach().to("cpu", torch.float64)


def _all_finite(*tensors: Tensor) -> bool:
    return all(bool(torch.isfinite(tensor.detach()).all()) for tensor in tensors)


def _require_precise(weight: Tensor) -> None:
    if weight.dtype not in (torch.float32, torch.float64):
        raise TypeError(
            f"an orthogonal weight takes float32 or float64, got {weight.dtype}: keep the constrained layer in float32"
        )


def _shorten(module: nn.Module, arguments: tuple[Tensor]) -> tuple[Tensor] | None:
    """Before Cayley's map: scale a tensor that is too large for it."""
    (free,) = arguments
    _require_precise(free)
    if not _all_finite(free):
        raise ValueError("the tensor behind an orthogonal weight has entries that are not finite: lower the step")
    largest, limit = free.detach().abs().max(), torch.finfo(free.dtype).eps ** -0.5
    if float(largest) <= limit / math.sqrt(free.numel()):
        return None
    unit = free / largest  # its norm does not overflow
    size = torch.linalg.vector_norm(unit)
    return None if float(largest) <= limit / float(size.detach()) else (unit * (limit / size),)


def _positive(bound: float) -> float:
    if not (bound > 0 and math.isfinite(bound)):
        raise ValueError(f"bound must be a positive finite number, got {bound!r}")
    return float(bound)


def _weight(module: nn.Module, name: str) -> Tensor:
    weight = getattr(module, name, None)
    if not isinstance(weight, Tensor):
        raise ValueError(f"{type(module).__name__} has no tensor {name!r}")
    if is_lazy(weight):
        raise ValueError(f"{name!r} of {type(module).__name__} has no shape yet: run the layer once on its input first")
    if weight.numel() == 0:
        raise ValueError(f"{name!r} of {type(module).__name__} has no entries: shape {list(weight.shape)}")
    if not _all_finite(weight):
        raise ValueError(f"{name!r} of {type(module).__name__} has entries that are not finite; draw it anew")
    return weight


def _convolution(module: nn.Module, name: str, weight: Tensor) -> nn.Conv2d | Conv2d:
    if not isinstance(module, nn.Conv2d | Conv2d):
        raise TypeError(
            f"expected a matrix or the kernel of an nn.Conv2d, got {name!r} of {type(module).__name__} with shape "
            f"{list(weight.shape)}"
        )
    return module


def _kernel_options(layer: nn.Conv2d | Conv2d) -> dict[str, object]:
    """What of a convolution its norm depends on."""
    # Zero padding changes no bound here; too much of a circular one is refused ("same" never is too much).
    circular = layer.padding_mode == "circular" and not isinstance(layer.padding, str)
    kernel: dict[str, object] = {
        "stride": layer.stride,
        "dilation": layer.dilation,
        "groups": layer.groups,
        "padding_mode": layer.padding_mode,
        "padding": layer.padding if circular else 0,
    }
    if isinstance(layer, Conv2d) and layer.size is not None:
        kernel |= {"size": layer.size, "padding": layer.padding}  # the norm for that size alone
    return kernel


def _kernel(weight: Tensor, groups: int) -> tuple[Tensor, bool]:
    """The kernel whose rows are scaled, ``[groups, rows, other, kh, kw]``, and whether they are columns of W."""
    kernel = weight[..., None, None] if weight.dim() == 2 else weight
    kernel = kernel.reshape(groups, -1, *kernel.shape[1:])
    columns = kernel.size(1) > kernel.size(2)
    return (kernel.transpose(1, 2) if columns else kernel), columns


def _fine(kernel: Tensor) -> tuple[int, int]:
    """A grid of frequencies on which to look at a kernel."""
    first, second = (max(8, 4 * (length - 1)) for length in kernel.shape[2:])
    return first, second


def _register(module: Layer, name: str, constraint: Constraint) -> Layer:
    parametrize.register_parametrization(module, name, constraint)
    return module
