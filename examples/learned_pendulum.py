"""A pendulum learned from trajectories: one network has a Hamiltonian, the other has none.

    python examples/learned_pendulum.py --out pendulum.png          # under a minute; --quick takes a third of it

Both see the same swings of five seconds with noise of 0.02, and have as many weights as each other. Both predict fifty
seconds. The network with a Hamiltonian steps through it by a symplectic scheme: whatever its weights are, each of its
steps keeps areas in the phase plane, and its energy stays within a band. Nothing holds the other one.
"""

# %% Data: angle and momentum every 0.2 seconds, with noise
from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor, nn

from contractive_gnn.datasets.systems import Trajectories, pendulum, simulate
from contractive_gnn.dynamics import PerceptronField, RidgeEnergy, SeparableHamiltonian
from contractive_gnn.nn import Flow
from contractive_gnn.operators import Dense
from contractive_gnn.testing.steps import sample_jacobians, volume_defect
from contractive_gnn.training.systems import (
    TrajectoryFitOptions,
    fit_trajectories,
    polish_trajectories,
    prediction_error,
    rollout,
)

STEP, SEEN, PREDICTED = 0.2, 25, 250


# %% Two flow maps of 192 and 190 weights: x(t) ↦ x(t + 0.2)
def hamiltonian(width: int = 32) -> nn.Module:
    """``H = T(p) + V(q)``, both learned, and one symplectic step of order 4."""
    field = SeparableHamiltonian(RidgeEnergy(1, width), RidgeEnergy(1, width)).double()
    return Flow(field, num_steps=1, step=STEP, constrained=False, scheme="blanes-moan")


def residual(width: int = 19) -> nn.Module:
    """Two residual blocks ``x + Aᵀ tanh(Bx + b)``."""

    def block() -> Flow:
        inner, outer = (Dense(nn.Parameter(torch.randn(width, 2) / size**0.5)) for size in (2, width))
        field = PerceptronField(inner, "tanh", outer=outer, bias=nn.Parameter(torch.rand(width))).double()
        return Flow(field, num_steps=1, step=1.0, constrained=False)

    return nn.Sequential(block(), block())


# %% Training: a little of Adam, then Levenberg-Marquardt steps on all pieces of trajectories at once
def train(model: nn.Module, data: Trajectories, *, iterations: int) -> None:
    """Fit a flow map in place."""
    fit_trajectories(model, data, TrajectoryFitOptions(epochs=1, steps=300, max_lr=2e-2, horizons=(1,)), progress=False)
    polish_trajectories(model, data, iterations=iterations, horizon=5)  # over five steps: the first state is noisy too


# %% The picture: an orbit in the phase plane, and the true energy along it
def picture(orbits: dict[str, Tensor], energies: dict[str, Tensor], file: Path) -> None:
    """Draw predictions beside the truth."""
    import matplotlib.pyplot as plt

    from contractive_gnn.palette import COLOURS, STYLE

    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 3, figsize=(12, 3.8), constrained_layout=True)
        for place, name in enumerate(("Hamiltonian", "residual")):
            colour = COLOURS[place]
            axes[place].plot(*orbits["true"].T, color="#999999", linewidth=1, label="true")
            axes[place].plot(*orbits[name].T, ".", color=colour, markersize=3, label=f"{name}, predicted")
            axes[place].plot(*orbits[name][: SEEN + 1].T, ".", color="black", markersize=4, label="as long as seen")
            axes[place].set(title=name, xlabel="q", ylabel="p", aspect="equal")
            axes[place].legend(fontsize=8, loc="center")
            time = STEP * torch.arange(PREDICTED + 1)
            axes[2].plot(time, energies[name], color=colour, label=name)
        reach = 1.25 * float(orbits["true"].abs().max())
        for axis in axes[:2]:
            axis.set(xlim=(-reach, reach), ylim=(-reach, reach))
        axes[2].axvspan(0, STEP * SEEN, color="#dddddd", label="as long as seen")
        axes[2].plot(time, energies["true"], color="#999999", label="true")
        axes[2].set(title="energy", xlabel="time")
        axes[2].legend(fontsize=8)
        file.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(file, dpi=120)
        plt.close(figure)


def main() -> None:
    """Learn, predict, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer steps of training")
    parser.add_argument("--out", type=Path, default=Path("learned_pendulum.png"))
    options = parser.parse_args()
    torch.manual_seed(0)
    system = pendulum()
    data = simulate(system, count=10 if options.quick else 30, step=STEP, num_steps=SEEN, noise=0.02, seed=0)
    test = simulate(system, count=20, step=STEP, num_steps=PREDICTED, seed=1)
    energy = system.invariants["energy"]
    largest = int(energy(test.states[:, 0]).argmax())  # the widest swing is the hardest
    orbits = {"true": test.states[largest]}
    energies = {"true": energy(orbits["true"])}
    for name, model in (("Hamiltonian", hamiltonian()), ("residual", residual())):
        train(model, data, iterations=10 if options.quick else 20)
        with torch.no_grad():
            orbits[name] = rollout(model, test.states[largest, :1], PREDICTED)[0]
        energies[name] = energy(orbits[name])
        area = float(volume_defect(sample_jacobians(model, orbits[name])).max())
        near, far = (prediction_error(model, test, num_steps=steps).mean for steps in (SEEN, PREDICTED))
        print(
            f"{name}: relative error {near:.1e} over {STEP * SEEN:g} s, {far:.1e} over {STEP * PREDICTED:g} s; "
            f"a step changes areas by {area:.0e}, and the energy drifts by "
            f"{float((energies[name] - energies[name][0]).abs().max()):.1e}"
        )
    picture(orbits, energies, options.out)
    print(f"picture: {options.out}")


if __name__ == "__main__":
    main()
