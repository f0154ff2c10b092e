"""The denoiser is averaged by construction, at every size and noise level; beyond the edge of its step it is not."""

import copy
import itertools
import math

import pytest
import torch
from torch import Tensor, nn

from contractive_gnn.datasets.images import load_photographs
from contractive_gnn.nn.images import GradientFlowDenoiser
from contractive_gnn.nn.images.denoiser import PRETRAINED
from contractive_gnn.nn.images.denoising_step import DenoisingStep, squared_gain
from contractive_gnn.nn.images.haar import haar, inverse_haar
from contractive_gnn.nn.lipschitz import LipschitzModule
from contractive_gnn.operators import Conv2d
from contractive_gnn.testing.lipschitz import LipschitzSuite, measured_lipschitz, raise_gain
from contractive_gnn.training.images import psnr


def small(**options: object) -> GradientFlowDenoiser:
    torch.manual_seed(0)
    given = {"filters": 6, "kernel_size": 3, "scales": (1, 2, 1), "num_pieces": 8, **options}
    return GradientFlowDenoiser(**given).double().eval()  # type: ignore[arg-type]


class AtOneLevel(LipschitzModule):
    """The denoiser for one σ, asked for its constant like a layer."""

    def __init__(self, denoiser: GradientFlowDenoiser, sigma: float = 0.1) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.sigma = sigma

    def forward(self, x: Tensor) -> Tensor:
        return self.denoiser(x, self.sigma)  # type: ignore[no-any-return]

    def lipschitz(self) -> float:
        return self.denoiser.lipschitz()


class TestConstant(LipschitzSuite):
    """On blocks that do not divide the size."""

    shape = (1, 5, 6)
    tight = 1.001  # constant images are kept, or nearly so
    gain_steps = 25
    rounded = {torch.float32: 1.0 + 1e-5}  # noqa: RUF012
    bfloat16 = False
    compiles = False  # a proved bound is worked out at a call; the frozen copy compiles, see below

    def make(self) -> nn.Module:
        return AtOneLevel(small(scales=(1, 2), filters=4))


@pytest.mark.parametrize("padding", ["circular", "zeros", "mirror"])
@pytest.mark.parametrize("scales", [(0, 0), (0, 1), (2, 1, 2)])
def test_no_jacobian_exceeds_one(padding: str, scales: tuple[int, ...]) -> None:
    denoiser = small(padding=padding, scales=scales, channels=3 if scales == (0, 0) else 1)
    x = torch.rand(1, denoiser.channels, 9, 7, dtype=torch.float64)
    assert denoiser.lipschitz() == 1.0
    assert denoiser.averagedness() < 1.0
    for sigma in denoiser.sigma_range:
        assert measured_lipschitz(AtOneLevel(denoiser, sigma), x) <= 1.0 + 1e-12


def ascend(denoiser: GradientFlowDenoiser, alpha: float) -> float:
    """The largest ``(‖Dx − Dy‖² + (1 − α)/α‖(x − Dx) − (y − Dy)‖²)/‖x − y‖²`` that training of all finds."""
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(4, 1, 6, 6, dtype=torch.float64, generator=generator).requires_grad_()
    y = torch.rand(4, 1, 6, 6, dtype=torch.float64, generator=generator).requires_grad_()
    optimiser = torch.optim.Adam([x, y, *denoiser.parameters()], lr=0.05)

    def ratio() -> Tensor:
        moved, apart = denoiser(x, 0.1) - denoiser(y, 0.1), x - y
        left = (apart - moved).square().sum((1, 2, 3))
        return (moved.square().sum((1, 2, 3)) + (1 - alpha) / alpha * left) / apart.square().sum((1, 2, 3))

    for _ in range(40):
        optimiser.zero_grad()
        (-ratio().sum()).backward()
        optimiser.step()
    with torch.no_grad():
        return float(ratio().max())


@pytest.mark.parametrize("step", [1.0, 1.99])
def test_the_averaged_inequality_survives_training_against_it(step: float) -> None:
    denoiser = small(step=step, scales=(1,))
    alpha = denoiser.averagedness()
    assert alpha == pytest.approx(step / 2, rel=0.02)
    assert ascend(copy.deepcopy(denoiser), alpha) <= 1.0 + 1e-9
    # the constant is no larger than it must be: where the slopes are 1 a smaller one is refuted
    with torch.no_grad():
        denoiser.steps[0].sigma.theta.fill_(40.0)
    assert ascend(denoiser, 0.7 * alpha) > 1.0 + 1e-3


def test_the_inequality_holds_for_the_composition() -> None:
    denoiser = small(scales=(1, 0, 1))
    assert ascend(denoiser, denoiser.averagedness()) <= 1.0 + 1e-9


def test_a_composition_is_averaged_by_the_formula() -> None:
    denoiser = small(scales=(1, 2), step=1.0)
    first, second = (step.averagedness() for step in denoiser.steps)
    # Ogura and Yamada's formula for two maps
    expected = (first + second - 2 * first * second) / (1 - first * second)
    assert denoiser.averagedness() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("circular", [True, False])
def test_a_step_beyond_the_edge_expands(circular: bool) -> None:
    """At h‖K‖² = 2 the step is 1-Lipschitz and not averaged, beyond it neither: the certificate says so first."""
    torch.manual_seed(0)
    step = DenoisingStep(2, 3, blocks=False, kernel_size=3, step=1.9, num_pieces=4, reach=1.0, threshold=0.5)
    step.double().eval()
    with torch.no_grad():
        step.sigma.theta.fill_(40.0)  # slopes of 1: the step is linear
    tau = torch.ones(1, 3, 1, 1, dtype=torch.float64)
    z = torch.zeros(1, 2, 12, 12, dtype=torch.float64)

    def measured(length: float) -> float:
        step.step = length
        jacobian = torch.autograd.functional.jacobian(lambda v: step(v, tau, circular=circular), z)
        return float(torch.linalg.matrix_norm(jacobian.reshape(288, 288), 2))

    assert measured(1.99) <= 1.0 + 1e-12
    assert step.lipschitz() == 1.0
    assert step.averagedness() < 1.0
    assert measured(2.3) > 1.05
    assert step.lipschitz() > measured(2.3)
    assert step.averagedness() == math.inf


def test_the_gain_bounds_every_size_and_padding() -> None:
    generator = torch.Generator().manual_seed(2)
    for channels, filters, k in ((1, 4, 5), (4, 2, 3), (3, 3, 1)):
        kernel = torch.randn(filters, channels, k, k, generator=generator, dtype=torch.float64)
        bound, known = squared_gain(kernel), 0.0
        for size in (5, 6, 7, 9):
            for mode in ("circular", "zeros"):
                operator = Conv2d(kernel, padding=(k - 1) // 2, padding_mode=mode)  # type: ignore[arg-type]
                x = torch.zeros(1, channels, size, size, dtype=torch.float64)
                matrix = torch.autograd.functional.jacobian(operator, x).reshape(-1, x.numel())
                known = max(known, float(torch.linalg.matrix_norm(matrix, 2)) ** 2)
        assert known <= bound <= 1.25 * known
    assert squared_gain(torch.zeros(2, 1, 3, 3)) == 0.0
    with pytest.raises(ValueError, match="not finite"):
        squared_gain(torch.full((1, 1, 3, 3), math.nan))


def test_training_mode_tells_the_truth_of_its_kernels() -> None:
    """They are scaled by an estimate, which may be too small."""
    denoiser = small(scales=(1,)).train()
    step = denoiser.steps[0]
    with torch.no_grad():
        step._probe.copy_(torch.zeros_like(step._probe)).view(-1)[::7].fill_(0.1)
        estimated, bound = float(step.kernel().norm()), step.gain()
        assert bound > 1.0
        assert estimated > float(denoiser.eval().steps[0].kernel().norm())
    assert denoiser.steps[0].gain() <= 1.0


def test_training_lowers_the_error_and_keeps_the_constant() -> None:
    torch.manual_seed(0)
    denoiser = GradientFlowDenoiser(filters=16, kernel_size=3, scales=(1, 2, 1)).train()
    clean = torch.zeros(4, 1, 32, 32)
    clean[:, :, :, 16:] = 1.0
    optimiser = torch.optim.Adam(denoiser.parameters(), lr=0.01)
    losses = []
    for _ in range(30):
        noisy = clean + 0.1 * torch.randn_like(clean)
        loss = (denoiser(noisy, 0.1) - clean).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.65 * losses[0]
    assert denoiser.eval().lipschitz() == 1.0
    assert denoiser.averagedness() < 1.0


def test_repeated_application_converges() -> None:
    denoiser = small()
    x = torch.rand(1, 1, 12, 12, dtype=torch.float64)
    residuals, goal = [], denoiser.fixed_point(x)
    distance = (x - goal).norm()
    with torch.no_grad():
        for _ in range(60):
            y = denoiser(x, 0.1)
            residuals.append(float((y - x).norm()))
            assert (y - goal).norm() <= distance + 1e-12
            x, distance = y, (y - goal).norm()
    assert all(after <= before + 1e-12 for before, after in itertools.pairwise(residuals))
    assert residuals[-1] < 0.05 * residuals[0]


def test_fixed_points() -> None:
    denoiser = small()
    x = torch.rand(2, 1, 8, 12, dtype=torch.float64)
    for sigma in denoiser.sigma_range:
        torch.testing.assert_close(denoiser(denoiser.fixed_point(x), sigma), torch.full_like(x, 0.5))
        torch.testing.assert_close(denoiser(torch.full_like(x, 0.2), sigma), torch.full_like(x, 0.2))
    odd = torch.full((1, 1, 6, 10), 0.2, dtype=torch.float64)
    assert not torch.allclose(denoiser(odd, 0.1), odd)
    denoiser.padding = "mirror"
    torch.testing.assert_close(denoiser(odd, 0.1), odd)


def test_the_haar_transform_is_orthogonal() -> None:
    x = torch.randn(2, 3, 8, 6, dtype=torch.float64)
    z = haar(x)
    assert z.shape == (2, 12, 4, 3)
    torch.testing.assert_close(z.norm(), x.norm())
    torch.testing.assert_close(inverse_haar(z), x)
    torch.testing.assert_close(z[:, :3], 2 * nn.functional.avg_pool2d(x, 2))


def test_a_noise_level_for_each_image() -> None:
    denoiser = small()
    x = torch.rand(2, 1, 8, 8, dtype=torch.float64)
    with torch.no_grad():
        denoiser.scale_powers.normal_()
    both = denoiser(x, torch.tensor([0.05, 0.2]))
    torch.testing.assert_close(both[0], denoiser(x[0], torch.tensor(0.05)))
    torch.testing.assert_close(both[1:], denoiser(x[1:], 0.2), rtol=1e-6, atol=1e-6)
    low, high = denoiser.sigma_range
    single = copy.deepcopy(denoiser).float()
    assert single(x.float(), torch.tensor([low, high])).isfinite().all()


def test_what_it_refuses() -> None:
    denoiser = small()
    x = torch.rand(2, 1, 8, 8, dtype=torch.float64)
    for sigma in (0.0, 0.5, torch.tensor([0.1, 0.9]), math.nan, torch.tensor([math.nan])):
        with pytest.raises(ValueError, match="sigma"):
            denoiser(x, sigma)
    with pytest.raises(ValueError, match="one for each of the 2 images"):
        denoiser(x, torch.full((3,), 0.1))
    with pytest.raises(ValueError, match="channels=1"):
        denoiser(x.expand(2, 3, 8, 8), 0.1)
    with pytest.raises(ValueError, match="take 'mirror'"):
        denoiser.padding = "reflect"
    for name, value in (
        ("step", 2.0),
        ("kernel_size", 0),
        ("scales", (1, -1)),
        ("scales", ()),
        ("sigma_range", (0.2, 0.1)),
    ):
        with pytest.raises(ValueError, match=name):
            small(**{name: value})
    with pytest.raises(TypeError, match="sigma_range"):
        small(sigma_range=0.1)


def test_kernels_are_worked_out_again_where_weights_have_changed() -> None:
    denoiser = small()
    x = torch.rand(1, 1, 8, 8, dtype=torch.float64)
    before = denoiser(x, 0.1)
    with torch.no_grad():
        denoiser.steps[0].weight.data.mul_(3.0)  # a change of scale is none of K
    torch.testing.assert_close(denoiser(x, 0.1), before)
    raise_gain(AtOneLevel(denoiser), x, steps=3)
    assert not torch.allclose(denoiser(x, 0.1), before)
    loaded = small()
    loaded.load_state_dict(denoiser.state_dict())
    torch.testing.assert_close(loaded(x, 0.1), denoiser(x, 0.1), rtol=0, atol=0)


def test_the_frozen_copy_gives_the_same_numbers_and_compiles() -> None:
    denoiser = small().float()
    x = torch.rand(1, 1, 16, 12)
    frozen = denoiser.frozen()
    torch.testing.assert_close(frozen(x, 0.1), denoiser(x, 0.1), rtol=0, atol=0)
    assert frozen.lipschitz() == 1.0
    assert frozen.averagedness() == pytest.approx(denoiser.averagedness(), rel=1e-6)
    with torch.no_grad():
        frozen.steps[0].weight.mul_(-2.0).add_(1.0)
    torch.testing.assert_close(frozen.train()(x, 0.1), denoiser(x, 0.1), rtol=0, atol=0)
    compiled = torch.compile(AtOneLevel(frozen), backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), denoiser(x, 0.1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", sorted(PRETRAINED))
def test_pretrained_weights_denoise(name: str) -> None:
    before = torch.get_rng_state()
    denoiser = GradientFlowDenoiser.pretrained(name)
    assert torch.equal(torch.get_rng_state(), before)
    assert denoiser.lipschitz() == 1.0
    assert denoiser.averagedness() < 1.0
    clean = load_photographs("samples", grey=denoiser.channels == 1)[1][:, 100:228, 200:328][None]
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(clean.shape, generator=generator)
    for sigma, least in ((10 / 255, 3.0), (25 / 255, 6.0), (50 / 255, 8.0)):
        with torch.no_grad():
            denoised = denoiser(clean + sigma * noise, sigma)
        assert psnr(denoised, clean) > psnr(clean + sigma * noise, clean) + least


@pytest.mark.parametrize(("padding", "least"), [("circular", 9), ("mirror", 5), ("zeros", 1)])
def test_the_smallest_image_is_named(padding: str, least: int) -> None:
    """A kernel of 7 reaches 3 blocks of 4 pixels: of an image, or of its two halves."""
    denoiser = small(kernel_size=7, padding=padding)
    assert denoiser(torch.rand(1, 1, least, 20).double(), 0.1).shape == (1, 1, least, 20)
    for size in ((least - 1, 20), (20, least - 1)):
        with pytest.raises(ValueError, match=f"needs at least {least} pixels"):
            denoiser(torch.rand(1, 1, *size).double(), 0.1)


def test_a_frozen_copy_that_loads_weights_is_the_network_that_was_saved() -> None:
    saved, frozen = small(), small().frozen()
    with torch.no_grad():
        for parameter in saved.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    frozen.load_state_dict(saved.state_dict())
    x = torch.rand(1, 1, 12, 12).double()
    torch.testing.assert_close(frozen(x, 0.1), saved(x, 0.1), rtol=0, atol=1e-12)
    assert frozen.averagedness() == pytest.approx(saved.averagedness(), rel=1e-12)


def test_pretrained_weights_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="no pretrained denoiser is called 'gray'"):
        GradientFlowDenoiser.pretrained("gray")
    for name in PRETRAINED:
        monkeypatch.setitem(PRETRAINED, name, "0" * 64)
        with pytest.raises(OSError, match="not those of this release"):
            GradientFlowDenoiser.pretrained(name)
