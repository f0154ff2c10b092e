"""Our denoisers in deepinv's optimisers."""

from __future__ import annotations

import functools
from typing import Any

from torch import Tensor, nn

from contractive_gnn.checks import check_real
from contractive_gnn.extras import needs


def as_deepinv(denoiser: nn.Module, *, sigma: float | None = None) -> Any:
    """A denoiser as a ``deepinv.models.Denoiser``, for ``deepinv.optim.prior.PnP`` and whatever else takes one.

    deepinv calls it as ``denoiser(x, sigma)``, with ``sigma=None`` where ``params_algo`` (or the argument) has no
    ``sigma_denoiser``. To run in deepinv what :class:`~contractive_gnn.inverse.ProximalGradient` certifies, hand over
    its ``denoiser``, which holds the relaxation and the projection on the box:
    ``PnP(as_deepinv(method.denoiser, sigma=method.sigma))``.

    Args:
        denoiser: a module called as ``denoiser(x, sigma)``; it is not copied.
        sigma: the noise level where deepinv gives none, in the units of the pixels.

    Raises:
        MissingExtraError: deepinv is not installed.
        TypeError: for something that is no module.
        ValueError: (called) for no noise level at all.

    Example:
        >>> from contractive_gnn.inverse import ProximalGradient
        >>> method = ProximalGradient(physics, denoiser, sigma=0.05)  # doctest: +SKIP
        >>> prior = deepinv.optim.prior.PnP(as_deepinv(method.denoiser, sigma=0.05))  # doctest: +SKIP
    """
    if not isinstance(denoiser, nn.Module):
        raise TypeError(f"denoiser must be a module called as denoiser(x, sigma), got {type(denoiser).__name__}")
    if sigma is not None:
        check_real("sigma", sigma, least=0)
    return _class()(denoiser, sigma)


@functools.cache
def _class() -> type[nn.Module]:
    with needs("inverse", "a denoiser of deepinv"):
        from deepinv.models import Denoiser

    class AveragedDenoiser(Denoiser):  # type: ignore[misc]  # it has no types
        """A denoiser of this library for deepinv.

        Attributes:
            denoiser: the denoiser.
            sigma: the noise level where none is given.
        """

        def __init__(self, denoiser: nn.Module, sigma: float | None) -> None:
            super().__init__()
            self.denoiser = denoiser
            self.sigma = sigma

        def forward(self, x: Tensor, sigma: float | Tensor | None = None, **kwargs: object) -> Tensor:
            """``D(x)`` at the noise level ``sigma``."""
            if kwargs:
                raise TypeError(f"unknown arguments {', '.join(kwargs)}: a denoiser takes x and sigma")
            sigma = self.sigma if sigma is None else sigma
            if sigma is None:
                raise ValueError(
                    "no noise level: deepinv passes sigma=None where there is no 'sigma_denoiser' among the parameters "
                    "of the algorithm; give it there, or a default as as_deepinv(denoiser, sigma=...)"
                )
            if isinstance(sigma, Tensor) and sigma.numel() == 1:
                sigma = float(sigma)
            out: Tensor = self.denoiser(x, sigma)
            return out

        def __reduce__(self) -> tuple[Any, ...]:
            """By the function that made it: the class has no name in a module."""
            return _restored, (self.denoiser, self.sigma, self.training)

    return AveragedDenoiser


def _restored(denoiser: nn.Module, sigma: float | None, training: bool) -> nn.Module:
    module: nn.Module = as_deepinv(denoiser, sigma=sigma)
    return module.train(training)
