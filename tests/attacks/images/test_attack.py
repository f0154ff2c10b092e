"""Every attack: inside the ball, right images only, checked once more, and nothing is left behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from contractive_gnn.attacks.base import AttackError
from contractive_gnn.attacks.images import APGD, FAB, PGD, AutoAttack, ImageAttack, Square
from contractive_gnn.attacks.images.attack import Run
from contractive_gnn.attacks.images.ball import BallNorm
from contractive_gnn.attacks.images.victim import Victim

Make = Callable[[BallNorm, float], ImageAttack]
ATTACKS: dict[str, Make] = {
    "apgd-ce": lambda norm, epsilon: APGD(norm=norm, epsilon=epsilon, num_steps=8, restarts=2),
    "apgd-dlr": lambda norm, epsilon: APGD(norm=norm, epsilon=epsilon, num_steps=8, loss="dlr"),
    "apgd-t": lambda norm, epsilon: APGD(norm=norm, epsilon=epsilon, num_steps=8, loss="targeted"),
    "fab-t": lambda norm, epsilon: FAB(norm=norm, epsilon=epsilon, num_steps=8, restarts=2),
    "square": lambda norm, epsilon: Square(norm=norm, epsilon=epsilon, num_queries=40),
    "pgd": lambda norm, epsilon: PGD(norm=norm, epsilon=epsilon, num_steps=8, restarts=2),
    "autoattack-5-20": lambda norm, epsilon: AutoAttack(norm=norm, epsilon=epsilon, num_steps=5, num_queries=20),
}
both_norms = pytest.mark.parametrize("norm", ["l2", "linf"])
every_attack = pytest.mark.parametrize("name", ATTACKS)


def net(dtype: torch.dtype = torch.float32) -> nn.Sequential:
    layers = nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(256, 5)
    return nn.Sequential(*layers).to(dtype)


@every_attack
@both_norms
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_is_lost_is_inside_and_wrong_and_nothing_else_moves(name: str, norm: BallNorm, dtype: torch.dtype) -> None:
    model = net(dtype)
    x = torch.rand(24, 1, 8, 8, dtype=dtype)
    y = model.eval()(x).argmax(dim=1)
    y[::4] = (y[::4] + 1) % 5  # wrong from the start
    lost = 0
    for epsilon in (0.02, 3.0 if norm == "l2" else 0.3):
        attack = ATTACKS[name](norm, epsilon)
        assert attack.name == name
        result = attack(model, x, y)
        assert result.right.tolist() == [index % 4 != 0 for index in range(24)]
        fell = result.right & ~result.survived
        lost += int(fell.sum())
        assert [by is not None for by in result.lost_to] == fell.tolist()
        assert torch.equal(result.images[~fell], x[~fell])
        assert torch.equal(result.distance > 0, fell)
        difference = (result.images.double() - x.double()).flatten(1)
        distance = difference.norm(dim=1) if norm == "l2" else difference.abs().amax(dim=1)
        assert torch.allclose(distance, result.distance, rtol=1e-12)
        assert float(distance.max()) <= epsilon * (1 + 1e-6)
        assert 0 <= float(result.images.min()) <= float(result.images.max()) <= 1
        assert (model(result.images).argmax(dim=1) != y)[fell].all()
        assert (model(x).argmax(dim=1) == y)[result.survived].all()
        assert result.forwards >= 24
        assert result.images.dtype == dtype
    assert lost > 0


@every_attack
def test_nothing_is_left_behind(name: str) -> None:
    model = net()
    spectral_norm(model[4])  # its weight is computed from another tensor
    model.train()
    model[1].eval()  # modes of parts are put back too
    model[0].bias.requires_grad_(False)
    x, y = torch.rand(8, 1, 8, 8), torch.randint(5, (8,))
    modes = [module.training for module in model.modules()]
    learned = [parameter.requires_grad for parameter in model.parameters()]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    image, state = x.clone(), torch.random.get_rng_state()
    attack = ATTACKS[name]("l2", 0.2)
    first = attack(model, x, y)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.rand(7)
    again = attack(model, x, y)
    assert torch.equal(first.images, again.images)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert [parameter.requires_grad for parameter in model.parameters()] == learned
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(x, image)


def test_gradients_of_the_caller_stay() -> None:
    model = net()
    x, y = torch.rand(8, 1, 8, 8), torch.randint(5, (8,))
    model(x).sum().backward()
    before = [parameter.grad.clone() for parameter in model.parameters()]  # type: ignore[union-attr]
    for make in ATTACKS.values():
        make("l2", 0.2)(model, x, y)
    for parameter, gradient in zip(model.parameters(), before, strict=True):
        assert torch.equal(parameter.grad, gradient)  # type: ignore[arg-type]


class Cheat(ImageAttack):
    """Returns something else than it may."""

    name = "cheat"  # type: ignore[assignment]
    found: Tensor

    def _runs(self, victim: Victim, classes: int) -> Iterator[Run]:
        yield lambda x, y: type(self).found[: len(x)]


@both_norms
def test_a_search_cannot_overspend(norm: BallNorm) -> None:
    model = net().eval()
    x = torch.rand(16, 1, 8, 8)
    y = model(x).argmax(dim=1)
    for found in (x + 5, torch.full_like(x, torch.nan), 1 - x, x):
        Cheat.found = found
        result = Cheat(norm=norm, epsilon=0.01)(model, x, y)
        assert bool(Cheat(norm=norm, epsilon=0.01).ball.holds(x, result.images).all())
        assert (model(result.images).argmax(dim=1) == y)[result.survived].all()


def test_a_tie_is_no_prediction() -> None:
    class Tie(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            first = x[:, 0, 0, 0] > 0.6  # class 0 leads there, and shares its place elsewhere
            return torch.stack([1 + first.float(), torch.ones(len(x)), torch.zeros(len(x))], dim=1)

    x = torch.full((2, 1, 8, 8), 0.7)
    x[1] = 0.5
    y = torch.zeros(2, dtype=torch.long)
    Cheat.found = torch.full((1, 1, 8, 8), 0.5)
    result = Cheat(norm="linf", epsilon=0.3)(Tie(), x, y)
    assert result.right.tolist() == [True, False]
    assert result.survived.tolist() == [False, False]


def test_what_does_not_fit_is_refused() -> None:
    attack, model = PGD(norm="l2", epsilon=0.1), net()
    x, y = torch.rand(4, 1, 8, 8), torch.zeros(4, dtype=torch.long)
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]: give raw images.*from 0.* to 2"):
        attack(model, torch.linspace(0, 2, 256).view(4, 1, 8, 8), y)
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
        attack(model, x * torch.nan, y)
    with pytest.raises(ValueError, match=r"images \[n, channels, height, width\].*got torch.float32 \[4, 64\]"):
        attack(model, x.flatten(1), y)
    with pytest.raises(ValueError, match=r"float32 or float64, got torch.float16"):
        attack(model, x.half(), y)
    with pytest.raises(ValueError, match=r"one label for each of the 4 images, got torch.int64 \[3\]"):
        attack(model, x, y[1:])
    with pytest.raises(ValueError, match=r"one label for each of the 4 images, got torch.float32"):
        attack(model, x, y.float())
    with pytest.raises(ValueError, match=r"y must lie in 0 … 4, .* from 0 to 5"):
        attack(model, x, torch.tensor([0, 1, 2, 5]))
    with pytest.raises(AttackError, match=r"to scores \[4, classes\] with at least two classes, got \[256\]"):
        attack(nn.Flatten(0), x, y)
    with pytest.raises(AttackError, match="scores that are not finite"):
        attack(nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.LogSigmoid(), Logarithm()), x, y)
    with pytest.raises(AttackError, match="other scores when it is asked again"):
        attack(Noisy(), x, y)
    with pytest.raises(ValueError, match="seed"):
        PGD(norm="l2", epsilon=0.1, seed=-1)
    with pytest.raises(ValueError, match="norm must be"):
        PGD(norm="l1", epsilon=0.1)  # type: ignore[arg-type]
    empty = attack(model, x[:0], y[:0])
    assert empty.images.shape == (0, 1, 8, 8)
    assert empty.lost_to == ()


class Logarithm(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.log()


class Noisy(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.rand(len(x), 5)


def test_settings_tell_every_number_apart() -> None:
    first = APGD(norm="l2", epsilon=0.1)
    assert first.settings() == APGD(norm="l2", epsilon=0.1).settings()
    others = [
        APGD(norm="linf", epsilon=0.1),
        APGD(norm="l2", epsilon=0.2),
        APGD(norm="l2", epsilon=0.1, seed=1),
        APGD(norm="l2", epsilon=0.1, loss="dlr"),
        APGD(norm="l2", epsilon=0.1, num_steps=99),
        APGD(norm="l2", epsilon=0.1, restarts=2),
        PGD(norm="l2", epsilon=0.1),
    ]
    assert all(other.settings() != first.settings() for other in others)


def test_the_library_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torchattacks", None)
    model, x = net().eval(), torch.rand(4, 1, 8, 8)
    y = model(x).argmax(dim=1)
    for make in ATTACKS.values():
        with pytest.raises(ImportError, match=r"torchattacks.*pip install 'contractive-gnn\[images\]'"):
            make("l2", 0.1)(model, x, y)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("name", ["pgd", "apgd-ce", "fab-t"])
def test_an_attack_finds_its_gradients_wherever_it_is_called(name: str, mode: Callable[[], Any]) -> None:
    model = net()
    x = torch.rand(12, 1, 8, 8)
    y = model.eval()(x).argmax(dim=1)
    attack = ATTACKS[name]("l2", 1.0)
    outside = attack(model, x, y)
    assert not bool(outside.survived.all())
    with mode():
        inside = attack(model, x.clone(), y.clone())
    assert torch.equal(inside.images, outside.images)
    assert inside.lost_to == outside.lost_to


def test_a_seed_and_a_loss_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="seed must be below"):
        PGD(norm="l2", epsilon=0.1, seed=2**64)
    with pytest.raises(ValueError, match="loss must be one of ce, dlr, targeted, got"):
        APGD(norm="l2", epsilon=0.1, loss=["ce"])  # type: ignore[arg-type]
