"""Beside deepinv: its measurements in our iterations, our denoisers in its optimisers, and the same numbers."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from contractive_gnn.inverse import (
    ADMM,
    DouglasRachford,
    ProximalGradient,
    adjoint_defect,
    as_deepinv,
    from_deepinv,
)

deepinv = pytest.importorskip("deepinv")
Make = Callable[..., nn.Module]
N = 16
GREY, COMPLEX = (1, N, N), (2, N, N)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def mask(*size: int) -> Tensor:
    return (torch.rand(size, generator=generator()) < 0.6).float()


def kernel(deviation: float = 1.0) -> Tensor:
    made: Tensor = deepinv.physics.functional.gaussian_blur(sigma=(deviation, deviation))
    return made


def signed() -> Tensor:
    return torch.randn(1, 1, 3, 3, generator=generator())


#: name: how it is built, the size of an image, the largest factor of its bound
PROVED: dict[str, tuple[Callable[[], Any], tuple[int, int, int], float]] = {
    "Denoising": (lambda: deepinv.physics.Denoising(), GREY, 1.0001),
    "Inpainting": (lambda: deepinv.physics.Inpainting(GREY, mask=mask(*GREY)), GREY, 1.0001),
    "MRI": (lambda: deepinv.physics.MRI(mask=mask(N, N), img_size=(N, N)), COMPLEX, 1.0001),
    "BlurFFT": (lambda: deepinv.physics.BlurFFT(GREY, filter=kernel()), GREY, 1.0001),
    "Blur, circular": (lambda: deepinv.physics.Blur(filter=kernel(), padding="circular"), GREY, 1.0001),
    "Blur, reflect": (lambda: deepinv.physics.Blur(filter=kernel(), padding="reflect"), GREY, 1.001),
    "Blur, replicate": (lambda: deepinv.physics.Blur(filter=kernel(), padding="replicate"), GREY, 1.001),
    "Blur, valid": (lambda: deepinv.physics.Blur(filter=kernel(), padding="valid"), GREY, 1.001),
    "Blur, zeros": (lambda: deepinv.physics.Blur(filter=kernel(), padding="zeros"), GREY, 1.001),
    "Blur, signed": (lambda: deepinv.physics.Blur(filter=signed(), padding="circular"), GREY, 1.0001),
    "Blur, signed, zeros": (lambda: deepinv.physics.Blur(filter=signed(), padding="zeros"), GREY, 4.0),
    "Downsampling": (lambda: deepinv.physics.Downsampling(GREY, filter="gaussian", factor=2), GREY, 1.0001),
    "Downsampling, bicubic": (lambda: deepinv.physics.Downsampling(GREY, filter="bicubic", factor=2), GREY, 1.0001),
    "Downsampling, none": (lambda: deepinv.physics.Downsampling(GREY, filter=None, factor=2), GREY, 1.0001),
    "Tomography": (lambda: deepinv.physics.Tomography(angles=7, img_width=N, normalize=False), GREY, 1.01),
    "Tomography, normalised": (lambda: deepinv.physics.Tomography(angles=7, img_width=N, normalize=True), GREY, 1.01),
}
cases = pytest.mark.parametrize(("build", "size", "factor"), PROVED.values(), ids=PROVED.keys())


def matrix(physics: Any, size: tuple[int, int, int]) -> Tensor:
    eye = torch.eye(size[0] * N * N).reshape(-1, *size)
    columns: Tensor = physics.A(eye)
    return columns.detach().flatten(1).T.double()


@cases
def test_the_norm_is_bounded_by_proof(build: Callable[[], Any], size: tuple[int, int, int], factor: float) -> None:
    physics = build()
    ours = from_deepinv(physics, size)
    assert ours.certified
    assert ours.reason == ""
    values = torch.linalg.svdvals(matrix(physics, size)).square()
    rounding = 1e-6  # of the matrix, which deepinv makes in single precision
    assert float(values[0]) * (1 - rounding) <= ours.squared_norm() <= float(values[0]) * factor
    least = float(values[-1]) if len(values) == size[0] * N * N else 0.0
    assert 0 <= ours.curvature() <= least + rounding


def test_the_estimate_of_deepinv_is_no_bound() -> None:
    """Why it is not used: the power iteration stops below the norm."""
    physics = deepinv.physics.Blur(filter=kernel(2.0), padding="circular")
    torch.manual_seed(0)
    estimate = float(physics.compute_sqnorm(torch.randn(1, *GREY), verbose=False, max_iter=3))
    true = float(torch.linalg.svdvals(matrix(physics, GREY))[0]) ** 2
    assert estimate < true * (1 - 1e-3)
    assert from_deepinv(physics, GREY).squared_norm() >= true * (1 - 1e-6)


def test_nothing_is_certified_of_another_class() -> None:
    physics = deepinv.physics.CompressedSensing(m=40, img_size=GREY)
    ours = from_deepinv(physics, GREY)
    assert not ours.certified
    assert "no bound" in ours.reason
    assert ours.squared_norm() == float("inf")
    claimed = from_deepinv(physics, GREY, squared_norm=16.0)
    assert claimed.squared_norm() == 16.0
    assert not claimed.certified
    assert "claimed" in claimed.reason


def test_a_subclass_may_be_another_map() -> None:
    class Twice(deepinv.physics.Inpainting):  # type: ignore[misc, name-defined]
        def A(self, x: Tensor, **kwargs: object) -> Tensor:
            return 2 * super().A(x)

    assert not from_deepinv(Twice(GREY, mask=mask(*GREY)), GREY).certified


def test_what_is_not_the_adjoint_is_not_certified() -> None:
    physics = deepinv.physics.Blur(filter=signed(), padding="circular")
    physics.A_adjoint = physics.A
    ours = from_deepinv(physics, GREY)
    assert not ours.certified
    assert "not the adjoint" in ours.reason
    x = torch.randn(1, *GREY)
    assert adjoint_defect(ours, x, torch.randn(1, *GREY)) > 0.01


def test_what_is_proved_follows_a_measurement_that_is_updated() -> None:
    physics = deepinv.physics.Inpainting(GREY, mask=mask(*GREY))
    ours = from_deepinv(physics, GREY)
    assert ours.squared_norm() == 1.0
    physics.update(mask=2 * mask(*GREY))
    assert ours.squared_norm() == 4.0
    assert ours.certified


def test_a_claim_where_there_is_a_proof_is_refused() -> None:
    with pytest.raises(ValueError, match="leave squared_norm out"):
        from_deepinv(deepinv.physics.Inpainting(GREY, mask=mask(*GREY)), GREY, squared_norm=2.0)
    with pytest.raises(ValueError, match="positive"):
        from_deepinv(deepinv.physics.CompressedSensing(m=40, img_size=GREY), GREY, squared_norm=0.0)


def test_the_proximal_step_has_a_bound_of_its_error() -> None:
    for name in ("Inpainting", "MRI", "Downsampling", "Blur, reflect"):
        build, size, _ = PROVED[name]
        ours = from_deepinv(build(), size)
        v, y = torch.rand(2, *size, generator=generator()), ours(torch.rand(2, *size))
        solution = ours.prox(v, y, 0.7)
        a = matrix(ours.physics, size)  # type: ignore[attr-defined]
        normal = torch.eye(a.size(1), dtype=torch.float64) + 0.7 * a.T @ a
        right = (v + 0.7 * ours.adjoint(y)).flatten(1).double()
        exact = torch.linalg.solve(normal, right.T).T
        away = (solution.image.flatten(1) - exact).norm(dim=1)
        assert bool((away <= solution.error + 1e-4).all()), name


AGREE = ("Inpainting", "MRI", "BlurFFT", "Blur, reflect", "Downsampling", "Tomography, normalised")


@pytest.mark.parametrize("name", AGREE)
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(ProximalGradient, "PGD"), (DouglasRachford, "DRS"), (ADMM, "ADMM")],
    ids=("PGD", "DRS", "ADMM"),
)
def test_our_loop_and_deepinvs_agree(name: str, ours: Any, theirs: str, smoothed: Make) -> None:
    build, size, _ = PROVED[name]
    physics = build()
    double = name in ("Blur, reflect", "Tomography, normalised")  # conjugate gradients lose digits in single precision
    if double:
        physics = physics.double()
        physics.dtype = torch.float64
    physics.set_ls_solver("CG", max_iter=300, tol=1e-8)
    denoiser = smoothed((N, N))
    y = physics.A(torch.rand(1, *size, generator=generator(), dtype=torch.float64 if double else torch.float32))
    y = y + 0.02 * torch.randn(y.shape, generator=generator(), dtype=y.dtype)
    back = physics.A_adjoint(y).detach()
    measurement = from_deepinv(physics, size)
    step = 0.9 / measurement.squared_norm()
    method = ours(measurement, denoiser, sigma=0.05, step=step, box=None)
    start = {"start": back, "dual": back} if ours is ADMM else {"start": back}  # where deepinv starts
    run = method.run(y, steps=40, **start)
    optimiser = getattr(deepinv.optim, theirs)(
        data_fidelity=deepinv.optim.data_fidelity.L2(),
        prior=deepinv.optim.prior.PnP(as_deepinv(denoiser)),
        stepsize=step,
        sigma_denoiser=0.05,
        max_iter=40,
        early_stop=False,
    )
    with torch.no_grad():
        found = optimiser(y, physics)
    assert float((found - run.image).abs().max()) < 1e-5
    assert float((run.image - back).abs().max()) > 0.01


def test_deepinv_runs_what_is_certified(smoothed: Make) -> None:
    """With the projection on the box inside the denoiser, deepinv's iteration is the certified one."""
    physics = deepinv.physics.Inpainting(GREY, mask=mask(*GREY))
    y = physics.A(torch.rand(1, *GREY, generator=generator()))
    method = ProximalGradient(from_deepinv(physics, GREY), smoothed((N, N)).float(), sigma=0.05)
    run = method.run(y, steps=40)
    assert run.certificate.certified
    optimiser = deepinv.optim.PGD(
        data_fidelity=deepinv.optim.data_fidelity.L2(),
        prior=deepinv.optim.prior.PnP(as_deepinv(method.denoiser)),
        stepsize=method.step,
        sigma_denoiser=method.sigma,
        max_iter=40,
    )
    with torch.no_grad():
        assert float((optimiser(y, physics) - run.image).abs().max()) < 1e-6


@pytest.mark.parametrize("method", [ProximalGradient, DouglasRachford, ADMM])
def test_denoisers_of_deepinv_run_uncertified(method: Any) -> None:
    physics = from_deepinv(deepinv.physics.Inpainting(GREY, mask=mask(*GREY)), GREY)
    denoiser = deepinv.models.TVDenoiser(n_it_max=20)
    run = method(physics, denoiser, sigma=0.05).run(physics(torch.rand(1, *GREY)), steps=3)
    assert run.image.shape == (1, *GREY)
    assert not run.certificate.certified
    assert "TVDenoiser has no proved" in run.certificate.reason


def test_a_denoiser_of_ours_is_one_of_deepinvs(smoothed: Make) -> None:
    inner = smoothed((N, N)).float()
    denoiser = as_deepinv(inner)
    assert isinstance(denoiser, deepinv.models.Denoiser)
    x = torch.rand(1, *GREY)
    torch.testing.assert_close(denoiser(x, torch.tensor(0.05)), inner(x, 0.05))
    with pytest.raises(ValueError, match="sigma_denoiser"):
        denoiser(x, None)
    torch.testing.assert_close(as_deepinv(inner, sigma=0.05)(x), inner(x, 0.05))
    with pytest.raises(TypeError, match="unknown arguments gamma"):
        denoiser(x, 0.05, gamma=1.0)
    with pytest.raises(TypeError, match="module"):
        as_deepinv(3)  # type: ignore[arg-type]


def test_copies_and_files_of_it(linear: Make) -> None:
    denoiser = as_deepinv(linear(torch.eye(4), 0.25, alpha=0.5), sigma=0.05).eval()
    x = torch.rand(1, 1, 2, 2)
    for other in (copy.deepcopy(denoiser), pickle.loads(pickle.dumps(as_deepinv(nn.Identity(), sigma=0.1)))):
        assert isinstance(other, deepinv.models.Denoiser)
    assert not copy.deepcopy(denoiser).training
    torch.testing.assert_close(copy.deepcopy(denoiser)(x), denoiser(x))
    file = io.BytesIO()
    torch.save(as_deepinv(nn.Conv2d(1, 1, 1)).state_dict(), file)
    file.seek(0)
    as_deepinv(nn.Conv2d(1, 1, 1)).load_state_dict(torch.load(file))


def test_what_is_no_measurement_of_deepinv() -> None:
    with pytest.raises(TypeError, match="linear measurement of deepinv"):
        from_deepinv(nn.Identity(), GREY)
    with pytest.raises(ValueError, match="leave squared_norm out"):
        from_deepinv(deepinv.physics.Inpainting(GREY, mask=mask(*GREY)), GREY, squared_norm=2.0)


def test_a_bound_for_one_size_is_not_used_for_another() -> None:
    """Of a kernel with two signs the largest symbol of one size may lie between the frequencies of the other."""
    physics = deepinv.physics.Blur(filter=signed(), padding="circular")
    bounds = [from_deepinv(physics, (1, n, n)).squared_norm() for n in (7, 4)]
    assert bounds[1] > bounds[0] * 1.01
    ours = from_deepinv(physics, (1, 7, 7))
    for call in (ours, ours.adjoint):
        with pytest.raises(ValueError, match=r"was handed over for images \[n, 1, 7, 7\], this one is \[1, 1, 4, 4\]"):
            call(torch.rand(1, 1, 4, 4))


@pytest.mark.parametrize("size", [16, (16, 16), (1, 1, 16, 16)])
def test_a_size_that_is_none_is_refused(size: Any) -> None:
    with pytest.raises(ValueError, match=r"size must be \(channels, height, width\)"):
        from_deepinv(deepinv.physics.Inpainting(GREY, mask=mask(*GREY)), size)


def test_a_size_that_the_measurement_does_not_take_is_refused() -> None:
    with pytest.raises(ValueError, match=r"BlurFFT of deepinv does not take images of size \(1, 9, 9\)"):
        from_deepinv(deepinv.physics.BlurFFT(GREY, filter=kernel()), (1, 9, 9))
