"""Training a flow map on trajectories."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from contractive_gnn.datasets.systems import Trajectories, pendulum, simulate
from contractive_gnn.dynamics import (
    HamiltonianField,
    PerceptronEnergy,
    QuadraticEnergy,
    RidgeEnergy,
    SeparableHamiltonian,
)
from contractive_gnn.integrators import ConvergenceError
from contractive_gnn.nn import Flow
from contractive_gnn.seeding import seeded
from contractive_gnn.training.least_squares import Damped, LeastSquares
from contractive_gnn.training.systems import (
    CheckpointError,
    TrajectoryFitOptions,
    fit_trajectories,
    polish_trajectories,
    prediction_error,
    rollout,
)

TRAIN = simulate(pendulum(), count=6, step=0.2, num_steps=10)
VAL = simulate(pendulum(), count=3, step=0.2, num_steps=20, seed=1)
QUICK = TrajectoryFitOptions(epochs=3, steps=20, batch_size=32, max_lr=2e-2, horizons=(1, 2, 3))


def network(width: int = 8, *, seed: int = 0) -> Flow:
    with seeded(seed):
        field = SeparableHamiltonian(PerceptronEnergy(1, width), PerceptronEnergy(1, width)).double()
    return Flow(field, num_steps=1, step=0.2, constrained=False, scheme="stormer-verlet")


class Linear(nn.Module):
    """``x ↦ Mx``."""

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        self.matrix = nn.Parameter(matrix)

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.matrix.T


def turning(count: int = 4, times: int = 12) -> Trajectories:
    """Exact trajectories of a rotation by 0.3."""
    angle = torch.tensor(0.3, dtype=torch.float64)
    turn = torch.stack([torch.stack([angle.cos(), -angle.sin()]), torch.stack([angle.sin(), angle.cos()])])
    start = torch.randn(count, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return Trajectories(rollout(Linear(turn), start, times - 1).detach(), step=0.1, name="turning")


def weights(model: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().ravel() for parameter in model.parameters()])


def test_training_lowers_the_loss_and_the_error_of_predictions() -> None:
    model = network()
    before = prediction_error(model, VAL).mean
    result = fit_trajectories(model, TRAIN, QUICK, val=VAL, progress=False)
    assert [epoch.horizon for epoch in result.epochs] == [1, 2, 3]
    assert result.epochs[-1].loss < 0.3 * result.epochs[0].loss
    assert result.epochs[-1].val_error == pytest.approx(prediction_error(model, VAL).mean, rel=1e-12)
    assert prediction_error(model, VAL).mean < 0.5 * before
    assert not model.training


def test_the_loss_is_the_mean_over_steps_of_the_model() -> None:
    """One piece is all that there is: what is reported is its loss at the weights of each step."""
    data = Trajectories(torch.tensor([[[1.0, 2.0], [3.0, 5.0], [4.0, 4.0]]], dtype=torch.float64), 1.0, "one")
    options = TrajectoryFitOptions(epochs=1, steps=1, batch_size=1, horizons=(2,))
    matrix = torch.tensor([[2.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    result = fit_trajectories(Linear(matrix), data, options, progress=False)
    # predicted (2, 2) and (4, 2), less (3, 5) and (4, 4)
    assert result.epochs[0].loss == pytest.approx((1 + 9 + 0 + 4) / 4)


def test_a_linear_map_is_found_and_jitter_makes_it_contract() -> None:
    data = turning()
    options = TrajectoryFitOptions(epochs=2, steps=150, max_lr=5e-2, batch_size=16, horizons=(2,))
    model = Linear(torch.eye(2, dtype=torch.float64))
    fit_trajectories(model, data, options, progress=False)
    assert float(torch.linalg.matrix_norm(model.matrix.detach(), 2)) == pytest.approx(1.0, abs=1e-3)
    noisy = Linear(torch.eye(2, dtype=torch.float64))
    jitter = TrajectoryFitOptions(**{**vars(options), "jitter": 0.5})
    fit_trajectories(noisy, data, jitter, progress=False)
    assert float(torch.linalg.matrix_norm(noisy.matrix.detach(), 2)) < 0.97  # as in ridge regression


def test_a_checkpoint_goes_on_bit_for_bit(tmp_path: Path) -> None:
    whole, part = network(), network()
    fit_trajectories(whole, TRAIN, QUICK, val=VAL, progress=False)
    stopped = _StoppedAfter(part, calls=20 * 1 + 20 * 2 + 20)  # within the second epoch
    with pytest.raises(KeyboardInterrupt):
        fit_trajectories(stopped, TRAIN, QUICK, val=VAL, checkpoint=tmp_path / "c.pt", progress=False)
    again = _StoppedAfter(network(seed=5), calls=10**9)
    result = fit_trajectories(again, TRAIN, QUICK, val=VAL, checkpoint=tmp_path / "c.pt", progress=False)
    assert result.resumed >= 1
    assert torch.equal(weights(again), weights(whole))
    with pytest.raises(CheckpointError, match="belongs to another training"):
        fit_trajectories(again, VAL, QUICK, val=VAL, checkpoint=tmp_path / "c.pt", progress=False)


def test_a_checkpoint_keeps_to_the_tensors_that_do_not_learn(tmp_path: Path) -> None:
    """The mass is no parameter: the training leaves it alone, and so does a checkpoint."""

    def model(mass: float) -> Flow:
        with seeded(0):
            field = SeparableHamiltonian(QuadraticEnergy(mass * torch.eye(1)), RidgeEnergy(1, 8)).double()
        return Flow(field, num_steps=1, step=0.2, constrained=False, scheme="strang")

    for fit in (
        lambda model: fit_trajectories(
            model, TRAIN, TrajectoryFitOptions(epochs=1, steps=5), progress=False, checkpoint=tmp_path / "fit.pt"
        ),
        lambda model: polish_trajectories(
            model, TRAIN, method="lbfgs", iterations=1, checkpoint=tmp_path / "polished.pt"
        ),
    ):
        fit(model(1.0))
        assert fit(model(1.0)).resumed == 1
        other = model(2.0)
        with pytest.raises(CheckpointError, match="which no training changed, had other values there than here"):
            fit(other)
        assert float(other.field.kinetic.matrix) == 2.0  # type: ignore[arg-type, union-attr]


def test_polishing_refuses_a_checkpoint_of_a_model_that_answers_otherwise(tmp_path: Path) -> None:
    file = tmp_path / "p.pt"
    polish_trajectories(network(), TRAIN, iterations=1, checkpoint=file)
    turned = network()
    turned.register_forward_hook(lambda module, given, answer: -answer)
    with pytest.raises(CheckpointError, match="Flow gives other answers than it gave then"):
        polish_trajectories(turned, TRAIN, iterations=1, checkpoint=file)


class _StoppedAfter(nn.Module):
    """A model that is interrupted."""

    def __init__(self, model: nn.Module, *, calls: int) -> None:
        super().__init__()
        self.model = model
        self._left = calls

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self._left -= 1
            if self._left < 0:
                raise KeyboardInterrupt
        answer: Tensor = self.model(x)
        return answer


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"train": TRAIN.states}, TypeError, "train must be Trajectories, as simulate gives, got Tensor"),
        ({"val": 3}, TypeError, "val must be Trajectories"),
        ({"options": 3}, TypeError, "options must be TrajectoryFitOptions"),
        ({"options": TrajectoryFitOptions(horizons=(11,))}, ValueError, "reaches over 11 steps, and a trajectory"),
        ({"val": simulate(pendulum(), count=2, step=0.1, num_steps=9)}, ValueError, "a flow map is that of one step"),
        ({"model": nn.Linear(2, 3).double()}, ValueError, "a step keeps the shape"),
        ({"model": nn.Identity()}, ValueError, "no parameter that learns"),
        ({"seed": -1}, ValueError, "seed must be at least 0"),
        ({"progress": 1}, TypeError, "progress must be True or False"),
    ],
)
def test_what_cannot_be_trained_is_refused(changed: dict[str, Any], error: type[Exception], message: str) -> None:
    given = {"model": network(), "train": TRAIN, "options": QUICK, "val": None, "seed": 0, "progress": False} | changed
    with pytest.raises(error, match=message):
        fit_trajectories(given.pop("model"), given.pop("train"), given.pop("options"), **given)


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"horizons": ()}, TypeError, "horizons must be a tuple"),
        ({"horizons": 3}, TypeError, "horizons must be a tuple"),
        ({"horizons": (0,)}, ValueError, "horizons must be at least 1"),
        ({"horizons": (1, 2), "epochs": 1}, ValueError, "2 horizons are to share 1 epochs"),
        ({"jitter": -0.1}, ValueError, "jitter must be at least 0"),
        ({"steps": 0}, ValueError, "steps must be at least 1"),
        ({"optimiser": "lbfgs"}, ValueError, "optimiser must be one of 'adam', 'adamw', 'sgd'"),
        ({"max_lr": 0.0}, ValueError, "max_lr must be positive"),
    ],
)
def test_options_that_make_no_sense_are_refused(changed: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        TrajectoryFitOptions(**changed)


def test_horizons_share_the_epochs() -> None:
    options = TrajectoryFitOptions(epochs=7, horizons=(3, 4, 5))
    assert [options.horizon(epoch) for epoch in range(7)] == [3, 3, 3, 4, 4, 5, 5]


# second-order steps


def test_polishing_goes_far_below_what_training_reaches() -> None:
    found = {}
    for method in ("lbfgs", "levenberg-marquardt"):
        model = network(16)
        fit_trajectories(model, TRAIN, TrajectoryFitOptions(epochs=1, steps=100, horizons=(1,)), progress=False)
        result = polish_trajectories(model, TRAIN, method=method, iterations=200 if method == "lbfgs" else 40)
        assert result.losses == tuple(sorted(result.losses, reverse=True))
        assert result.losses[-1] < 1e-2 * result.losses[0]
        pieces = TRAIN.windows(2)
        loss = float((model(pieces[:, 0]) - pieces[:, 1]).detach().square().mean())
        assert loss == pytest.approx(result.losses[-1])
        assert all(parameter.grad is None for parameter in model.parameters())
        assert not model.training
        found[method] = len(result.losses)
    assert found == {"lbfgs": 3, "levenberg-marquardt": 5}


@pytest.mark.parametrize("method", ["lbfgs", "levenberg-marquardt"])
def test_a_small_loss_is_not_the_end_of_it(method: str) -> None:
    """torch's own L-BFGS stops on this loss of 1e-9, since it keeps no curvature: the scale is what helps."""
    data = turning()
    small = Trajectories(1e-4 * data.states, data.step, "small")
    model = Linear(torch.eye(2, dtype=torch.float64))
    result = polish_trajectories(model, small, method=method, iterations=100 if method == "lbfgs" else 20, horizon=2)
    assert result.losses[0] < 1e-8
    assert result.losses[-1] < 1e-20 * result.losses[0]
    assert float(torch.linalg.matrix_norm(model.matrix.detach(), 2)) == pytest.approx(1.0, abs=1e-9)


def test_a_damped_step_is_that_of_the_normal_equations() -> None:
    """One step from the identity on a linear problem, with λ = 1e-2, by hand."""
    data = turning()
    pieces = data.windows(2)
    model = Linear(torch.eye(2, dtype=torch.float64))
    squares = LeastSquares(model, pieces)
    loss = float((pieces[:, 0] - pieces[:, 1]).square().mean())
    state = squares.descend(Damped(loss, 1e-2, 0), iterations=1)
    x, y = pieces[:, 0], pieces[:, 1]
    normal = x.T @ x
    normal = normal + 1e-2 * torch.diag(torch.diagonal(normal))
    by_hand = torch.eye(2, dtype=torch.float64) + torch.linalg.solve(normal, x.T @ (y - x)).T
    torch.testing.assert_close(model.matrix.detach(), by_hand)
    assert state.damping == pytest.approx(2e-3)
    assert state.evaluations == 2
    assert state.loss < 1e-3 * loss


def test_steps_that_raise_the_loss_are_not_taken() -> None:
    class Bent(nn.Module):
        """``x ↦ x + arctan(10 w)``, whose tangent at w = 1 points far beyond the minimum at 0."""

        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.ones((), dtype=torch.float64))

        def forward(self, x: Tensor) -> Tensor:
            return x + (10 * self.w).atan()

    still = Trajectories(torch.ones(2, 4, 1, dtype=torch.float64), 0.1, "still")
    model = Bent()
    result = polish_trajectories(model, still, iterations=30)
    assert result.losses == tuple(sorted(result.losses, reverse=True))
    assert result.losses[-1] < 1e-20
    assert result.evaluations > 2 * 6  # some were tried in vain


@pytest.mark.parametrize("method", ["lbfgs", "levenberg-marquardt"])
def test_polishing_goes_on_bit_for_bit(method: str, tmp_path: Path) -> None:
    count = {"lbfgs": 100, "levenberg-marquardt": 10}[method]
    whole, part = network(), network()
    all_at_once = polish_trajectories(whole, TRAIN, method=method, iterations=2 * count, horizon=2)
    file = tmp_path / "p.pt"
    polish_trajectories(part, TRAIN, method=method, iterations=count, horizon=2, checkpoint=file)
    again = network()
    result = polish_trajectories(again, TRAIN, method=method, iterations=2 * count, horizon=2, checkpoint=file)
    assert result.resumed == 1
    assert result.losses == all_at_once.losses
    assert result.evaluations == all_at_once.evaluations
    assert torch.equal(weights(again), weights(whole))
    with pytest.raises(CheckpointError, match="belongs to another training"):
        polish_trajectories(network(seed=1), TRAIN, method=method, horizon=2, checkpoint=file)


def test_a_line_search_beyond_what_an_implicit_scheme_solves_ends_the_round() -> None:
    class Narrow(Linear):
        """A map that is computed for small weights alone."""

        refused = 0

        def forward(self, x: Tensor) -> Tensor:
            if float(self.matrix.detach()[0, 0]) < 0.97:
                self.refused += 1
                raise ConvergenceError("no solution")
            return super().forward(x)

    model = Narrow(torch.eye(2, dtype=torch.float64))
    # the minimum has cos 0.3 = 0.955 there
    result = polish_trajectories(model, turning(), method="lbfgs", iterations=200)
    assert model.refused > 0
    assert 0.0 < result.losses[-1] <= result.losses[0]
    pieces = turning().windows(2)
    assert float((model(pieces[:, 0]) - pieces[:, 1]).detach().square().mean()) == pytest.approx(result.losses[-1])


def implicit() -> Flow:
    with seeded(0):
        field = HamiltonianField(PerceptronEnergy(2, 4)).double()
    return Flow(field, num_steps=1, step=0.2, constrained=False, scheme="implicit-midpoint")


@pytest.mark.parametrize(
    ("model", "changed", "error", "message"),
    [
        (network().float(), {}, ValueError, "the model is of torch.float32"),
        (nn.Identity(), {}, ValueError, "no parameter that learns"),
        (network(), {"method": "newton"}, ValueError, "method must be one of 'levenberg-marquardt', 'lbfgs'"),
        (network(), {"iterations": 0}, ValueError, "iterations must be at least 1"),
        (network(), {"horizon": 11}, ValueError, "horizon must be below 11"),
        (implicit(), {}, ValueError, "Flow cannot be differentiated by torch.func .*; take method='lbfgs'"),
        (Linear(torch.full((2, 2), torch.inf).double()), {}, FloatingPointError, "train the model before"),
    ],
)
def test_what_cannot_be_polished_is_refused(
    model: nn.Module, changed: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        polish_trajectories(model, TRAIN, **changed)


def test_an_implicit_scheme_is_polished_by_gradients() -> None:
    model = implicit()
    result = polish_trajectories(model, TRAIN, method="lbfgs", iterations=1)
    assert result.losses[1] < 0.1 * result.losses[0]


def test_a_jacobian_that_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("contractive_gnn.training.least_squares.LARGEST", 90)
    with pytest.raises(ValueError, match="2 residuals of a piece by 48 weights is too large to be held"):
        polish_trajectories(network(), TRAIN)


def test_residuals_of_answers_of_another_shape_are_refused() -> None:
    squares = LeastSquares(nn.Linear(2, 1).double(), TRAIN.windows(2))
    for asked in (squares.residuals, squares.normal_equations):
        with pytest.raises(ValueError, match="a step keeps the shape"):
            asked(squares.weights())


# predictions


def test_the_error_is_one_for_the_mean_and_nought_for_the_truth() -> None:
    data = turning()
    exact = Linear(torch.linalg.lstsq(data.windows(2)[:, 0], data.windows(2)[:, 1]).solution.T)
    exact.train()
    assert prediction_error(exact, data).largest < 1e-12
    assert exact.training
    mean = data.states.flatten(0, 1).mean(dim=0)

    class Constant(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return mean.expand_as(x)

    error = prediction_error(Constant(), data, num_steps=5)
    assert error.num_steps == 5
    squares = (data.states[:, :6] - data.states[:, :6].flatten(0, 1).mean(dim=0))[:, 1:].square().sum(dim=(1, 2))
    truth = (data.states[:, 1:6] - mean).square().sum(dim=(1, 2))
    torch.testing.assert_close(error.errors, (truth / squares).sqrt(), rtol=1e-6, atol=0)
    assert error.mean == pytest.approx(1.0, abs=0.2)
    assert error.median <= error.largest


def test_a_prediction_that_runs_away_has_an_infinite_error() -> None:
    error = prediction_error(Linear(torch.full((2, 2), 1e200, dtype=torch.float64)), turning())
    assert error.largest == float("inf")
    still = Trajectories(torch.ones(2, 3, 1, dtype=torch.float64), 0.1, "still")
    with pytest.raises(ValueError, match="stays at the mean of all"):
        prediction_error(nn.Identity(), still)
