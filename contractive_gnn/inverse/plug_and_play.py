r"""Plug-and-Play: a denoiser in the place of a proximal map, with a certificate of convergence.

All of them reconstruct an image from ``y = Ax + noise`` with the data term ``f(x) = ½‖Ax − y‖²`` and a denoiser D at a
fixed noise level σ.

========================= ================================================== ====================================
class                     the step T                                         T is averaged where
========================= ================================================== ====================================
:class:`ProximalGradient` ``P ∘ D ∘ (I − γ∇f)``                              D is averaged, ``γ < 2/‖A‖²``
:class:`DouglasRachford`  ``(1 − β/2)I + (β/2) N ∘ (2 prox_{γf} − I)``       D is non-expansive, ``β < 2``
:class:`ADMM`             ``½(I + (2 prox_{γf} − I) ∘ N)``                   D is non-expansive
:class:`RepeatedDenoising` ``P ∘ D``                                         D is averaged
========================= ================================================== ====================================

P is the projection on a box, by default the range [0, 1] of the pixels, and ``N = P ∘ (2E − I)`` with
``E = (1 − λ)I + λD``, see :class:`~contractive_gnn.inverse.Resolvent`. The box is why a fixed point exists:
``P ∘ D ∘ (I − γ∇f)`` and ``N ∘ (2 prox_{γf} − I)`` are continuous and map the box, which is convex and compact, to
itself, so Brouwer's theorem applies, for whatever D was trained to do. Without it (``box=None``) a fixed point is known
where ``AᵀA ≥ m > 0``: then T is a contraction.

Sources: Venkatakrishnan, Bouman, Wohlberg (GlobalSIP 2013) for the idea; Sherry, Celledoni, Ehrhardt, Murari, Owren,
Schönlieb, *Designing stable neural networks using convex analysis and ODEs* (Physica D 2024), for averaged denoisers
made of gradient flows; Bauschke and Combettes for the theorems. Proofs: docs/theory.md, section "Averaged operators and
Plug-and-Play".
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from contractive_gnn.checks import check_real
from contractive_gnn.inverse.averaged import averagedness_of, composed, gradient_step, lipschitz_of
from contractive_gnn.inverse.convergence import ConvergenceCertificate, Factor, conclude
from contractive_gnn.inverse.denoisers import Clipped, OneLevel, Relaxed, Resolvent, check_box
from contractive_gnn.inverse.iteration import Iteration, Run, Stage, farthest, require_images
from contractive_gnn.inverse.physics import LinearPhysics

Box = tuple[float, float]
DATA, DENOISER = "data step", "denoiser"


class _PlugAndPlay(Iteration):
    """What the three methods share: a measurement, a denoiser, σ and the box."""

    def __init__(self, physics: LinearPhysics, denoiser: nn.Module, sigma: float | None, box: Box | None) -> None:
        super().__init__()
        if not isinstance(physics, LinearPhysics):
            raise TypeError(
                f"physics must be a LinearPhysics of contractive_gnn.inverse, got {type(physics).__name__}; for one of "
                "deepinv write from_deepinv(physics, size)"
            )
        _check_denoiser(denoiser, sigma)
        self.physics = physics
        self.sigma = None if sigma is None else float(sigma)
        self.box = None if box is None else check_box(box)

    def run(
        self,
        y: Tensor,
        *,
        steps: int = 100,
        start: Tensor | None = None,
        tolerance: float | None = None,
        track: Callable[[int, Tensor], object] | None = None,
    ) -> Run:
        """Reconstruct; without gradients.

        Every step checks in the norm of the certificate that ``‖x_{k+1} − x_k‖`` has not risen, where that is proved,
        and that it is below ``certificate.bound(k)``; both up to the errors of the data step and of rounding.

        Args:
            y: the measurements of n images.
            steps: the number of steps, or the most of them.
            start: x₀, ``[n, c, H, W]``; None for ``Aᵀy``, projected on the box.
            tolerance: stop once every relative residual ``‖x_{k+1} − x_k‖/‖x_{k+1}‖`` is at most that; None for never.
            track: called after each step with its number, from 0, and the image.

        Raises:
            ConvergenceError: the iteration did what its certificate excludes; it names the operator at fault.
            TypeError: for a y or a start that is no tensor.
            ValueError: for a start of another shape than ``Aᵀy``, no images, and entries that are not finite.
        """
        return self._follow(self._begin(y, start), y, steps=steps, tolerance=tolerance, track=track)

    def forward(self, y: Tensor, *, steps: int = 100) -> Tensor:
        """The image after ``steps`` steps."""
        return self.run(y, steps=steps).image

    @torch.no_grad()
    def _begin(self, y: Tensor, start: Tensor | None) -> Tensor:
        require_images("y", y)
        back = self.physics.adjoint(y)
        if start is None:
            return back if self.box is None else back.clamp(*self.box)
        require_images("start", start)
        if start.shape != back.shape:
            raise ValueError(f"start must have the shape {list(back.shape)} of Aᵀy, got {list(start.shape)}")
        return start.to(back)

    def _curvatures(self) -> tuple[float, float]:
        """Proved bounds of the eigenvalues of AᵀA; 0 and ``inf`` where nothing is proved."""
        if not self.physics.certified:
            return 0.0, math.inf
        return self.physics.curvature(), self.physics.squared_norm()


class ProximalGradient(_PlugAndPlay):
    r"""Proximal gradients: ``x ← P(D(x − γAᵀ(Ax − y)))``.

    With ``γ‖A‖² < 2`` the gradient step is ``γ‖A‖²/2``-averaged (Baillon and Haddad), D is α-averaged, P firmly
    non-expansive, and compositions of averaged maps are averaged.

    Args:
        physics: A, a :class:`~contractive_gnn.inverse.LinearPhysics`.
        denoiser: D, a module that is called as ``denoiser(x, sigma)``.
        sigma: the noise level that D removes, in the units of the pixels; None is passed on as it is.
        step: γ > 0; None for ``1/‖A‖²``. From 2/‖A‖² on nothing is proved, and the certificate says so.
        relaxation: λ, ``(1 − λ)I + λD`` takes the place of D; None for 1, and for 1/2 where D is only non-expansive.
        box: the range of the pixels that P projects on; None for no projection.

    Raises:
        TypeError: for a measurement or a denoiser that is none.
        ValueError: for numbers out of their range, and for no step where no norm is known.

    Example:
        >>> import torch
        >>> from contractive_gnn.inverse import Inpainting, ProximalGradient, Relaxed
        >>> class Blur(nn.Module):  # a local mean, which is non-expansive
        ...     certified = True
        ...     def averagedness(self):
        ...         return 1.0
        ...     def forward(self, x, sigma):
        ...         return (x + x.roll(1, -1) + x.roll(-1, -1)) / 3
        >>> x = torch.rand(1, 1, 8, 8)
        >>> physics = Inpainting(torch.rand(8, 8) < 0.7)
        >>> run = ProximalGradient(physics, Blur(), sigma=0.1).run(physics(x), steps=20)
        >>> run.certificate.certified, bool((run.residuals[1:] <= run.residuals[:-1] + 1e-4).all())
        (True, True)
    """

    def __init__(
        self,
        physics: LinearPhysics,
        denoiser: nn.Module,
        *,
        sigma: float | None,
        step: float | None = None,
        relaxation: float | None = None,
        box: Box | None = (0.0, 1.0),
    ) -> None:
        super().__init__(physics, denoiser, sigma, box)
        self.squared_norm = physics.squared_norm()
        if step is None:
            if not (0.0 < self.squared_norm < math.inf):
                raise ValueError(
                    f"no step is known where the bound of ‖A‖² is {self.squared_norm!r}: give step, in units of 1/‖A‖²"
                )
            step = 1.0 / self.squared_norm
        check_real("step", step, above=0)
        self.step = float(step)
        self.denoiser = _prepared(denoiser, relaxation, self.box)

    def certificate(self) -> ConvergenceCertificate:
        """What is proved, for every start and every measurement."""
        least, most = self._curvatures()
        data = _gradient_factor(self.step, least, most, self.physics.reason)
        own = _denoiser_factor(self.denoiser)
        alpha = None
        if data.averagedness is not None and own.averagedness is not None:
            alpha = composed(data.averagedness, own.averagedness)
        return conclude(
            "proximal gradient",
            (data, own),
            averagedness=alpha,
            contraction=_product(data.lipschitz, own.lipschitz),
            step=self.step,
            squared_norm=self.squared_norm,
            existence=_box_reason(self.box),
        )

    def _stages(self, state: Tensor, y: Tensor) -> list[Stage]:
        v = state - self.step * self.physics.gradient(state, y)
        return [Stage(DATA, v), Stage(DENOISER, self.denoiser(v, self.sigma))]

    def _image(self, state: Tensor, stages: list[Stage]) -> Tensor:
        return stages[-1].value

    def _distance(self, state: Tensor, y: Tensor, certificate: ConvergenceCertificate) -> float:
        return math.inf if self.box is None else farthest(state, self.box)


class DouglasRachford(_PlugAndPlay):
    r"""Douglas and Rachford's splitting: ``u = prox_{γf}(z)``, ``x = J(2u − z)``, ``z ← z + β(x − u)``.

    ``J = (I + N)/2`` is a firmly non-expansive denoiser made of D, see
    :class:`~contractive_gnn.inverse.Resolvent`: D itself where it is firmly non-expansive and the reflection
    stays inside the box. In the state z the step is ``(1 − β/2)I + (β/2) N ∘ (2 prox_{γf} − I)``, which is
    β/2-averaged: both reflections are non-expansive. The reconstruction is x.

    Args:
        physics: as in :class:`ProximalGradient`.
        denoiser: the same.
        sigma: the same.
        step: γ > 0, of any size.
        beta: β in (0, 2], the relaxation; at 2 the step is non-expansive and not averaged.
        relaxation: λ of the resolvent; None for the largest that is proved to do, ``min(1, 1/(2α))``.
        box: of the resolvent, for the state z; None for no projection.
    """

    def __init__(
        self,
        physics: LinearPhysics,
        denoiser: nn.Module,
        *,
        sigma: float | None,
        step: float = 1.0,
        beta: float = 1.0,
        relaxation: float | None = None,
        box: Box | None = (0.0, 1.0),
    ) -> None:
        super().__init__(physics, denoiser, sigma, box)
        check_real("step", step, above=0)
        check_real("beta", beta, above=0, most=2)
        self.step, self.beta = float(step), float(beta)
        self.weight = 0.5 * self.beta
        self.denoiser = Resolvent(denoiser, relaxation, box=self.box)

    def certificate(self) -> ConvergenceCertificate:
        """What is proved, for every start and every measurement."""
        data = _reflection_factor(self.physics, self.step, *self._curvatures())
        own = _resolvent_factor(self.denoiser)
        proved = data.averagedness is not None and own.averagedness is not None
        stretch = _product(data.lipschitz, own.lipschitz)
        return conclude(
            "Douglas and Rachford" if type(self) is DouglasRachford else "ADMM",
            (data, own),
            averagedness=self.weight if proved else None,
            contraction=(1.0 - self.weight) + self.weight * stretch if stretch < 1.0 else stretch,
            step=self.step,
            squared_norm=self.physics.squared_norm(),
            existence=_box_reason(self.box),
        )

    def _stages(self, state: Tensor, y: Tensor) -> list[Stage]:
        solution = self.physics.prox(state, y, self.step)
        v = 2.0 * solution.image - state
        return [Stage(DATA, v, 2.0 * solution.error), Stage(DENOISER, self.denoiser.reflected(v, self.sigma))]

    def _image(self, state: Tensor, stages: list[Stage]) -> Tensor:
        return 0.5 * (stages[0].value + stages[1].value)

    def _distance(self, state: Tensor, y: Tensor, certificate: ConvergenceCertificate) -> float:
        # a fixed point is a value of N, so it lies in the box
        return math.inf if self.box is None else farthest(state, self.box)


class ADMM(DouglasRachford):
    r"""The alternating direction method: ``u = prox_{γf}(x − z)``, ``x = J(u + z)``, ``z ← z + u − x``.

    With the state ``w = u + z``, of which ``x = J(w)`` and ``z = w − x`` follow, the step is
    ``w ← w + prox_{γf}(2x − w) − x``, that is ``½(I + (2 prox_{γf} − I) ∘ N)``: Douglas and Rachford's with the two
    operators exchanged, 1/2-averaged. The dual variable is not over-relaxed.

    Args:
        physics: as in :class:`ProximalGradient`.
        denoiser: the same.
        sigma: the same.
        step: γ > 0, of any size.
        relaxation: as in :class:`DouglasRachford`.
        box: as there, for ``N(w)``.
    """

    def __init__(
        self,
        physics: LinearPhysics,
        denoiser: nn.Module,
        *,
        sigma: float | None,
        step: float = 1.0,
        relaxation: float | None = None,
        box: Box | None = (0.0, 1.0),
    ) -> None:
        super().__init__(physics, denoiser, sigma=sigma, step=step, relaxation=relaxation, box=box)

    def run(
        self,
        y: Tensor,
        *,
        steps: int = 100,
        start: Tensor | None = None,
        dual: Tensor | None = None,
        tolerance: float | None = None,
        track: Callable[[int, Tensor], object] | None = None,
    ) -> Run:
        """Reconstruct; see :meth:`ProximalGradient.run`.

        Args:
            y: the measurements.
            steps: their number.
            start: x₀.
            dual: z₀, of the same shape; None for 0. deepinv starts at ``x₀ = z₀ = Aᵀy``.
            tolerance: as there.
            track: as there.
        """
        x = self._begin(y, start)
        if dual is not None:
            require_images("dual", dual)
        z = torch.zeros_like(x) if dual is None else dual.to(x)
        if z.shape != x.shape:
            raise ValueError(f"dual must have the shape {list(x.shape)} of the image, got {list(z.shape)}")
        with torch.no_grad():
            state = self.physics.prox(x - z, y, self.step).image + z
        return self._follow(state, y, steps=steps, tolerance=tolerance, track=track)

    def _stages(self, state: Tensor, y: Tensor) -> list[Stage]:
        reflected = self.denoiser.reflected(state, self.sigma)
        solution = self.physics.prox(reflected, y, self.step)
        return [Stage(DENOISER, reflected), Stage(DATA, 2.0 * solution.image - reflected, 2.0 * solution.error)]

    def _image(self, state: Tensor, stages: list[Stage]) -> Tensor:
        return 0.5 * (state + stages[0].value)

    def _distance(self, state: Tensor, y: Tensor, certificate: ConvergenceCertificate) -> float:
        if self.box is None or certificate.averagedness is None:
            return math.inf
        # A fixed point is R(z*) with the reflection R of the data term and z* in the box; R is non-expansive.
        near = state.clamp(*self.box)
        solution = self.physics.prox(near, y, self.step)
        error = 2.0 * float(solution.error.max())
        gap = (2.0 * solution.image - near - state).flatten(1).to(torch.float64).norm(dim=1)
        return float(gap.max()) + error + farthest(near, self.box)


class RepeatedDenoising(Iteration):
    """``x ← P(D(x))``: one denoiser again and again.

    Args:
        denoiser: D, called as ``denoiser(x, sigma)``.
        sigma: as in :class:`ProximalGradient`.
        relaxation: the same.
        box: the same. Without a box a fixed point is known for a contraction, and where one is given to :meth:`run`.
    """

    def __init__(
        self,
        denoiser: nn.Module,
        *,
        sigma: float | None,
        relaxation: float | None = None,
        box: Box | None = (0.0, 1.0),
    ) -> None:
        super().__init__()
        _check_denoiser(denoiser, sigma)
        self.sigma = None if sigma is None else float(sigma)
        self.box = None if box is None else check_box(box)
        self.denoiser = _prepared(denoiser, relaxation, self.box)
        self._fixed: Tensor | None = None

    def certificate(self) -> ConvergenceCertificate:
        """What is proved, for every start."""
        own = _denoiser_factor(self.denoiser)
        existence = _box_reason(self.box) or ("" if self._fixed is None else "it was given, and tried")
        return conclude(
            "repeated denoising",
            (own,),
            averagedness=own.averagedness,
            contraction=own.lipschitz,
            step=None,
            squared_norm=None,
            existence=existence,
        )

    def run(
        self,
        x: Tensor,
        *,
        steps: int = 100,
        fixed_point: Tensor | None = None,
        tolerance: float | None = None,
        track: Callable[[int, Tensor], object] | None = None,
    ) -> Run:
        """Denoise an image again and again; see :meth:`ProximalGradient.run`.

        Args:
            x: the start, ``[n, c, H, W]``.
            steps: their number.
            fixed_point: an image of the shape of x that D does not change, where one is known: 0 where all biases are 0
                and ``σ(0) = 0``, or what :meth:`contractive_gnn.nn.images.GradientFlowDenoiser.fixed_point` says. It is
                tried, up to the rounding of one pixel.
            tolerance: as there.
            track: as there.

        Raises:
            ValueError: D does change the fixed point; for no images, and entries that are not finite.
            ConvergenceError: as there.
        """
        require_images("x", x)
        if fixed_point is None:
            return self._follow(x, x, steps=steps, tolerance=tolerance, track=track)
        fixed = fixed_point.to(x).expand_as(x)
        with torch.no_grad():
            change = float((self.denoiser(fixed, self.sigma) - fixed).abs().max())
        if change > 8 * torch.finfo(x.dtype).eps * max(1.0, float(fixed.abs().max())):
            raise ValueError(f"fixed_point is none: the denoiser changes it by up to {change:.3g}")
        self._fixed = fixed  # of this run alone: the weights may move after it
        try:
            return self._follow(x, x, steps=steps, tolerance=tolerance, track=track)
        finally:
            self._fixed = None

    def _stages(self, state: Tensor, y: Tensor) -> list[Stage]:
        return [Stage(DENOISER, self.denoiser(state, self.sigma))]

    def _image(self, state: Tensor, stages: list[Stage]) -> Tensor:
        return stages[-1].value

    def _distance(self, state: Tensor, y: Tensor, certificate: ConvergenceCertificate) -> float:
        box = math.inf if self.box is None else farthest(state, self.box)
        if self._fixed is None:
            return box
        return min(box, float((state - self._fixed).flatten(1).to(torch.float64).norm(dim=1).max()))


def _box_reason(box: Box | None) -> str:
    """Why there is a fixed point with a box; empty without one."""
    return "" if box is None else f"the box [{box[0]:g}, {box[1]:g}] is convex, compact and mapped to itself (Brouwer)"


def _check_denoiser(denoiser: object, sigma: object) -> None:
    if not isinstance(denoiser, nn.Module):
        raise TypeError(f"denoiser must be a module called as denoiser(x, sigma), got {type(denoiser).__name__}")
    if sigma is not None:
        check_real("sigma", sigma, least=0)


def _prepared(denoiser: nn.Module, relaxation: float | None, box: Box | None) -> nn.Module:
    """D with its relaxation and its projection."""
    if relaxation is None:
        relaxation = 0.5 if averagedness_of(denoiser)[0] == 1.0 and lipschitz_of(denoiser) >= 1.0 else 1.0
    if relaxation != 1.0:
        denoiser = Relaxed(denoiser, relaxation)
    return denoiser if box is None else Clipped(denoiser, box)


def _product(first: float, second: float) -> float:
    """Of two constants, rounded up; an unknown one is no help, however small the other is."""
    return math.inf if math.isinf(first) or math.isinf(second) else first * second * (1.0 + 2.0**-50)


def _denoiser_factor(denoiser: nn.Module) -> Factor:
    inner, notes = denoiser, []
    while isinstance(inner, (Clipped, Relaxed)):
        if isinstance(inner, Clipped):
            notes.append(f"projected on [{inner.box[0]:g}, {inner.box[1]:g}]")
        else:
            notes.append(f"relaxed by {inner.weight:g}")
        inner = inner.inner
    alpha, known = averagedness_of(denoiser)[0], averagedness_of(inner)[1]
    if alpha is None:
        return Factor(DENOISER, None, math.inf, known)
    if notes:
        known = ", ".join([known, *reversed(notes)]) + f": {alpha:.6g}-averaged"
    return Factor(DENOISER, alpha, min(1.0, _constant(denoiser)), known)


def _constant(denoiser: nn.Module) -> float:
    """The Lipschitz constant through relaxations and projections."""
    if isinstance(denoiser, (Clipped, OneLevel)):
        return _constant(denoiser.inner)
    if isinstance(denoiser, Relaxed):
        return (1.0 - denoiser.weight) + denoiser.weight * _constant(denoiser.inner)
    return lipschitz_of(denoiser)


def _gradient_factor(step: float, least: float, most: float, doubt: str) -> Factor:
    if math.isinf(most):
        return Factor(DATA, None, math.inf, doubt or "no bound of ‖A‖² is known")
    # the eigenvalues of the step are 1 − γλ with λ between the two bounds
    stretch = max(abs(1.0 - step * least), abs(1.0 - step * most)) * (1.0 + 2.0**-50)
    if step * most > 2.0:
        return Factor(
            DATA,
            None,
            stretch,
            f"the step {step:.6g} is beyond 2/‖A‖² = {2.0 / most:.6g}, and the gradient step expands",
        )
    alpha = gradient_step(step, most)
    stretch = min(stretch, 1.0)
    if alpha == 1.0:
        return Factor(DATA, 1.0, stretch, "γ‖A‖² = 2: the gradient step is non-expansive, not averaged")
    return Factor(DATA, alpha, stretch, f"γ‖A‖² = {step * most:.6g} < 2: {alpha:.6g}-averaged (Baillon and Haddad)")


def _reflection_factor(physics: LinearPhysics, step: float, least: float, most: float) -> Factor:
    if not physics.certified:
        return Factor(DATA, None, math.inf, physics.reason or "its adjoint is not proved")
    # the eigenvalues of the reflection are (1 − γλ)/(1 + γλ), decreasing in λ
    low = (1.0 - step * least) / (1.0 + step * least)
    high = -1.0 if math.isinf(most) else (1.0 - step * most) / (1.0 + step * most)
    stretch = min(1.0, max(abs(low), abs(high)) * (1.0 + 2.0**-50))
    return Factor(DATA, 1.0, stretch, "f is convex, so the reflection 2 prox − I is non-expansive")


def _resolvent_factor(denoiser: Resolvent) -> Factor:
    doubt = denoiser.doubt()
    if doubt:
        return Factor(DENOISER, None, math.inf, doubt)
    known = averagedness_of(denoiser.inner)[1]
    return Factor(
        DENOISER, 1.0, 1.0, f"{known}, λ = {denoiser.weight:.6g}: the reflection of the resolvent is non-expansive"
    )
