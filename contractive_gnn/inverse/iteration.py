"""The loop ``x_{k+1} = Tx_k`` of all methods, which watches what was proved."""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from contractive_gnn.checks import check_real, check_whole
from contractive_gnn.inverse.convergence import ConvergenceCertificate, ConvergenceError
from contractive_gnn.nn.parametrizations import computed_once

ROUNDING = 64  # units in the last place of the state's norm that one step may err by


@dataclass(frozen=True)
class Stage:
    """The value after one operator of a step.

    Attributes:
        name: of the operator.
        value: its output.
        error: an upper bound of the error that it was computed with, for each image ``[n]``; None for rounding alone.
    """

    name: str
    value: Tensor
    error: Tensor | None = None


@dataclass(frozen=True)
class Run:
    """What an iteration did.

    Attributes:
        image: the last reconstruction, ``[n, c, H, W]``: the last output of the denoiser.
        state: the last x_k of the theory, of the same shape; another tensor for Douglas and Rachford and for ADMM.
        residuals: ``‖x_{k+1} − x_k‖`` of the states, for each step and image, ``[steps, n]`` in float64.
        relative: the same, divided by ``‖x_{k+1}‖``.
        certificate: with the distance and the first residual of this run.
        error: the largest error that is allowed for in one step, in the norm of the state.
        stopped: why it ended before its last step; empty otherwise.
    """

    image: Tensor
    state: Tensor
    residuals: Tensor
    relative: Tensor
    certificate: ConvergenceCertificate
    error: float
    stopped: str = ""

    def bounds(self) -> Tensor:
        """``certificate.bound(k)`` for every step that was taken, with the errors of the steps, ``[steps]``."""
        return torch.tensor(
            [self.certificate.bound(k, error=self.error) for k in range(len(self.residuals))], dtype=torch.float64
        )


class Iteration(nn.Module, ABC):
    """``x_{k+1} = (1 − θ)x_k + θ S(x_k)`` with ``S = S_m ∘ … ∘ S_1``: a subclass says what the stages are.

    Attributes:
        weight: θ in (0, 1].
        box: the box that the denoiser projects on, None without one.
    """

    weight: float = 1.0
    box: tuple[float, float] | None = None

    @abstractmethod
    def certificate(self) -> ConvergenceCertificate:
        """What is proved, for every start and every measurement."""

    @abstractmethod
    def _stages(self, state: Tensor, y: Tensor) -> list[Stage]:
        """The values after each of the operators ``S_1, …, S_m``."""

    @abstractmethod
    def _image(self, state: Tensor, stages: list[Stage]) -> Tensor:
        """The reconstruction of a step: the output of the denoiser in it."""

    @abstractmethod
    def _distance(self, state: Tensor, y: Tensor, certificate: ConvergenceCertificate) -> float:
        """An upper bound of the distance of a state to some fixed point, of every image; ``inf`` for none."""

    def _next(self, state: Tensor, stages: list[Stage]) -> Tensor:
        last = stages[-1].value
        return last if self.weight == 1.0 else torch.lerp(state, last, self.weight)

    @torch.no_grad()
    def _follow(
        self,
        state: Tensor,
        y: Tensor,
        *,
        steps: int,
        tolerance: float | None,
        track: Callable[[int, Tensor], object] | None,
    ) -> Run:
        """Take the steps; see :meth:`contractive_gnn.inverse.ProximalGradient.run`."""
        with computed_once(self):
            return self._followed(state, y, steps=steps, tolerance=tolerance, track=track)

    def _followed(
        self,
        state: Tensor,
        y: Tensor,
        *,
        steps: int,
        tolerance: float | None,
        track: Callable[[int, Tensor], object] | None,
    ) -> Run:
        check_whole("steps", steps, least=1)
        if tolerance is not None:
            check_real("tolerance", tolerance, least=0)
        require_images("the start", state)
        certificate = self.certificate()
        certificate = dataclasses.replace(certificate, distance=self._distance(state, y, certificate))
        residuals: list[Tensor] = []
        relative: list[Tensor] = []
        worst, stopped, before = 0.0, "", state
        image = state
        eps = torch.finfo(state.dtype).eps
        for k in range(steps):
            stages = self._stages(state, y)
            image = self._image(state, stages)
            after = self._next(state, stages)
            residual, size = _norms(after - state), _norms(after)
            error = ROUNDING * eps * torch.maximum(size, _norms(state))
            for stage in stages:
                if stage.error is not None:
                    error = error + self.weight * stage.error.to(error)
            if not bool(torch.isfinite(residual).all()):
                if certificate.monotone:
                    raise ConvergenceError(self._diagnosis(k, before, state, y, "the state is not finite"))
                stopped = f"step {k + 1} has entries that are not finite"
                break
            worst = max(worst, float(error.max()))
            if k == 0 and certificate.contraction < 1.0:
                certificate = _with_first(certificate, float(residual.max()))
            if certificate.monotone and residuals and bool((residual > residuals[-1] + 2.0 * error).any()):
                where = int((residual - residuals[-1]).argmax())
                what = f"the residual of image {where} rose from {residuals[-1][where]:.6g} to {residual[where]:.6g}"
                raise ConvergenceError(self._diagnosis(k, before, state, y, what))
            bound = certificate.bound(k, error=worst)
            if certificate.certified and float(residual.max()) > bound:
                what = f"the residual {float(residual.max()):.6g} exceeds its bound {bound:.6g}"
                raise ConvergenceError(self._diagnosis(k, before, state, y, what))
            residuals.append(residual)
            relative.append(residual / size.clamp(min=torch.finfo(torch.float64).tiny))
            if track is not None:
                track(k, image)
            before, state = state, after
            if tolerance is not None and bool((relative[-1] <= tolerance).all()):
                stopped = f"all relative residuals are at most {tolerance:g} after step {k + 1}"
                break
        n = state.shape[:1]
        return Run(
            image=image,
            state=state,
            residuals=torch.stack(residuals) if residuals else torch.zeros(0, *n, dtype=torch.float64),
            relative=torch.stack(relative) if relative else torch.zeros(0, *n, dtype=torch.float64),
            certificate=certificate,
            error=worst,
            stopped=stopped,
        )

    def _diagnosis(self, k: int, before: Tensor, state: Tensor, y: Tensor, what: str) -> str:
        """Which operator stretched the difference of the last two states beyond its declared constant."""
        factors = {factor.name: factor for factor in self.certificate().factors}
        blame, found = "", 0.0
        names = ["state"]
        values = [(before, state)]
        for old, new in zip(self._stages(before, y), self._stages(state, y), strict=True):
            names.append(old.name)
            values.append((old.value, new.value))
        differences = [float(_norms(new - old).max()) for old, new in values]
        for name, start, end in zip(names[1:], differences, differences[1:], strict=False):
            ratio = end / start if start > 0 else math.inf
            declared = min(1.0, factors[name].lipschitz)
            if not ratio <= max(found, declared * (1 + 1e-4)):
                blame, found = name, ratio
        text = f"{type(self).__name__}, step {k + 1}: {what}, which the certificate excludes. "
        if not blame:
            return text + "No operator stretched the last difference: a prox, the rounding or the state is at fault."
        return text + (
            f"The {blame} moved two states {found:.6g} times as far apart as they were; declared is "
            f"{factors[blame].reason}. Its declaration is wrong."
        )


def require_images(name: str, x: object) -> None:
    """Raise unless it is a batch of at least one image or measurement, of finite numbers, real or complex.

    Raises:
        TypeError: it is no tensor.
        ValueError: it is empty, of whole numbers, or not finite: no operator is to blame for what comes of it.
    """
    if not isinstance(x, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(x).__name__}")
    if not (x.is_floating_point() or x.is_complex()) or x.numel() == 0:
        raise ValueError(f"{name} must hold at least one image of floating numbers, got {x.dtype} {list(x.shape)}")
    if not bool(torch.isfinite(x).all()):
        raise ValueError(f"{name} has entries that are not finite")


def farthest(state: Tensor, box: tuple[float, float]) -> float:
    """The largest distance of a state to a point of the box, of every image of the batch: ``√n`` at most inside."""
    low, high = box
    wide = state.to(torch.float64)
    return float(_norms(torch.maximum((wide - low).abs(), (high - wide).abs())).max())


def _with_first(certificate: ConvergenceCertificate, first: float) -> ConvergenceCertificate:
    """With the first residual: the fixed point of a contraction is at most ``first/(1 − q)`` away."""
    distance = min(certificate.distance, first / (1.0 - certificate.contraction))
    return dataclasses.replace(certificate, first=first, distance=distance)


def _norms(x: Tensor) -> Tensor:
    """The norm of each image, ``[n]`` in float64."""
    norms: Tensor = torch.linalg.vector_norm(x.flatten(1), dim=1, dtype=torch.float64)
    return norms
