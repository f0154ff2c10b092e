"""Losses against their formulas, and what a loss of zero certifies."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from contractive_gnn.certificates.lipschitz import lipschitz_radius
from contractive_gnn.training.images import (
    CertifiedRadiusLoss,
    ImageLoss,
    MarginLoss,
    TemperatureCrossEntropy,
    signed_radius,
)

LABELS = torch.tensor([0, 2, 1, 1])


def scores() -> Tensor:
    return torch.randn(4, 3, dtype=torch.float64, requires_grad=True)


def test_the_radius_is_that_of_the_certificate_where_the_model_is_right() -> None:
    z = scores().detach()
    radius = signed_radius(z, LABELS, lipschitz=0.7)
    right = z.argmax(dim=1) == LABELS
    assert 0 < int(right.sum()) < 4
    assert torch.allclose(radius[right], lipschitz_radius(z, lipschitz=0.7)[right], rtol=1e-12)
    assert bool((radius[~right] < 0).all())


def test_the_radius_cannot_be_larger() -> None:
    """Of the identity, which is 1-Lipschitz: a hair beyond the radius the other class wins, a hair before it not."""
    x = torch.tensor([[3.0, 1.0, 0.0]], dtype=torch.float64)
    radius = signed_radius(x, torch.tensor([0]), lipschitz=1.0)
    towards = torch.tensor([[-1.0, 1.0, 0.0]], dtype=torch.float64) / math.sqrt(2)
    assert int((x + (radius - 1e-9) * towards).argmax()) == 0
    assert int((x + (radius + 1e-9) * towards).argmax()) == 1


def test_the_margin_loss_is_the_hinge_of_every_wrong_class() -> None:
    z = scores().detach()
    wanted = 0.0
    for row, label in zip(z, LABELS.tolist(), strict=True):
        wanted += sum(max(0.0, 0.4 - float(row[label] - row[j])) for j in range(3) if j != label) / 3 / 4
    assert float(MarginLoss(0.4)(z, LABELS, None)) == pytest.approx(wanted, rel=1e-12)


def test_no_margin_loss_means_a_radius_of_the_margin_over_the_root_of_two() -> None:
    z = torch.tensor([[0.07, 0.0, -1.0]], dtype=torch.float64)
    label = torch.tensor([0])
    assert float(MarginLoss(0.07)(z, label, None)) == 0.0
    assert float(signed_radius(z, label, lipschitz=1.0)) == pytest.approx(0.07 / math.sqrt(2))
    z[0, 1] += 1e-6
    assert float(MarginLoss(0.07)(z, label, None)) > 0.0


def test_by_default_the_cross_entropy_is_the_plain_one() -> None:
    z = scores()
    assert torch.equal(TemperatureCrossEntropy()(z, LABELS, None), cross_entropy(z, LABELS))
    assert not TemperatureCrossEntropy(0.5).needs_lipschitz


def test_the_temperature_keeps_the_scale_of_a_large_loss() -> None:
    z = torch.tensor([[0.0, 50.0]], dtype=torch.float64)
    assert float(TemperatureCrossEntropy(0.1)(z, torch.tensor([0]), None)) == pytest.approx(50.0)
    assert float(TemperatureCrossEntropy(2.0)(z, torch.tensor([0]), None)) == pytest.approx(50.0)


def test_the_offset_is_what_an_attack_can_take_from_every_margin() -> None:
    z, epsilon, constant = scores(), 0.3, 0.7
    attacked = z.detach().clone()
    attacked[torch.arange(4), LABELS] -= math.sqrt(2) * epsilon * constant
    loss = TemperatureCrossEntropy(0.5, offset=epsilon)
    assert loss.needs_lipschitz
    assert float(loss(z, LABELS, constant)) == pytest.approx(
        float(0.5 * cross_entropy(attacked / 0.5, LABELS)), rel=1e-12
    )


def test_the_reward_goes_to_what_is_right_and_near() -> None:
    z = torch.tensor([[0.3, 0.0], [5.0, 0.0], [0.0, 1.0]], dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 0, 0])
    radii = signed_radius(z, labels, lipschitz=1.0)
    loss = CertifiedRadiusLoss(weight=3.0, radius=0.5, temperature=0.25)
    wanted = 0.25 * cross_entropy(z / 0.25, labels) - 3.0 * (float(radii[0]) + 0.5 + 0.0) / 3
    assert float(loss(z, labels, 1.0)) == pytest.approx(float(wanted), rel=1e-12)
    (with_reward,) = torch.autograd.grad(loss(z, labels, 1.0), z)
    (without,) = torch.autograd.grad(0.25 * cross_entropy(z / 0.25, labels), z)
    changed = (with_reward - without).abs().sum(dim=1)
    assert float(changed[0]) > 0.1
    assert changed[1:].tolist() == [0.0, 0.0]  # beyond the radius, and wrong


@pytest.mark.parametrize("loss", [TemperatureCrossEntropy(offset=0.1), CertifiedRadiusLoss()])
@pytest.mark.parametrize("constant", [None, math.inf, 0.0, math.nan])
def test_a_loss_of_the_constant_needs_one(loss: ImageLoss, constant: float | None) -> None:
    with pytest.raises(ValueError, match="needs a model with a finite, positive Lipschitz constant, got"):
        loss(scores(), LABELS, constant)


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        (MarginLoss, {"margin": 0.0}),
        (TemperatureCrossEntropy, {"temperature": 0.0}),
        (TemperatureCrossEntropy, {"offset": -0.1}),
        (CertifiedRadiusLoss, {"weight": -1.0}),
        (CertifiedRadiusLoss, {"radius": 0.0}),
        (CertifiedRadiusLoss, {"temperature": math.nan}),
    ],
)
def test_what_is_out_of_range_is_refused(kind: type[ImageLoss], given: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(given))} must be"):
        kind(**given)
