r"""Two-layer networks for equations on a grid: the exact one, and one to be trained.

A product of p forms is a sum of p-th powers (polarisation),

.. math::
    z_1 \cdots z_p = \frac{1}{2^{p-1}\, p!} \sum_{s \in \{1, -1\}^{p-1}} s_1 \cdots s_{p-1}
        (z_1 + s_1 z_2 + \dots + s_{p-1} z_p)^p,

one of fewer forms is one of p with a constant c in the place of those that are missing, divided by their powers, and
``w^p = ρ(w) + (−1)^p ρ(−w)`` with ``ρ(w) = max(w, 0)^p``. So a polynomial of degree p in stencils is *exactly* a
convolution, ρ, and a convolution with one tap (Celledoni, Jackaman, Murari, Owren, *Predictions based on pixel data:
insights from PDEs and finite differences*, 2023, for degrees 1 and 2). The biases are needed: ρ alone is homogeneous,
and a sum of terms of several degrees is not.

============================= ==== ================================================================
equation                      p    channels of the exact network
============================= ==== ================================================================
heat, advection               1    2: ``±(Lu)``
Fisher                        2    6: ``±(Lu + u ± c)``, ``±u``
Burgers, in d dimensions      2    2 for each square, 4 for each other product and for the diffusion
Gray–Scott                    3    18
============================= ==== ================================================================
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from contractive_gnn.activations import RectifiedPower
from contractive_gnn.checks import check_flag, check_real, check_whole
from contractive_gnn.dynamics.pdes.polynomial import AffineForm, Product, StencilPolynomial
from contractive_gnn.dynamics.perceptron import PerceptronField
from contractive_gnn.operators import Conv2d, Operator, Stencil
from contractive_gnn.operators.walls import Boundary, check_boundary
from contractive_gnn.seeding import drawing


def exact_network(
    polynomial: StencilPolynomial, *, learned: bool = False, dtype: torch.dtype | None = None
) -> PerceptronField:
    r"""The two-layer network that is a polynomial in stencils, up to rounding.

    Args:
        polynomial: the equation.
        learned: whether the kernels and biases are parameters, which start at the exact ones.
        dtype: of them; None for torch's default. What is not learned is kept in float64, and ``.double()`` has it.

    Returns:
        ``X(u) = C max(Su + b, 0)^p`` with p the degree, on states ``[..., fields, N₁, …, N_d]``.

    Example:
        >>> from contractive_gnn.dynamics.pdes import FiniteDifferences, exact_network, fisher
        >>> equation = fisher((6, 6), alpha=0.01, spacing=1 / 6)
        >>> network = exact_network(equation, dtype=torch.float64)
        >>> u = torch.rand(1, 6, 6, dtype=torch.float64)
        >>> bool((network(u) - FiniteDifferences(equation, dtype=torch.float64)(u)).abs().max() < 1e-12)
        True
    """
    check_flag("learned", learned)
    power = polynomial.degree
    forms: list[AffineForm] = []
    weights: list[Tensor] = []
    for product in polynomial.products:
        for form, weight in _powers(product, power):
            _add(form, weight, product.into, polynomial.fields, power, forms, weights)
    both: list[AffineForm] = []
    columns: list[Tensor] = []
    for form, column in zip(forms, weights, strict=True):
        if bool(column.any()):  # else it cancelled
            both += [form, AffineForm(-form.kernel, -form.constant)]
            columns += [column, (-1.0) ** power * column]
    dtype = dtype or torch.get_default_dtype()
    inner, bias = polynomial.stencil(both, dtype if learned else torch.float64)
    kernel = torch.stack(columns).view(len(columns), polynomial.fields, *[1] * len(polynomial.size))
    if learned:
        inner = Stencil(nn.Parameter(inner.kernel), size=polynomial.size, boundary=polynomial.boundary)
        kernel, bias = nn.Parameter(kernel.to(dtype)), nn.Parameter(bias)
    outer = Stencil(kernel, size=polynomial.size, boundary=polynomial.boundary)
    return PerceptronField(inner, RectifiedPower(power), outer=outer, bias=bias).to(dtype)


def untrained_network(
    size: Sequence[int],
    *,
    fields: int = 1,
    width: int = 2,
    taps: int = 5,
    power: int = 1,
    boundary: Boundary = "periodic",
    bias: float = 0.0,
) -> PerceptronField:
    r"""``X(u) = C max(Ku + b, 0)^p`` with random kernels of ``taps`` points an axis, to be trained.

    With one field, two channels and p = 1, or ten and p = 2, it is the network of Celledoni et al. (2023) for the heat
    equation and advection, or for Fisher's, but for the bias of Fisher's second layer.

    Args:
        size: ``(N₁, …, N_d)``.
        fields: how many values there are at a point.
        width: channels between the two layers.
        taps: of both kernels along each axis, odd.
        power: p.
        boundary: in the plane ``"periodic"`` and ``"zero"`` are fast: there the kernels are those of a
            :class:`~contractive_gnn.operators.Conv2d`.
        bias: added to the random biases. Where it is larger than what the kernels make of a state, the ReLU is not cut
            off anywhere: the network starts as a polynomial of degree p, which is smooth in its weights.

    Shapes:
        ``[..., fields, N₁, …, N_d]``.

    Raises:
        ValueError: for numbers out of their range, and an even number of taps.
    """
    for name, value in (("fields", fields), ("width", width), ("taps", taps)):
        check_whole(name, value, least=1)
    if taps % 2 == 0:
        raise ValueError(f"taps must be odd, got {taps!r}")
    check_boundary(boundary)
    check_real("bias", bias)
    shape = (width, fields, *[taps] * len(size))
    with drawing():
        first, second = (
            (2 * torch.rand(shape) - 1) / math.sqrt(channels * taps ** len(size)) for channels in (fields, width)
        )
        biases = bias + (2 * torch.rand(width, *[1] * len(size)) - 1) / math.sqrt(fields * taps ** len(size))
    inner, outer = (_convolution(nn.Parameter(kernel), size, boundary) for kernel in (first, second))
    return PerceptronField(inner, RectifiedPower(power), outer=outer, bias=nn.Parameter(biases))


def _convolution(kernel: nn.Parameter, size: Sequence[int], boundary: Boundary) -> Operator:
    if len(size) == 2 and boundary in ("periodic", "zero"):
        mode = "circular" if boundary == "periodic" else "zeros"
        return Conv2d(
            kernel,
            size=(size[0], size[1]),
            padding=kernel.size(-1) // 2,
            padding_mode=mode,  # type: ignore[arg-type]  # mypy takes the two words for any
        )
    return Stencil(kernel, size=size, boundary=boundary)


def _powers(product: Product, power: int) -> list[tuple[AffineForm, float]]:
    """Forms and weights with ``Σ weight · form^p`` the product."""
    forms = list(product.factors)
    coefficient = product.coefficient
    while len(forms) < power:
        # of the size of the form that it is beside, so that little is cancelled
        constant = forms[0].size() or 1.0
        coefficient /= constant
        forms.append(AffineForm(torch.zeros_like(forms[0].kernel), constant))
    scale = coefficient / (2 ** (power - 1) * math.factorial(power))
    found = []
    for signs in itertools.product((1.0, -1.0), repeat=power - 1):
        total = forms[0]
        for sign, form in zip(signs, forms[1:], strict=True):
            total = total.plus(form, sign)
        # c − c is nothing, whatever was added before
        constants = [sign * form.constant for sign, form in zip((1.0, *signs), forms, strict=True)]
        total = AffineForm(total.kernel, math.fsum(constants))
        if total.size() > 0:
            found.append((total, scale * math.prod(signs)))
    return found


def _add(
    form: AffineForm,
    weight: float,
    into: int,
    fields: int,
    power: int,
    forms: list[AffineForm],
    weights: list[Tensor],
) -> None:
    """Add a weight to that of the same form, or of its negative, where it is there already."""
    taps = form.kernel.shape[1:]
    for other, held in zip(forms, weights, strict=True):
        wide = [max(pair) for pair in zip(taps, other.kernel.shape[1:], strict=True)]
        for sign in (1.0, -1.0):
            if form.constant == sign * other.constant and torch.equal(form.widened(wide), sign * other.widened(wide)):
                held[into] += sign**power * weight
                return
    column = torch.zeros(fields, dtype=torch.float64)
    column[into] = weight
    forms.append(form)
    weights.append(column)
