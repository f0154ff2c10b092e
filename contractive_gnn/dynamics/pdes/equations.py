"""Partial differential equations on a grid, as polynomials in stencils."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch

from contractive_gnn.checks import check_real
from contractive_gnn.dynamics.pdes.polynomial import AffineForm, Product, StencilPolynomial, of_stencil, point
from contractive_gnn.integrators import Invariant
from contractive_gnn.operators import Stencil
from contractive_gnn.operators.walls import Boundary

Spacing = float | Sequence[float]


def heat(
    size: Sequence[int],
    *,
    alpha: float,
    spacing: Spacing = 1.0,
    boundary: Boundary = "periodic",
    order: int = 2,
) -> StencilPolynomial:
    """``u_t = αΔu``. It keeps the mass on a periodic grid and with Neumann's walls, where columns of Δ sum to 0.

    Args:
        size: ``(N₁, …, N_d)``.
        alpha: α > 0, in unit of length squared per unit of time.
        spacing: distance of two points, one for all axes or one for each, in the unit of length.
        boundary: see :mod:`contractive_gnn.operators.walls`.
        order: of the differences, 2, 4 or 6.
    """
    check_real("alpha", alpha, above=0)
    laplacian = _laplacian(size, spacing, boundary, order)
    form = of_stencil(laplacian, factor=alpha)
    return StencilPolynomial("heat", laplacian.size, boundary, 1, (Product(0, 1.0, (form,)),), _mass(boundary))


def advection(
    size: Sequence[int],
    *,
    speed: Sequence[float],
    spacing: Spacing = 1.0,
    boundary: Boundary = "periodic",
    order: int = 2,
) -> StencilPolynomial:
    r"""``u_t + ⟨c, ∇u⟩ = 0`` by central differences, which on a periodic grid are skew-symmetric.

    There it keeps mass and norm, and the volume. Euler's steps do not keep the norm, and grow without bound.

    Args:
        size: as in :func:`heat`.
        speed: c, a number for each axis, in unit of length per unit of time.
        spacing: as there.
        boundary: as there.
        order: as there.

    Raises:
        ValueError: for another number of speeds.
    """
    spacings = _spacings(spacing, size)
    if len(speed) != len(size):
        raise ValueError(f"speed must be a number for each of {len(size)} axes, got {speed!r}")
    form: AffineForm | None = None
    for axis, (c, h) in enumerate(zip(speed, spacings, strict=True)):
        check_real("speed", c)
        part = of_stencil(_derivative(size, axis, h, boundary, order), factor=-c)
        form = part if form is None else form.plus(part)
    assert form is not None
    kept = frozenset[Invariant]({"mass", "norm", "volume"} if boundary == "periodic" else set())
    return StencilPolynomial("advection", tuple(size), boundary, 1, (Product(0, 1.0, (form,)),), kept)


def fisher(
    size: Sequence[int],
    *,
    alpha: float,
    spacing: Spacing = 1.0,
    boundary: Boundary = "periodic",
    order: int = 2,
) -> StencilPolynomial:
    """``u_t = αΔu + u(1 − u)`` (Fisher 1937; Kolmogorov, Petrovsky, Piskunov 1937). Arguments as in :func:`heat`."""
    check_real("alpha", alpha, above=0)
    laplacian = _laplacian(size, spacing, boundary, order)
    u = point(size)
    linear = of_stencil(laplacian, factor=alpha).plus(u)
    products = (Product(0, 1.0, (linear,)), Product(0, -1.0, (u, u)))
    return StencilPolynomial("fisher", laplacian.size, boundary, 1, products)


def burgers(
    size: Sequence[int],
    *,
    viscosity: float,
    spacing: Spacing = 1.0,
    order: int = 2,
) -> StencilPolynomial:
    r"""``u_t + Σ_a u ∂_a u = νΔu`` for one scalar u on a periodic grid, with the skew-symmetric form of the transport.

    With D the central difference along an axis, ``u ∂u = (∂u² + u∂u)/3`` becomes ``(D(u²) + u Du)/3``. Since D is
    skew, ``⟨1, D(u²) + u Du⟩ = ⟨u, Du⟩ = 0`` and ``⟨u, D(u²) + u Du⟩ = −⟨Du, u²⟩ + ⟨u², Du⟩ = 0``: it keeps the mass,
    and without viscosity the norm.

    Args:
        size: as in :func:`heat`.
        viscosity: ν ≥ 0, in unit of length squared per unit of time.
        spacing: as there.
        order: as there.
    """
    check_real("viscosity", viscosity, least=0)
    spacings = _spacings(spacing, size)
    u = point(size)
    products = []
    for axis, h in enumerate(spacings):
        derivative = _derivative(size, axis, h, "periodic", order)
        products.append(Product(0, -1 / 3, (u, of_stencil(derivative))))
        weights = derivative.kernel.flatten()
        for place, weight in enumerate(weights.tolist()):
            if weight:
                shift = [0] * len(size)
                shift[axis] = place - len(weights) // 2
                near = point(size, shift=shift)
                products.append(Product(0, -weight / 3, (near, near)))
    kept = frozenset[Invariant]({"mass", "norm"})
    if viscosity:
        laplacian = _laplacian(size, spacing, "periodic", order)
        products.append(Product(0, 1.0, (of_stencil(laplacian, factor=viscosity),)))
        kept = kept - {"norm"}
    return StencilPolynomial("burgers", tuple(size), "periodic", 1, tuple(products), kept)


def gray_scott(
    size: Sequence[int],
    *,
    diffusion: tuple[float, float] = (2e-5, 1e-5),
    feed: float = 0.04,
    kill: float = 0.06,
    spacing: Spacing = 1.0,
    boundary: Boundary = "periodic",
    order: int = 2,
) -> StencilPolynomial:
    r"""``u_t = D_uΔu − uv² + F(1 − u)``, ``v_t = D_vΔv + uv² − (F + k)v`` (Gray and Scott 1984; Pearson 1993).

    The fields are u and v, in this order.

    Args:
        size: as in :func:`heat`.
        diffusion: ``(D_u, D_v)``, both positive, in unit of length squared per unit of time.
        feed: F ≥ 0, per unit of time.
        kill: k ≥ 0, per unit of time.
        spacing: as there.
        boundary: as there.
        order: as there.
    """
    for value in diffusion:
        check_real("diffusion", value, above=0)
    check_real("feed", feed, least=0)
    check_real("kill", kill, least=0)
    laplacian = _laplacian(size, spacing, boundary, order)
    u, v = (point(size, field=field, fields=2) for field in range(2))
    decays = (feed, feed + kill)
    linear = [
        of_stencil(laplacian, field=field, fields=2, factor=diffusion[field]).plus(value, -decays[field])
        for field, value in enumerate((u, v))
    ]
    products = (
        Product(0, 1.0, (AffineForm(linear[0].kernel, feed),)),
        Product(0, -1.0, (u, v, v)),
        Product(1, 1.0, (linear[1],)),
        Product(1, 1.0, (u, v, v)),
    )
    return StencilPolynomial("gray-scott", laplacian.size, boundary, 2, products)


def _laplacian(size: Sequence[int], spacing: Spacing, boundary: Boundary, order: int) -> Stencil:
    return Stencil.laplacian(size, spacing=spacing, boundary=boundary, order=order, dtype=torch.float64)


def _derivative(size: Sequence[int], axis: int, spacing: float, boundary: Boundary, order: int) -> Stencil:
    return Stencil.central_difference(
        size, axis=axis, spacing=spacing, boundary=boundary, order=order, dtype=torch.float64
    )


def _spacings(spacing: Spacing, size: Sequence[int]) -> list[float]:
    spacings = list(spacing) if isinstance(spacing, Sequence) else list(itertools.repeat(spacing, len(size)))
    if len(spacings) != len(size):
        raise ValueError(f"spacing must be one number, or one for each of {len(size)} axes, got {spacing!r}")
    return spacings


def _mass(boundary: Boundary) -> frozenset[Invariant]:
    return frozenset[Invariant]({"mass"} if boundary in ("periodic", "neumann") else set())
