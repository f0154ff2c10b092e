r"""The energy of Hénon and Heiles's system over long times: with the true field, and with learned ones.

    python docs/experiments/long_time.py measure --out docs/results/long_time.jsonl
    python docs/experiments/long_time.py table --out docs/results/long_time.jsonl  # into docs/structure.md

Eight orbits from states of the energy 1/12, their momenta drawn and scaled to it; 10⁵ steps of h = 0.2, in float64. A
line for each field and scheme, with a number for each orbit:

* ``largest``: ``max_k |H(x_k) − H(x_0)|`` of the true H;
* ``first``, ``last``: the same over the first tenth of the steps, and over the last;
* ``slope``, ``slope_error``: of a straight line through the means of a hundred blocks of ``H(x_k) − H(x_0)``, per unit
  of time, with its standard error. A block has a thousand steps, 200 units of time, some thirty periods: the
  oscillation within it is averaged, and what is left of one block in the next is little;
* ``escaped``: how many orbits go beyond 10 in an entry; the true ones stay near 1;
* ``own_…``: likewise of the energy that a learned field says it has;
* ``form``, ``volume``: the largest ``‖MᵀJM − J‖₂`` and ``|det M − 1|`` of the Jacobian M of a step, at each of the
  first 10⁴ steps of all orbits: a number each.

The fields: the true one; a learned ``H = |p|²/2 + V(q)`` with V a perceptron, stepped by Störmer–Verlet in training
too; and a residual network, which has no energy of its own. Each learns the flow over 0.2 from the same trajectories.
A symplectic scheme keeps the energy of a field near its own within a band for times that grow exponentially with 1/h
(Hairer, Lubich, Wanner, *Geometric Numerical Integration*, 2006, section IX.8); an explicit Runge–Kutta scheme does
not.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from appending import Row, append, read
from pages import markdown, write_between
from torch import Tensor, nn

from contractive_gnn.bench.results import current_commit, current_versions
from contractive_gnn.datasets.systems import henon_heiles, simulate
from contractive_gnn.dynamics import (
    PerceptronEnergy,
    PerceptronField,
    QuadraticEnergy,
    SeparableHamiltonian,
    VectorField,
)
from contractive_gnn.integrators import trajectory
from contractive_gnn.nn import Flow
from contractive_gnn.operators import Dense
from contractive_gnn.testing import violations
from contractive_gnn.training.systems import (
    TrajectoryFitOptions,
    fit_trajectories,
    polish_trajectories,
    prediction_error,
)

PAGE = Path(__file__).parents[1] / "structure.md"
ENERGY, STEP, ORBITS, BLOCKS, LOCAL = 1 / 12, 0.2, 8, 100, 10_000
TRUE = ("stormer-verlet", "symplectic-euler", "rk4")
CASES = (*(("true", scheme) for scheme in TRUE), ("hamiltonian", "stormer-verlet"), ("resnet", "euler"))


def starts() -> Tensor:
    """States of the energy 1/12, ``[8, 4]``."""
    system = henon_heiles(largest_energy=ENERGY)
    field = system.field
    assert isinstance(field, SeparableHamiltonian)
    q, p = torch.from_numpy(system.draw(np.random.default_rng(0), ORBITS)).chunk(2, dim=1)
    longer = ((ENERGY - field.potential(q)) / field.kinetic(p)).sqrt()
    return torch.cat([q, longer[:, None] * p], dim=1)


def learned(kind: str, epochs: int) -> tuple[VectorField, float]:
    """A field of 256 weights, or about as many, after a training, and its relative error on ten units of time."""
    torch.manual_seed(0)
    field: VectorField
    if kind == "hamiltonian":
        unit = QuadraticEnergy(torch.eye(2))
        field, scheme = SeparableHamiltonian(unit, PerceptronEnergy(2, 64)), "stormer-verlet"
    else:
        inner, outer, bias = (nn.Parameter(torch.randn(shape) / 2) for shape in ((28, 4), (28, 4), (28,)))
        field, scheme = PerceptronField(Dense(inner), "tanh", outer=Dense(outer), bias=bias), "euler"
    model = Flow(field, num_steps=1, step=STEP, constrained=False, scheme=scheme).double()
    system = henon_heiles(largest_energy=1.2 * ENERGY)
    train = simulate(system, count=64, step=STEP, num_steps=50, seed=1)
    val = simulate(system, count=16, step=STEP, num_steps=50, seed=2)
    fit_trajectories(model, train, TrajectoryFitOptions(epochs=epochs, horizons=(1,)), progress=False)
    polish_trajectories(model, train, iterations=100 * epochs)
    error = prediction_error(model, val).mean
    print(f"{kind}: {sum(w.numel() for w in field.parameters())} weights, validation {error:.2e}")
    return field.requires_grad_(False), error


def fitted(error: np.ndarray[Any, Any], seconds: float) -> tuple[list[float], list[float]]:
    """Slope of a line through the means of blocks, and its standard error, of each column.

    Args:
        error: ``[steps, orbits]``.
        seconds: the time of all steps.
    """
    means = np.stack([block.mean(axis=0) for block in np.array_split(error, BLOCKS)])
    time = (np.arange(BLOCKS) + 0.5) / BLOCKS * seconds
    centred = time - time.mean()
    slope = centred @ means / (centred @ centred)
    left = means - means.mean(axis=0) - centred[:, None] * slope
    deviation = np.sqrt((left**2).sum(axis=0) / (BLOCKS - 2) / (centred @ centred))
    return slope.tolist(), deviation.tolist()


def described(states: Tensor, energy: Callable[[Tensor], Tensor], prefix: str = "") -> dict[str, list[float | None]]:
    """What is in a line of one energy, of ``[steps + 1, orbits, 4]``."""
    values = energy(states)
    error = (values - values[0])[1:].numpy()
    size, tenth = np.abs(error), max(1, len(error) // 10)
    slope, deviation = fitted(error, STEP * len(error))
    found = {
        "largest": size.max(axis=0).tolist(),
        "first": size[:tenth].max(axis=0).tolist(),
        "last": size[-tenth:].max(axis=0).tolist(),
        "slope": slope,
        "slope_error": deviation,
    }
    # JSON has no word for what is not finite
    return {prefix + name: [x if math.isfinite(x) else None for x in numbers] for name, numbers in found.items()}


@torch.no_grad()
def run(kind: str, scheme: str, steps: int, epochs: int) -> Row:
    """The line of a field and a scheme."""
    truth = henon_heiles().field
    with torch.enable_grad():
        field, error = (truth, None) if kind == "true" else learned(kind, epochs)
    states = torch.stack(list(trajectory(field, starts(), step=STEP, num_steps=steps, scheme=scheme)))
    commit, changed = current_commit()
    found: dict[str, Any] = {"field": kind, "scheme": scheme, "step": STEP, "steps": steps}
    found |= {"epochs": epochs, "prediction_error": error}
    found |= {"commit": commit, "changed": changed, "versions": current_versions()}
    found["escaped"] = int((~torch.isfinite(states).all(dim=-1) | (states.abs() > 10).any(dim=-1)).any(dim=0).sum())
    found |= described(states, truth.energy)
    if kind == "hamiltonian":
        found |= described(states, field.energy, "own_")
    kept = violations(
        field, starts(), of=["symplectic", "volume"], step=STEP, num_steps=min(steps, LOCAL), scheme=scheme
    )
    found |= {"form": kept["symplectic"], "volume": kept["volume"]}
    return found


def worst(numbers: Sequence[float | None]) -> str:
    """The largest, or what an orbit without one did."""
    return "escapes" if None in numbers else f"{max(filter(None, numbers), default=0.0):.2e}"


def measure(out: Path, *, steps: int, epochs: int) -> None:
    """Add the lines that are missing."""
    done = {(row["field"], row["scheme"], row["steps"]) for row in read(out)}
    for kind, scheme in CASES:
        if (kind, scheme, steps) not in done:
            row = run(kind, scheme, steps, epochs)
            append(out, [row])
            print(f"{kind}, {scheme}: largest {worst(row['largest'])}, last {worst(row['last'])}")


def table(out: Path) -> str:
    """The lines as a table: the worst orbit, and how many slopes are within one and three of their errors."""
    rows = []
    for row in read(out):
        for prefix, name in (("", "true H"), ("own_", "own H")):
            if prefix + "largest" not in row:
                continue
            slopes, errors = (np.array(row[prefix + column], dtype=float) for column in ("slope", "slope_error"))
            ratios = np.abs(slopes / errors)
            near = f"{int((ratios <= 1).sum())}, {int((ratios <= 3).sum())} of {len(ratios)}"
            sizes = (worst(row[prefix + column]) for column in ("first", "last", "largest"))
            local = f"{row['form']:.0e}, {row['volume']:.0e}"
            names = (row["field"], row["scheme"], name)
            rows.append((*names, *sizes, f"{np.median(ratios):.2f}", near, str(row["escaped"]), local))
    head = (
        "field",
        "scheme",
        "energy",
        "first tenth",
        "last tenth",
        "largest",
        "slope/error",
        "within 1, 3",
        "escaped",
        "form, volume",
    )
    return markdown(head, rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("measure", "table"))
    parser.add_argument("--out", type=Path, required=True, help="file of JSON lines")
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument(
        "--epochs", type=int, default=5, help="of each training; a hundred iterations of L-BFGS for each of them follow"
    )
    given = parser.parse_args(arguments)
    if given.command == "measure":
        measure(given.out, steps=given.steps, epochs=given.epochs)
    else:
        write_between(PAGE, "long time", table(given.out))


if __name__ == "__main__":
    main()
