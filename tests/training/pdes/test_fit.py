"""Training on solutions: it learns, goes on where it stopped, and refuses what it cannot use."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from contractive_gnn.datasets.pdes import PixelData, laplacian_symbol, linear_solution, load_pde, plane_waves
from contractive_gnn.dynamics import SumField
from contractive_gnn.dynamics.pdes import FiniteDifferences, exact_network, heat, untrained_network
from contractive_gnn.integrators import SphereProjection
from contractive_gnn.nn import Flow
from contractive_gnn.training import least_squares
from contractive_gnn.training.images import CheckpointError
from contractive_gnn.training.least_squares import LeastSquares
from contractive_gnn.training.pdes import PixelFitOptions, PixelRound, fit, fit_pixels, relative_errors, rollout

SIZE = 24
SMALL = PixelFitOptions(horizons=(1, 2), rounds=2, iterations=4)


def data(count: int = 3, steps: int = 2, seed: int = 0) -> PixelData:
    """Long waves of the heat equation, which decay slowly."""
    grid, step = (SIZE, SIZE), 0.24 / SIZE**2 / 0.01
    start = plane_waves(count, grid, generator=torch.Generator().manual_seed(seed), waves=(1, 3))
    states = linear_solution(start, 0.01 * laplacian_symbol(grid, 1 / SIZE), [k * step for k in range(steps + 1)])
    return PixelData(states.unsqueeze(2), step=step, spacing=1 / SIZE, name="long waves")


def network(train: PixelData, seed: int = 0, **flow: object) -> Flow:
    torch.manual_seed(seed)
    field = untrained_network((SIZE, SIZE)).double()
    return Flow(field, num_steps=3, step=train.step / 3, constrained=False, **flow)  # type: ignore[arg-type]


def weights(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def test_it_learns_a_step_of_the_heat_equation() -> None:
    train, test = data(16, 2), data(3, 2, seed=1)
    model = network(train)
    before = float(relative_errors(model, test)[:, -1].mean())
    result = fit_pixels(
        model, train, PixelFitOptions(horizons=(1, 2), rounds=2, iterations=60), val=test, progress=False
    )
    after = float(relative_errors(model, test)[:, -1].mean())
    assert not model.training
    assert after == pytest.approx(result.rounds[-1].val_error)  # type: ignore[arg-type]
    assert after < 0.1 * before
    assert [one.horizon for one in result.rounds] == [1, 1, 2, 2]
    assert result.rounds[1].loss < result.rounds[0].loss
    assert result.rounds[-1].evaluations > 60


def test_what_is_exact_already_stays_so() -> None:
    train = data()
    equation = heat((SIZE, SIZE), alpha=0.01, spacing=1 / SIZE)
    field = exact_network(equation, learned=True, dtype=torch.float64)
    model = Flow(field, num_steps=3, step=train.step / 3, constrained=False)
    states = rollout(model, train.states[:, 0], 2).detach()
    own = replace(train, states=states)
    result = fit_pixels(model, own, SMALL, progress=False)
    assert result.rounds[-1].loss < 1e-20


def test_a_training_goes_on_where_it_stopped(tmp_path: Path) -> None:
    train = data()
    whole, parts = network(train), network(train)
    fit_pixels(whole, train, SMALL, progress=False)
    path = tmp_path / "heat.pt"

    class Stop(Exception):
        pass

    calls = 0

    def forward(x: torch.Tensor, plain: object = parts.forward) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls > 25:
            raise Stop
        return plain(x)  # type: ignore[operator,no-any-return]

    parts.forward = forward  # type: ignore[method-assign]
    with pytest.raises(Stop):
        fit_pixels(parts, train, SMALL, checkpoint=path, progress=False)
    again = network(train, seed=5)  # whatever it starts from
    result = fit_pixels(again, train, SMALL, checkpoint=path, progress=False)
    assert 0 < result.resumed < 4
    assert torch.equal(weights(again), weights(whole))
    lines = [json.loads(line) for line in path.with_suffix(".jsonl").read_text().splitlines()]
    assert [line["round"] for line in lines] == [1, 2, 3, 4]
    assert fit_pixels(again, train, SMALL, checkpoint=path, progress=False).resumed == 4
    for other in (replace(SMALL, noise=0.1), replace(SMALL, iterations=5)):
        with pytest.raises(CheckpointError, match="another training"):
            fit_pixels(again, train, other, checkpoint=path, progress=False)
    with pytest.raises(CheckpointError, match="another training"):
        fit_pixels(again, data(seed=4), SMALL, checkpoint=path, progress=False)


def test_a_checkpoint_keeps_to_its_equation_its_arguments_and_its_validation(tmp_path: Path) -> None:
    train, path = data(2, 1), tmp_path / "heat.pt"
    options = PixelFitOptions(horizons=(1,), rounds=1, iterations=2)

    def model(alpha: float = 0.01, **flow: object) -> Flow:
        torch.manual_seed(0)
        known = FiniteDifferences(heat((SIZE, SIZE), alpha=alpha, spacing=1 / SIZE), dtype=torch.float64)
        field = SumField(known, untrained_network((SIZE, SIZE)).double())
        return Flow(field, num_steps=3, step=train.step / 3, constrained=False, **flow)  # type: ignore[arg-type]

    fit_pixels(model(), train, options, checkpoint=path, progress=False)
    assert fit_pixels(model(), train, options, checkpoint=path, progress=False).resumed == 1
    with pytest.raises(CheckpointError, match=r"another model: .*\.kernel, which no training changed"):
        fit_pixels(model(alpha=0.02), train, options, checkpoint=path, progress=False)
    with pytest.raises(CheckpointError, match="val: None there, long waves"):
        fit_pixels(model(), train, options, val=data(1, 1, seed=1), checkpoint=path, progress=False)
    frozen = model()
    next(parameter for parameter in frozen.parameters() if parameter.requires_grad).requires_grad_(False)
    with pytest.raises(CheckpointError, match="learned there or learn here, not both"):
        fit_pixels(frozen, train, options, checkpoint=path, progress=False)
    turned = model()
    turned.register_forward_hook(lambda module, given, answer: -answer)
    with pytest.raises(CheckpointError, match="Flow gives other answers than it gave then"):
        fit_pixels(turned, train, options, checkpoint=path, progress=False)


def test_noise_is_drawn_from_the_seed_and_changes_what_is_learned() -> None:
    train = data()
    found = {}
    for name, noise, seed in (("none", 0.0, 0), ("none again", 0.0, 1), ("some", 0.1, 0), ("other", 0.1, 1)):
        model = network(train)
        fit_pixels(model, train, replace(SMALL, noise=noise), seed=seed, progress=False)
        found[name] = weights(model)
    assert torch.equal(found["none"], found["none again"])
    assert not torch.allclose(found["none"], found["some"])
    assert not torch.allclose(found["some"], found["other"])


def test_least_squares_go_to_the_bottom_where_gradients_stop() -> None:
    train = data(4, 1)
    ends = {}
    for method in ("lbfgs", "levenberg-marquardt"):
        model = network(train)
        options = PixelFitOptions(horizons=(1,), rounds=1, iterations=15, method=method)  # type: ignore[arg-type]
        ends[method] = fit_pixels(model, train, options, progress=False).rounds[-1].loss
    assert ends["levenberg-marquardt"] < 1e-3 * ends["lbfgs"]


def test_least_squares_go_on_where_they_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train, path = data(2, 1), tmp_path / "heat.pt"
    options = PixelFitOptions(horizons=(1,), rounds=3, iterations=1, noise=0.05, method="levenberg-marquardt")
    whole, stopped, other = network(train), network(train), network(train, seed=5)
    fit_pixels(whole, train, options, progress=False)

    class Stop(Exception):
        pass

    def one_round(*given: Any, plain: Callable[..., PixelRound] = fit._round) -> PixelRound:
        if given[3]:
            raise Stop
        return plain(*given)

    with monkeypatch.context() as patch:
        patch.setattr(fit, "_round", one_round)
        with pytest.raises(Stop):
            fit_pixels(stopped, train, options, checkpoint=path, progress=False)
    again = fit_pixels(other, train, options, checkpoint=path, progress=False)
    assert again.resumed == 1
    assert again.rounds[2].loss < again.rounds[1].loss < again.rounds[0].loss
    assert torch.equal(weights(other), weights(whole))
    with pytest.raises(CheckpointError, match="another training"):
        fit_pixels(other, train, replace(options, method="lbfgs"), checkpoint=path, progress=False)


@pytest.mark.parametrize("projected", [False, True])
def test_the_jacobian_is_that_of_the_weighted_residuals(projected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    train = data(2, 2)
    model = network(train, scheme=SphereProjection("euler", dim=(-3, -2, -1)) if projected else "euler")
    counts = torch.tensor([[1.0, 2.0], [0.5, 0.0]], dtype=torch.float64)
    squares = LeastSquares(model, train.states, counts)
    at = squares.weights()
    torch.testing.assert_close(
        squares.residuals(at).square().mean(),
        (counts * (rollout(model, train.states[:, 0], 2) - train.states)[:, 1:].flatten(2).square().mean(2)).mean(),
    )
    jacobian = squares.jacobian(at, train.states, counts.sqrt())
    assert jacobian.shape == (2 * 2 * SIZE**2, at.numel())
    assert float(jacobian[-(SIZE**2) :].abs().max()) == 0.0 < float(jacobian.abs().max())
    direction = torch.randn(at.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    change = (squares.residuals(at + 1e-6 * direction) - squares.residuals(at - 1e-6 * direction)) / 2e-6
    largest = float(jacobian.abs().max())
    torch.testing.assert_close(jacobian @ direction, change, rtol=0.0, atol=1e-7 * largest)
    if not projected:  # whose step branches on a value, which reverse mode over pieces cannot
        by_rows = squares._by_rows(at, train.states, counts.sqrt())
        torch.testing.assert_close(jacobian, by_rows, rtol=0.0, atol=1e-12 * largest)
    monkeypatch.setattr(least_squares, "CACHED", 0)  # one piece at a time
    normal, slope = LeastSquares(model, train.states, counts).normal_equations(at)
    torch.testing.assert_close(normal, jacobian.T @ jacobian)
    torch.testing.assert_close(slope, jacobian.T @ squares.residuals(at))


def test_the_projection_keeps_the_norm_of_what_is_learned() -> None:
    train = load_pde("advection", count=2, steps=2, size=SIZE, dtype=torch.float64)
    projected = network(train, scheme=SphereProjection("euler", dim=(-3, -2, -1)))
    plain = network(train)
    for model, kept in ((projected, True), (plain, False)):
        fit_pixels(model, train, SMALL, progress=False)
        with torch.no_grad():
            states = rollout(model, train.states[:, 0], 50)
        norms = states.flatten(2).norm(dim=2)
        drift = float((norms / norms[:, :1] - 1).abs().max())
        assert (drift < 1e-12) == kept
        assert kept or drift > 1e-6


def test_losses_weigh_steps_differently() -> None:
    train = data()
    found = [
        fit_pixels(network(train), train, replace(SMALL, loss=loss), progress=False).rounds[-1].loss  # type: ignore[arg-type]
        for loss in ("mse", "relative")
    ]
    assert found[0] < found[1]


def test_a_line_search_that_blows_up_leaves_the_best_weights() -> None:
    train = load_pde("heat", count=3, steps=3, size=12, waves=(1, 2), dtype=torch.float64)
    torch.manual_seed(17)
    field = untrained_network((12, 12), taps=3, width=6, power=2).double()
    model = Flow(field, num_steps=3, step=1 / 3, constrained=False)
    before = float(relative_errors(model, train).square().mean())
    options = PixelFitOptions(horizons=(3,), rounds=6, iterations=8)
    losses = [one.loss for one in fit_pixels(model, train, options, progress=False).rounds]
    assert bool(weights(model).isfinite().all())
    assert [before, *losses] == sorted([before, *losses], reverse=True)
    assert float(relative_errors(model, train).square().mean()) == pytest.approx(losses[-1])


def test_a_start_that_blows_up_is_left_as_it_is() -> None:
    train = data()
    for method in ("lbfgs", "levenberg-marquardt"):
        model = network(train)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(1e200)
        before = weights(model)
        with pytest.raises(FloatingPointError, match="with a horizon of 1 steps: the network blows up from where it"):
            fit_pixels(model, train, replace(SMALL, method=method), progress=False)  # type: ignore[arg-type]
        assert torch.equal(weights(model), before)


def test_a_solution_that_is_nought_has_no_relative_loss_or_error() -> None:
    train = data()
    states = train.states.clone()
    states[1, 2] = 0.0
    nought = replace(train, states=states)
    model = network(train)
    with pytest.raises(ValueError, match=r"solution 1 of long waves .* 0 after step 2, .*take loss='mse'"):
        fit_pixels(model, nought, SMALL, progress=False)
    with pytest.raises(ValueError, match="solution 1 of long waves is 0 after step 2"):
        fit_pixels(model, train, SMALL, val=nought, progress=False)
    with pytest.raises(ValueError, match="solution 1 of long waves is 0 after step 2"):
        relative_errors(model, nought)
    fit_pixels(model, nought, replace(SMALL, loss="mse"), progress=False)
    fit_pixels(model, nought, replace(SMALL, horizons=(1,)), progress=False)  # which does not look so far


def test_what_blows_up_is_infinitely_far_off() -> None:
    train = data(1, 2)
    model = network(train)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1e200)
    assert bool(torch.isinf(relative_errors(model, train)).all())
    with pytest.raises(FloatingPointError, match="the network blows up"):
        fit_pixels(model, train, SMALL, progress=False)


def test_arguments_are_checked() -> None:
    train = data()
    model = network(train)
    with pytest.raises(ValueError, match="has 2 steps, fewer than the horizon of 5"):
        fit_pixels(model, train)
    with pytest.raises(TypeError, match="train states of torch"):
        fit_pixels(model, train.to(torch.float32), SMALL)
    with pytest.raises(TypeError, match="train must be PixelData"):
        fit_pixels(model, train.states, SMALL)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="options must be PixelFitOptions"):
        fit_pixels(model, train, {"rounds": 2})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"val every .*give both the same step"):
        fit_pixels(model, train, SMALL, val=replace(train, step=2 * train.step))
    fixed = Flow(exact_network(heat((SIZE, SIZE), alpha=0.01)).double(), num_steps=1, step=0.1, constrained=False)
    with pytest.raises(ValueError, match="no parameter that learns"):
        fit_pixels(fixed, train, SMALL)
    for wrong in ({"horizons": ()}, {"horizons": [1]}):
        with pytest.raises(TypeError, match="horizons must be a tuple"):
            PixelFitOptions(**wrong)  # type: ignore[arg-type]
    for name, value in (("rounds", 0), ("noise", -1.0), ("horizons", (0,)), ("loss", "l1"), ("method", "adam")):
        with pytest.raises(ValueError, match=name):
            PixelFitOptions(**{name: value})  # type: ignore[arg-type]
