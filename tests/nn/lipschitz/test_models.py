"""Whole models of images: their constants, measured by dense Jacobians after training that tries to raise them."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from contractive_gnn.nn.images import GradientFlowDenoiser, ImageClassifier
from contractive_gnn.nn.lipschitz import LipschitzModule, lipschitz
from contractive_gnn.testing import LipschitzSuite, measured_lipschitz, raise_gain


class TestNonexpansiveClassifier(LipschitzSuite):
    shape = (1, 4, 4)
    gain_steps = 15
    compiles = False  # its steps are those of its kernels; a frozen copy compiles

    def make(self) -> nn.Module:
        return ImageClassifier(1, 3, size=4, channels=(4, 4), num_layers=1, dense=(4,), std=0.5)


class TestAlternatingClassifier(LipschitzSuite):
    shape = (2, 4, 4)
    gain_steps = 15
    compiles = False

    def make(self) -> nn.Module:
        return ImageClassifier(2, 3, size=4, channels=(4,), num_layers=2, dense=(4,), kind="alternating")


class At(LipschitzModule):
    """A denoiser at one noise level."""

    def __init__(self, denoiser: GradientFlowDenoiser, sigma: float) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.sigma = sigma

    def forward(self, x: Tensor) -> Tensor:
        return self.denoiser(x, self.sigma)  # type: ignore[no-any-return]

    def lipschitz(self) -> float:
        return self.denoiser.lipschitz()


class TestDenoiser(LipschitzSuite):
    """In evaluation mode, whose kernels have a proved norm."""

    shape = (1, 6, 5)
    gain_steps = 15
    modes = (False,)
    rounded = {torch.float32: 1.0 + 1e-5}  # noqa: RUF012
    bfloat16 = False  # differences between 1 and σ/1000 matter to it
    compiles = False

    def make(self) -> nn.Module:
        denoiser = GradientFlowDenoiser(filters=4, kernel_size=3, scales=(1, 1), step=1.0)
        return At(denoiser.eval(), 25 / 255)


class TestMirroredDenoiser(TestDenoiser):
    shape = (1, 4, 4)

    def make(self) -> nn.Module:
        denoiser = GradientFlowDenoiser(filters=4, kernel_size=3, scales=(0, 0), padding="mirror")
        return At(denoiser.eval(), 10 / 255)


def test_a_free_classifier_has_no_constant_and_its_gain_can_be_raised() -> None:
    model = ImageClassifier(1, 3, size=4, channels=(4,), num_layers=2, dense=(4,), kind="unconstrained").double()
    assert lipschitz(model) == math.inf
    x = torch.rand(2, 1, 4, 4, dtype=torch.float64)
    before = measured_lipschitz(model, x)
    assert raise_gain(model, x, steps=30).ratio > 3.0 * before
