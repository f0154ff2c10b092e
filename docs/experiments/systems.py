r"""Learn systems from trajectories, and predict ten times as far: structure against none, ours against others'.

    python docs/experiments/systems.py train --systems pendulum --networks separable resnet      # and so on
    python docs/experiments/systems.py table                 # writes into docs/systems.md
    python docs/experiments/systems.py picture               # docs/images/systems.png

``system_networks.py`` has the networks, of equal numbers of weights. ``strupnet-*`` needs strupnet 0.0.4,
``sympnetstorch`` SympNetsTorch 0.0.2, ``neural-ode`` torchdiffeq 0.2.5. All are trained in float64 in the same way: an
epoch of Adam, then Levenberg's and Marquardt's method on all pieces at once, by
:func:`contractive_gnn.training.systems.polish_trajectories`; ``general``, which is implicit, and ``sphere``, which is
projected, by ten times as many iterations of L-BFGS. Nothing is chosen by validation or test. A line for each training
has

* ``error``: of predictions of test trajectories over the training's horizon, and ten times it: relative, see
  :class:`contractive_gnn.training.systems.PredictionError`;
* ``invariants``: the largest change of each true invariant over ten horizons, by its spread over the test set;
* ``violations``: what is kept by 10,000 steps of the network, from one test state: the drift of mass and norm, and at
  *each* step ``|det M − 1|`` and ``‖MᵀJM − J‖₂``; null where it ran away.

``train`` goes on where it was stopped: weights lie in ``--scratch`` after every 10 iterations (of L-BFGS 100).
"""

from __future__ import annotations

import argparse
import itertools
import math
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from appending import Row, append, read
from pages import markdown, write_between
from system_networks import KEPT, OURS, SYMPLECTIC_PEERS, networks, of_equal_size, parameters
from torch import Tensor, nn

from contractive_gnn.bench.results import current_commit, current_versions
from contractive_gnn.datasets.systems import SYSTEMS, System, Trajectories, simulate
from contractive_gnn.extras import needs
from contractive_gnn.integrators import ConvergenceError
from contractive_gnn.seeding import seeded
from contractive_gnn.testing.steps import sample_jacobians, symplectic_defect, volume_defect
from contractive_gnn.training.systems import (
    TrajectoryFitOptions,
    fit_trajectories,
    polish_trajectories,
    prediction_error,
    rollout,
)

TEST_TRAJECTORIES, FURTHER = 50, 10
ITERATIONS = 150
STEPS = 10_000
#: over so many steps the loss reaches: without noise, and with it, when the start of a piece is noisy too
LOSS_STEPS = (2, 5)
#: an implicit scheme and a projection look at values, which torch.func does not allow
BY_GRADIENTS = ("general", "sphere")
PEERS = ("torchdiffeq", "strupnet", "sympnetstorch")


@dataclass(frozen=True)
class Setting:
    """How a system is observed, and how many weights a network has.

    Attributes:
        delta: time between two states.
        num_steps: of a training trajectory.
        count: of training trajectories.
        weights: about so many.
    """

    delta: float
    num_steps: int
    count: int
    weights: int


SETTINGS: Mapping[str, Setting] = {
    "pendulum": Setting(0.2, 25, 50, 192),
    "henon-heiles": Setting(0.2, 25, 100, 384),
    "log-lotka-volterra": Setting(0.2, 25, 50, 192),
    "sir": Setting(1.0, 10, 50, 168),
    "rigid-body": Setting(0.2, 25, 50, 168),
}


def about() -> dict[str, Any]:
    """Where a line comes from."""
    commit, changed = current_commit()
    versions = current_versions()
    for package in PEERS:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    return {"commit": commit, "uncommitted_changes": changed, "versions": versions}


# train ---------------------------------------------------------------------------------------------------------------


def train(name: str, network: str, *, seed: int, noise: float, iterations: int, scratch: Path) -> dict[str, Any]:
    """Train one network on one system, and measure it: a line."""
    system, setting = SYSTEMS[name](), SETTINGS[name]
    observed = {"step": setting.delta, "num_steps": setting.num_steps}
    train_set = simulate(system, count=setting.count, noise=noise, seed=0, **observed)
    test = simulate(
        system, count=TEST_TRAJECTORIES, step=setting.delta, num_steps=FURTHER * setting.num_steps, seed=1000
    )
    build = networks(system)[network]
    width = of_equal_size(build, system.dim, setting.delta, setting.weights)
    with seeded(seed):
        model = build(system.dim, setting.delta, width)
    line: dict[str, Any] = {
        "kind": "train",
        "system": name,
        "network": network,
        "seed": seed,
        "noise": noise,
        "iterations": iterations,
        "width": width,
        "parameters": parameters(model),
        "horizon": setting.num_steps,
        "loss_steps": LOSS_STEPS[noise > 0],
    }
    file = f"{name}-{network}-{seed}-{noise:g}"
    try:
        options = TrajectoryFitOptions(epochs=1, steps=300, max_lr=2e-2, horizons=(1,), threads=1)
        fitted = fit_trajectories(
            model, train_set, options, seed=seed, checkpoint=scratch / f"{file}.adam.pt", progress=False
        )
        polished = polish_trajectories(
            model,
            train_set,
            method="lbfgs" if network in BY_GRADIENTS else "levenberg-marquardt",
            iterations=10 * iterations if network in BY_GRADIENTS else iterations,
            horizon=line["loss_steps"],
            checkpoint=scratch / f"{file}.polish.pt",
        )
    except (FloatingPointError, ConvergenceError) as error:
        return line | {"failed": str(error)}
    line |= {
        "seconds": round(fitted.seconds + polished.seconds, 1),
        "evaluations": polished.evaluations,
        "losses": list(polished.losses),
        "error": {str(factor): errors(model, test, factor * setting.num_steps) for factor in (1, FURTHER)},
        "invariants": invariants(model, system, test),
        "violations": violations(model, system, test.states[0, 0]),
    }
    return line


def errors(model: nn.Module, test: Trajectories, num_steps: int) -> dict[str, float]:
    """Over the test trajectories."""
    error = prediction_error(model, test, num_steps=num_steps)
    return {"mean": error.mean, "median": error.median, "largest": error.largest}


@torch.no_grad()
def invariants(model: nn.Module, system: System, test: Trajectories) -> dict[str, float | None]:
    """The largest change of each invariant, in units of its spread over the test set (or of 1)."""
    predicted = rollout(model, test.states[:, 0], test.num_steps)
    found = {}
    for name, invariant in system.invariants.items():
        values = invariant(predicted)
        spread = float(values[:, 0].std()) if name == "energy" else 1.0
        found[name] = finite(float((values - values[:, :1]).abs().max()) / spread)
    return found


def violations(model: nn.Module, system: System, start: Tensor) -> dict[str, float | None]:
    """What 10,000 steps of the network keep."""
    with torch.no_grad():
        states = rollout(model, start[None], STEPS)[0]
    if not bool(torch.isfinite(states).all()):
        return dict.fromkeys(("mass", "norm", "volume", "symplectic"))
    length = torch.linalg.vector_norm(start)
    found: dict[str, float | None] = {
        "mass": float((states.sum(dim=1) - start.sum()).abs().max()),
        "norm": float((torch.linalg.vector_norm(states, dim=1) - length).abs().max() / length),
    }
    matrices = sample_jacobians(model, states[:-1])
    found["volume"] = float(volume_defect(matrices).max())
    found["symplectic"] = float(symplectic_defect(matrices).max()) if system.dim % 2 == 0 else None
    return found


def finite(value: float) -> float | None:
    """JSON has no infinity."""
    return value if math.isfinite(value) else None


# tables and pictures -------------------------------------------------------------------------------------------------


def chosen(rows: Sequence[Row], name: str, network: str, noise: float) -> list[Row]:
    """The finished trainings of a network on a system, of the most iterations that there are."""
    found = [
        row
        for row in rows
        if row["kind"] == "train" and (row["system"], row["network"], row["noise"]) == (name, network, noise)
    ]
    most = max((row["iterations"] for row in found), default=0)
    return [row for row in found if row["iterations"] == most]


def middle(rows: Sequence[Row], what: Callable[[Row], float | None]) -> str:
    """The median over the seeds; a failed one counts as infinite."""
    values = [math.inf if "failed" in row or (value := what(row)) is None else value for row in rows]
    return f"{statistics.median(values):.1e}" if values else ""


def error_table(rows: Sequence[Row], noise: float) -> str:
    """Errors at ten times the horizon."""
    systems = [name for name in SETTINGS if any((row.get("system"), row.get("noise")) == (name, noise) for row in rows)]
    names = dict.fromkeys(itertools.chain(*(networks(SYSTEMS[name]()) for name in systems)))
    body = []
    for network in names:
        cells = []
        for name in systems:
            found = chosen(rows, name, network, noise)
            absent = "not measured" if network in networks(SYSTEMS[name]()) else ""
            cells.append(middle(found, lambda row: row["error"][str(FURTHER)]["mean"]) or absent)
        if any(cells):
            body.append([network, *cells])
    return markdown(["network", *systems], body)


def keeping_table(rows: Sequence[Row]) -> str:
    """What 10,000 steps keep, the worst over systems and seeds."""
    body = []
    for network in dict.fromkeys(row["network"] for row in rows if row["kind"] == "train"):
        cells = []
        for what in ("mass", "norm", "volume", "symplectic"):
            found = [
                row["violations"][what]
                for row in rows
                if row.get("network") == network and "violations" in row and wanted(what, row["system"])
            ]
            told = [math.inf if value is None else value for value in found]
            mark = " (kept)" if what in KEPT.get(network, ()) else ""
            cells.append(f"{max(told):.0e}{mark}" if told else "")
        body.append([network, *cells])
    return markdown(["network", "mass", "norm", "volume", "symplectic form"], body)


def wanted(what: str, name: str) -> bool:
    """Whether the true flow of a system keeps it."""
    return what in SYSTEMS[name]().field.conserves


def table(rows: Sequence[Row], page: Path) -> None:
    """Write all tables into the page, and say whose error is least."""
    write_between(page, "errors", error_table(rows, 0.0))
    noises = sorted({row["noise"] for row in rows if row["kind"] == "train"} - {0.0})
    text = "\n\n".join(f"Noise of {noise:g}:\n\n{error_table(rows, noise)}" for noise in noises)
    write_between(page, "noise", text or "Not measured yet.")
    write_between(page, "kept", keeping_table(rows))
    for name in SETTINGS:
        ranking = []
        for network in networks(SYSTEMS[name]()):
            if found := chosen(rows, name, network, 0.0):
                ranking.append((float(middle(found, lambda row: row["error"][str(FURTHER)]["mean"])), network))
        print(name, ", ".join(f"{network} {value:.1e}" for value, network in sorted(ranking)))


def picture(rows: Sequence[Row], file: Path) -> None:
    """Errors at ten times the horizon, a panel for each system."""
    with needs("images", "the picture"):
        import matplotlib.pyplot as plt
    systems = [name for name in SETTINGS if any(row.get("system") == name for row in rows)]
    figure, axes = plt.subplots(1, len(systems), figsize=(3.0 * len(systems), 3.6), constrained_layout=True)
    for axis, name in zip(np.atleast_1d(axes), systems, strict=True):
        ranked = []
        for network in networks(SYSTEMS[name]()):
            values = [row["error"][str(FURTHER)]["mean"] for row in chosen(rows, name, network, 0.0) if "error" in row]
            if values:
                ranked.append((network, values))
        for place, (network, values) in enumerate(reversed(ranked)):
            colour = "#0072b2" if network in OURS else "#d55e00" if network in SYMPLECTIC_PEERS else "#777777"
            axis.plot(values, [place] * len(values), "o", color=colour, alpha=0.7)
        axis.set_yticks(range(len(ranked)), [network for network, _ in reversed(ranked)], fontsize=8)
        axis.set(xscale="log", title=name)
        axis.grid(alpha=0.3)
    figure.supxlabel("relative error at ten times the training horizon", fontsize=9)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=130)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=("train", "table", "picture"))
    parser.add_argument("--systems", nargs="+", choices=list(SETTINGS), default=list(SETTINGS))
    parser.add_argument("--networks", nargs="+", help="without, all")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--noise", type=float, default=0.0)
    parser.add_argument("--iterations", type=int, default=ITERATIONS)
    parser.add_argument("--scratch", type=Path, default=Path("build/systems"))
    parser.add_argument("--out", type=Path, default=Path("docs/results/systems.jsonl"))
    parser.add_argument("--page", type=Path, default=Path("docs/systems.md"))
    parser.add_argument("--picture", type=Path, default=Path("docs/images/systems.png"))
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    rows = read(options.out)
    if options.stage == "table":
        table(rows, options.page)
    elif options.stage == "picture":
        picture(rows, options.picture)
    else:
        key = ("system", "network", "seed", "noise", "iterations")
        done = {tuple(row[part] for part in key) for row in rows if row["kind"] == "train"}
        for seed, name in itertools.product(options.seeds, options.systems):
            for network in options.networks or networks(SYSTEMS[name]()):
                if network not in networks(SYSTEMS[name]()):
                    print(f"{network} is not for {name}", file=sys.stderr)
                    continue
                if (name, network, seed, options.noise, options.iterations) in done:
                    continue
                line = train(
                    name,
                    network,
                    seed=seed,
                    noise=options.noise,
                    iterations=options.iterations,
                    scratch=options.scratch,
                )
                append(options.out, [line | about()])
                print(summary(line), flush=True)


def summary(line: Row) -> str:
    """One line of what happened."""
    head = f"{line['system']} {line['network']} ({line['parameters']}), seed {line['seed']}"
    if "failed" in line:
        return f"{head}: {line['failed']}"
    far, kept = line["error"][str(FURTHER)], line["violations"]
    told = ", ".join(f"{what} {value:.1e}" for what, value in kept.items() if value is not None)
    return (
        f"{head}: loss {line['losses'][-1]:.1e}, error {line['error']['1']['mean']:.1e}, at {FURTHER} × "
        f"{far['mean']:.1e} ({far['largest']:.1e} at most), {line['seconds']:.0f} s; {told}"
    )


if __name__ == "__main__":
    main()
