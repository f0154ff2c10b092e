"""The library's denoiser in the iterations, in single precision, as it is used."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from contractive_gnn.inverse import (
    ADMM,
    Convolution,
    DouglasRachford,
    Fourier,
    Inpainting,
    LinearPhysics,
    ProximalGradient,
    RepeatedDenoising,
    gaussian_kernel,
    residual_bound,
)
from contractive_gnn.nn.images import GradientFlowDenoiser

SIZE = (32, 32)
SIGMA = 15 / 255


@pytest.fixture
def denoiser() -> GradientFlowDenoiser:
    """With weights far from their start."""
    made = GradientFlowDenoiser(filters=8, scales=(1, 2, 1), step=1.0)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    return made.eval()


def physics() -> dict[str, LinearPhysics]:
    generator = torch.Generator().manual_seed(0)
    return {
        "inpainting": Inpainting(torch.rand(SIZE, generator=generator) < 0.5),
        "deblurring": Convolution(gaussian_kernel(1.6, 9), size=SIZE),
        "MRI": Fourier(torch.rand(SIZE, generator=generator) < 0.4),
    }


@pytest.mark.parametrize("name", ["inpainting", "deblurring", "MRI"])
@pytest.mark.parametrize("method", [ProximalGradient, DouglasRachford, ADMM])
def test_it_is_certified_and_does_what_the_certificate_says(
    method: Any, name: str, denoiser: GradientFlowDenoiser
) -> None:
    measurement = physics()[name]
    x = torch.rand(2, 1, *SIZE)
    y = measurement(x)
    run = method(measurement, denoiser, sigma=SIGMA, step=1.0).run(y, steps=200)
    certificate = run.certificate
    assert certificate.certified
    assert 0.4 < certificate.averagedness < 1
    assert bool((run.residuals[1:] <= run.residuals[:-1] + 2 * run.error).all())
    assert bool((run.residuals.max(dim=1).values <= run.bounds()).all())
    assert float(run.residuals[-1].max()) < 0.25 * float(run.residuals[0].max())


def test_repeated_denoising_ends_at_a_fixed_point(denoiser: GradientFlowDenoiser) -> None:
    x = torch.rand(2, 1, *SIZE)
    run = RepeatedDenoising(denoiser, sigma=SIGMA, box=None).run(x, steps=500, fixed_point=denoiser.fixed_point(x))
    assert run.certificate.certified
    assert run.certificate.averagedness == denoiser.averagedness()
    assert bool((run.residuals[1:] <= run.residuals[:-1] + 2 * run.error).all())
    last = residual_bound(denoiser.averagedness(), run.certificate.distance, 499, error=run.error)
    assert float(run.residuals[-1].max()) <= last


def test_in_training_mode_nothing_is_said_where_it_may_expand() -> None:
    denoiser = GradientFlowDenoiser(filters=8, scales=(1, 1)).train()
    certificate = ProximalGradient(physics()["MRI"], denoiser, sigma=SIGMA).certificate()
    if denoiser.averagedness() > 1:
        assert not certificate.certified
        assert "eval()" in certificate.reason
    else:
        assert certificate.certified
    assert ProximalGradient(physics()["MRI"], denoiser.eval(), sigma=SIGMA).certificate().certified
