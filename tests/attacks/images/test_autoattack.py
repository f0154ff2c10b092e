"""The standard ensemble finds what there is, on a model whose exact radius is known, and nothing that is not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from contractive_gnn.attacks.images import (
    APGD,
    FAB,
    PGD,
    AutoAttack,
    ImageAttack,
    Square,
    apgd,
    autoattack,
    full_reach_pgd,
)
from contractive_gnn.attacks.images.ball import BallNorm


class Linear(nn.Module):
    """Five classes of 64 pixels."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(5, 64, generator=generator) / 8)

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.weight.t()


def images_at(model: Linear, radius: float, *, norm: BallNorm, count: int = 12) -> tuple[Tensor, Tensor]:
    """Images whose nearest image of another class is exactly ``radius`` away, far from the edges of the box."""
    weight = model.weight.detach().double()
    generator = torch.Generator().manual_seed(1)
    found: list[Tensor] = []
    while len(found) < count:
        y, rival = torch.randperm(5, generator=generator)[:2].tolist()
        normal = weight[y] - weight[rival]
        dual = normal.norm() if norm == "l2" else normal.abs().sum()
        x = 0.4 + 0.2 * torch.rand(64, generator=generator, dtype=torch.float64)
        x = x - normal * (x @ normal - radius * dual) / normal.norm() ** 2
        others = weight[y] - weight
        size = others.norm(dim=1) if norm == "l2" else others.abs().sum(dim=1)
        distance = ((others @ x) / size).nan_to_num(torch.inf)
        if abs(float(distance.min()) - radius) < 1e-9 and bool(((x > 0.2) & (x < 0.8)).all()):
            found.append(x)
    x = torch.stack(found).view(-1, 1, 8, 8).float()
    return x, model(x).argmax(dim=1)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_the_exact_radius_is_found_and_nothing_below(norm: BallNorm) -> None:
    model = Linear()
    radius = 0.1 if norm == "l2" else 0.015
    x, y = images_at(model, radius, norm=norm)
    gradient = (
        APGD(norm=norm, epsilon=1.02 * radius),
        APGD(norm=norm, epsilon=1.02 * radius, loss="targeted"),
        FAB(norm=norm, epsilon=1.02 * radius),
        PGD(norm=norm, epsilon=1.02 * radius),
    )
    for attack in gradient:
        assert not attack(model, x, y).survived.any(), attack.name
    assert not autoattack(model, x, y, norm=norm, epsilon=1.02 * radius).survived.any()
    below = AutoAttack(norm=norm, epsilon=0.999 * radius, num_steps=30, num_queries=300)(model, x, y)
    assert below.survived.all()
    assert torch.equal(below.images, x)


def test_the_standard_version_has_the_settings_of_its_authors() -> None:
    stages = AutoAttack(norm="l2", epsilon=0.5, seed=3).stages()
    assert stages == (
        APGD(norm="l2", epsilon=0.5, seed=3, loss="ce", num_steps=100, restarts=1),
        APGD(norm="l2", epsilon=0.5, seed=3, loss="targeted", num_steps=100, restarts=1),
        FAB(norm="l2", epsilon=0.5, seed=3, num_steps=100, restarts=1),
        Square(norm="l2", epsilon=0.5, seed=3, num_queries=5000, restarts=1, largest=0.8),
    )
    assert AutoAttack(norm="l2", epsilon=0.5).name == "autoattack"
    assert AutoAttack(norm="l2", epsilon=0.5, num_steps=10).name == "autoattack-10-5000"
    with pytest.raises(ValueError, match="version must be 'standard', got 'rand'"):
        autoattack(Linear(), torch.rand(1, 1, 8, 8), torch.zeros(1).long(), epsilon=0.1, version="rand")


class Rounded(nn.Module):
    """Scores in steps: their gradient is 0 wherever there is one."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return (50 * self.model(x)).round() / 50


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_a_masked_gradient_does_not_help(norm: BallNorm) -> None:
    model = Linear()
    radius = 0.1 if norm == "l2" else 0.015
    x, y = images_at(model, radius, norm=norm)
    masked = Rounded(model)
    kept = masked(x).argmax(dim=1) == y
    epsilon = 8 * radius
    blind = (APGD(norm=norm, epsilon=epsilon, num_steps=20), PGD(norm=norm, epsilon=epsilon, num_steps=20, restarts=1))
    assert all(attack(masked, x, y).survived.sum() > kept.sum() / 2 for attack in blind)
    assert Square(norm=norm, epsilon=epsilon, num_queries=600)(masked, x, y).survived.sum() == 0
    whole = AutoAttack(norm=norm, epsilon=epsilon, num_steps=5, num_queries=600)(masked, x, y)
    assert not whole.survived.any()
    assert "square" in whole.lost_to


def test_what_a_short_reach_leaves_says_little() -> None:
    model = Linear()
    x, y = images_at(model, 0.1, norm="l2")
    short = PGD(norm="l2", epsilon=0.12, num_steps=10, restarts=1, reach=0.25)(model, x, y)
    assert short.survived.all()
    assert not full_reach_pgd(model, x, y, norm="l2", epsilon=0.12, num_steps=10).survived.any()


def test_what_apgd_finds_does_not_depend_on_the_company() -> None:
    """In torchattacks' own APGD-T (ℓ2) all images of a batch take the first one's step."""
    torch.manual_seed(2)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 5)).eval()
    x = torch.rand(6, 1, 8, 8)
    y = model(x).argmax(dim=1)
    attack = APGD(norm="l2", epsilon=1.0, loss="targeted", num_steps=25)
    alone = attack(model, x[:1], y[:1])
    for company in (x[1:2], x[2:6]):
        labels = model(company).argmax(dim=1)
        together = attack(model, torch.cat([x[:1], company]), torch.cat([y[:1], labels]))
        assert bool(together.survived[0]) == bool(alone.survived[0])
        assert torch.allclose(together.images[0], alone.images[0], atol=1e-5)


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_scores_of_any_scale_are_attacked_alike(scale: float) -> None:
    model = Linear()
    x, y = images_at(model, 0.1, norm="l2")
    model.weight.data *= scale
    for attack in (
        apgd(model, x, y, norm="l2", epsilon=0.102),
        apgd(model, x, y, norm="l2", epsilon=0.102, loss="dlr"),
        apgd(model, x, y, norm="l2", epsilon=0.102, loss="targeted"),
        full_reach_pgd(model, x, y, norm="l2", epsilon=0.102, restarts=1),
    ):
        assert not attack.survived.any()


@pytest.mark.parametrize("scale", [1e-4, 1e4])
def test_the_plain_cross_entropy_is_misled_by_scores_close_together_or_far_apart(scale: float) -> None:
    model = Linear()
    x, y = images_at(model, 0.1, norm="l2")
    model.weight.data *= scale
    for plain in (
        APGD(norm="l2", epsilon=0.102, spread=None),
        PGD(norm="l2", epsilon=0.102, restarts=1, spread=None),
    ):
        assert plain(model, x, y).survived.any()


@pytest.mark.parametrize(
    ("attack", "classes", "size", "complaint"),
    [
        (APGD(norm="l2", epsilon=0.1, loss="targeted"), 3, 8, "'targeted' needs at least 4 classes, the model has 3"),
        (APGD(norm="l2", epsilon=0.1, loss="dlr"), 2, 8, "'dlr' needs at least 3 classes, the model has 2"),
        (AutoAttack(norm="l2", epsilon=0.1), 3, 8, "needs at least 4 classes"),
        (Square(norm="l2", epsilon=0.1), 5, 4, "Square in l2 does not fit images of 4 × 4"),
    ],
)
def test_a_model_that_an_attack_cannot_take(attack: ImageAttack, classes: int, size: int, complaint: str) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(size * size, classes)).eval()
    x = torch.rand(5, 1, size, size)
    y = model(x).argmax(dim=1)
    with pytest.raises(ValueError, match=complaint):
        attack(model, x, y)


@pytest.mark.parametrize(
    "make",
    [
        lambda: APGD(norm="l2", epsilon=0.1, loss="margin"),  # type: ignore[arg-type]
        lambda: APGD(norm="l2", epsilon=0.1, num_steps=0),
        lambda: APGD(norm="l2", epsilon=0.1, spread=0.0),
        lambda: FAB(norm="l2", epsilon=0.1, restarts=0),
        lambda: Square(norm="l2", epsilon=0.1, largest=1.5),
        lambda: Square(norm="l2", epsilon=0.1, num_queries=0),
        lambda: PGD(norm="l2", epsilon=0.1, reach=0.0),
        lambda: PGD(norm="l2", epsilon=0.1, spread=-1.0),
        lambda: AutoAttack(norm="l2", epsilon=0.1, num_queries=0),
    ],
)
def test_numbers_out_of_range(make: object) -> None:
    with pytest.raises(ValueError, match="must be"):
        make()  # type: ignore[operator]
