"""Equations on a grid: exact networks, orders of convergence, and trained networks with their errors.

    python docs/experiments/pdes.py exact                        # a network is the finite-difference method
    python docs/experiments/pdes.py orders                       # the errors in space and time, and their orders
    python docs/experiments/pdes.py train heat --scratch ~/pdes  # and so on, for each row of NETWORKS
    python docs/experiments/pdes.py split                        # of each trained network: space, time, optimisation
    python docs/experiments/pdes.py table                        # writes into docs/pdes.md
    python docs/experiments/pdes.py picture                      # errors over time, and solutions side by side

The networks, the data and the steps are those of Celledoni, Jackaman, Murari and Owren (2023): 100 × 100 periodic
pixels, two convolutions of 5 × 5, three substeps of Euler with shared weights, 3, 4 and then 5 steps ahead. Their data
are finite elements, ours are exact (``contractive_gnn.datasets.pdes``). They train with Adam on up to 1,000 solutions;
we on ``--count``, among which every pair of wave numbers is, from biases at which no ReLU is cut off and a second layer
of zeros: by Levenberg's and Marquardt's method, Fisher's network by some L-BFGS before. Time is counted in δt: a
network's weights are those of ``δt X``.

``train`` begins with ``--starts`` random networks, a short training of one step ahead each, and goes on with the one
whose loss is the lowest. It goes on where it was stopped: checkpoints lie in ``--scratch``, a line for each training
and its weights in ``--results``.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from appending import append, read
from pages import markdown, write_between
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from contractive_gnn.bench.results import current_commit, current_versions
from contractive_gnn.datasets.pdes import (
    PixelData,
    laplacian_symbol,
    linear_solution,
    load_pde,
    method_of_lines,
    plane_waves,
    wavenumbers,
)
from contractive_gnn.datasets.pdes.loading import ALPHA, GRAY_SCOTT, SPEED, VISCOSITY
from contractive_gnn.dynamics import VectorField
from contractive_gnn.dynamics.pdes import (
    FiniteDifferences,
    StencilPolynomial,
    advection,
    burgers,
    exact_network,
    fisher,
    gray_scott,
    heat,
    untrained_network,
)
from contractive_gnn.extras import needs
from contractive_gnn.integrators import Scheme, SphereProjection, integrate
from contractive_gnn.nn import Flow
from contractive_gnn.palette import COLOURS, STYLE
from contractive_gnn.training.pdes import PixelFitOptions, fit_pixels, relative_errors, rollout

DOUBLE = torch.float64
SIZE = 100
#: of the starts: it acts as a ridge of ε²/3 on all that a network does to waves, and with 0.01 that costs accuracy
NOISE, LARGE_NOISE = 1e-4, 1e-2
#: where the biases start: no ReLU is cut off there, and the loss is smooth
BIAS = 2.0
SUBSTEPS = 3
HORIZONS = (3, 4, 5)
#: seeds of the validation and of the test data; those of training data are below
VAL, TEST = 10_000, 10_001
#: δt at which errors are reported
REPORTED = (1, 5, 40, 200)
ABSENT = "not yet measured"


@dataclass(frozen=True)
class Network:
    """What is trained.

    Attributes:
        equation: a key of :data:`contractive_gnn.datasets.pdes.PDES`.
        noise: of the starts.
        keeps_norm: whether each substep is projected on the sphere of its start.
        width: channels between the convolutions.
        power: of the ReLU.
        begins: δt at which the training solutions begin, in turn. What is linear is the same at each size of a wave,
            and the first steps tell all of it; Fisher's waves become ten times smaller within 40 δt.
    """

    equation: str
    noise: float = 0.0
    keeps_norm: bool = False
    width: int = 2
    power: int = 1
    begins: tuple[int, ...] = (0,)

    @property
    def scheme(self) -> str | Scheme:
        """Of the substeps."""
        return SphereProjection("euler", dim=(-3, -2, -1)) if self.keeps_norm else "euler"

    @property
    def steps(self) -> int:
        """Of the solutions that are computed."""
        return max(self.begins) + max(HORIZONS)

    @property
    def stages(self) -> tuple[PixelFitOptions, ...]:
        """A short training, from several starts; one step ahead to the end; three, four and five steps ahead."""
        if self.width > 2:  # of some hundred weights: gradients come far before a Jacobian is worth its time
            short = PixelFitOptions(horizons=(1,), rounds=1, iterations=200, noise=self.noise)
            one = replace(short, rounds=5, iterations=2, method="levenberg-marquardt")
            return short, short, one, replace(one, horizons=HORIZONS, rounds=1)
        short = PixelFitOptions(horizons=(1,), rounds=1, iterations=4, noise=self.noise, method="levenberg-marquardt")
        return short, replace(short, rounds=4, iterations=10), replace(short, horizons=HORIZONS, iterations=2)


NETWORKS: Mapping[str, Network] = {
    "heat": Network("heat"),
    "heat-noise": Network("heat", noise=NOISE),
    "heat-noise-0.01": Network("heat", noise=LARGE_NOISE),
    "advection": Network("advection"),
    "advection-noise": Network("advection", noise=NOISE),
    "advection-norm": Network("advection", keeps_norm=True),
    "advection-norm-noise": Network("advection", noise=NOISE, keeps_norm=True),
    "fisher": Network("fisher", width=10, power=2, begins=(0, 10, 20, 30)),
    "fisher-noise": Network("fisher", noise=NOISE, width=10, power=2, begins=(0, 10, 20, 30)),
}

Given = Mapping[str, Any]
EQUATIONS: Mapping[str, Callable[[Sequence[int], Given], StencilPolynomial]] = {
    "heat": lambda size, given: heat(size, alpha=ALPHA, **given),
    "advection": lambda size, given: advection(size, speed=(*SPEED, 1.0)[: len(size)], **given),
    "fisher": lambda size, given: fisher(size, alpha=ALPHA, **given),
    "burgers": lambda size, given: burgers(size, viscosity=VISCOSITY, **given),
    "gray-scott": lambda size, given: gray_scott(
        size, diffusion=GRAY_SCOTT[0], feed=GRAY_SCOTT[1], kill=GRAY_SCOTT[2], **given
    ),
}


def about() -> dict[str, Any]:
    """Where a line comes from."""
    commit, changed = current_commit()
    return {"commit": commit, "uncommitted_changes": changed, "versions": current_versions()}


# a network is the finite-difference method ---------------------------------------------------------------------------


def exact(out: Path) -> None:
    """The difference of both, of one right-hand side and after 40 steps of three substeps."""
    for name, make in EQUATIONS.items():
        for size in ((SIZE,), (SIZE, SIZE), (10, 11, 12)):
            for order in (2, 4, 6):
                for boundary in ("periodic",) if name == "burgers" else ("periodic", "dirichlet", "neumann"):
                    given = {"spacing": 1 / size[0], "order": order}
                    equation = make(size, given if name == "burgers" else {**given, "boundary": boundary})
                    append(out, [compared(name, equation, boundary, order) | about()])
    print(f"worst of {len(read(out))}: {max(line['after_40_steps'] for line in read(out)):.2g}")


def compared(name: str, equation: StencilPolynomial, boundary: str, order: int) -> dict[str, Any]:
    """Finite differences and the exact network, relative to the larger value."""
    fields = FiniteDifferences(equation, dtype=DOUBLE), exact_network(equation, dtype=DOUBLE)
    generator = torch.Generator().manual_seed(0)
    u = torch.rand(equation.fields, *equation.size, dtype=DOUBLE, generator=generator)
    if len(equation.size) == 2:  # rough at the grid's scale would be no solution, but smooth at none of its own
        u = 0.5 + 0.25 * (u + torch.sin(torch.arange(equation.size[-1], dtype=DOUBLE)))
    linear = float(torch.as_tensor(fields[0].field_lipschitz()))
    step = 0.4 / linear if math.isfinite(linear) else 0.05 / max(1.0, float(fields[0](u).abs().max()))
    sides = [field(u) for field in fields]
    ends = [integrate(field, u, step=step, num_steps=40 * SUBSTEPS) for field in fields]
    return {
        "equation": name,
        "size": list(equation.size),
        "boundary": boundary,
        "order": order,
        "channels": int(fields[1].layer.bias.size(0)),  # type: ignore[union-attr]
        "right_hand_side": relative(sides[1], sides[0]),
        "after_40_steps": relative(ends[1], ends[0]),
    }


def relative(found: Tensor, exact_: Tensor) -> float:
    """``‖found − exact‖₂/‖exact‖₂``."""
    return float((found - exact_).norm() / exact_.norm())


# orders --------------------------------------------------------------------------------------------------------------

#: time at which the errors are measured, the grids, and one that has all of their points and resolves all waves
TIME, GRIDS, FINE = 0.05, (32, 48, 64, 96), 192
#: ν here: with that of the data the solution becomes too steep for finite differences to have their order
VISCOUS = 0.1
STEPS = {"euler": (64, 128, 256, 512), "heun": (32, 64, 128, 256), "rk4": (16, 24, 32, 48)}


def orders(out: Path) -> None:
    """The error in space over δx, with exact time; the error in time over δt, on one grid."""
    for name in ("heat", "advection", "fisher", "burgers"):
        solution = spectral(name, long_waves(name, FINE))
        for order in (2, 4, 6):
            errors = [space_error(name, n, order, solution) for n in GRIDS]
            append(out, [fitted(name, "space", order, [1 / n for n in GRIDS], errors) | about()])
        for scheme, counts in STEPS.items():
            theory = {"euler": 1, "heun": 2, "rk4": 4}[scheme]
            errors = [time_error(name, scheme, count) for count in counts]
            append(
                out, [fitted(name, "time", theory, [TIME / n for n in counts], errors) | {"scheme": scheme} | about()]
            )


def long_waves(name: str, n: int) -> Tensor:
    """A start that every grid resolves, ``[1, n, n]``; Burgers' equation makes shorter waves of it."""
    waves = (1, 1) if name == "burgers" else (1, 2)
    return plane_waves(1, (n, n), generator=torch.Generator().manual_seed(1), waves=waves, offset=0.5)


def differences(name: str, n: int, order: int) -> FiniteDifferences:
    """Finite differences on n × n points."""
    given = {"spacing": 1 / n, "order": order}
    equation = burgers((n, n), viscosity=VISCOUS, **given) if name == "burgers" else EQUATIONS[name]((n, n), given)
    return FiniteDifferences(equation, dtype=DOUBLE)


def in_time(field: VectorField, start: Tensor) -> Tensor:
    """The solution of the field's equation at :data:`TIME`, with the error in time controlled."""
    return method_of_lines(start, lambda u: field(u), [0.0, TIME], tolerance=1e-12)[-1]


def spectral(name: str, start: Tensor) -> Tensor:
    """The solution at :data:`TIME` by Fourier's method; exact for a linear equation."""
    n = start.size(-1)
    laplacian = laplacian_symbol((n, n), 1 / n)
    along, across = (1j * k for k in wavenumbers((n, n), 1 / n))
    if name == "heat":
        return linear_solution(start, ALPHA * laplacian, [TIME])[:, 0]
    if name == "advection":
        return linear_solution(start, -SPEED[0] * along - SPEED[1] * across, [TIME])[:, 0]

    def rate(u: Tensor) -> Tensor:
        hat = torch.fft.fft2(u)
        if name == "fisher":
            return torch.fft.ifft2(ALPHA * laplacian * hat).real + u * (1 - u)
        transport = u * torch.fft.ifft2((along + across) * hat).real
        return torch.fft.ifft2(VISCOUS * laplacian * hat).real - transport

    return method_of_lines(start, rate, [0.0, TIME], tolerance=1e-12)[-1]


def space_error(name: str, n: int, order: int, solution: Tensor) -> float:
    """Of finite differences with exact time, beside the solution on the finest grid."""
    every = FINE // n
    return relative(in_time(differences(name, n, order), long_waves(name, n)), solution[..., ::every, ::every])


def time_error(name: str, scheme: str, steps: int) -> float:
    """Of a scheme on the finite differences of one grid."""
    field, start = differences(name, GRIDS[0], 2), long_waves(name, GRIDS[0])
    end = integrate(field, start, step=TIME / steps, num_steps=steps, scheme=scheme)
    return relative(end, in_time(field, start))


def fitted(name: str, kind: str, theory: int, lengths: Sequence[float], errors: Sequence[float]) -> dict[str, Any]:
    """The slope of the errors in logarithms, by least squares."""
    x, y = (torch.tensor(values, dtype=DOUBLE).log() for values in (lengths, errors))
    slope = float(((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum())
    print(f"{name:10s} {kind:5s} order {theory}: fitted {slope:.3f}", flush=True)
    return {
        "equation": name,
        "kind": kind,
        "theory": theory,
        "fitted": slope,
        "lengths": list(lengths),
        "errors": list(errors),
    }


# train ---------------------------------------------------------------------------------------------------------------


def build(network: Network, seed: int, size: int = SIZE) -> Flow:
    """A network with random weights and a second layer of zeros, in units of δt.

    It leaves every state as it is at first, and so it goes on to do with what is in no training solution, and would
    grow or decay from step to step.
    """
    torch.manual_seed(seed)
    field = untrained_network((size, size), width=network.width, power=network.power, bias=BIAS).double()
    for weight in field.outer.parameters():
        nn.init.zeros_(weight)
    return Flow(field, num_steps=SUBSTEPS, step=1 / SUBSTEPS, constrained=False, scheme=network.scheme)


def train(name: str, given: argparse.Namespace) -> None:
    """Train one network, and measure it on solutions that it has not seen."""
    network = NETWORKS[name]
    key = {"network": name, "size": given.size, "count": given.count, "starts": given.starts}
    weights = weights_of(name, given)
    if weights.exists() and any(all(line[k] == value for k, value in key.items()) for line in read(given.out)):
        print(f"{name}: trained already")
        return
    common = {"size": given.size, "dtype": DOUBLE}
    seed = seed_of_all_waves(given.count)
    data = pieces(network, load_pde(network.equation, count=given.count, steps=network.steps, seed=seed, **common))
    val = load_pde(network.equation, count=4, steps=40, seed=VAL, **common)
    short, *stages = network.stages
    losses = []
    for start in range(given.starts):
        model = build(network, start, given.size)
        try:
            path = given.scratch / f"{name}-{given.size}-start-{start}.pt"
            losses.append(fit_pixels(model, data, short, checkpoint=path, progress=False).rounds[-1].loss)
        except FloatingPointError:
            losses.append(math.inf)
        print(f"{name}: start {start} has the loss {losses[-1]:.3g}", flush=True)
    best = min(range(given.starts), key=losses.__getitem__)
    model = build(network, best, given.size)
    results = []
    for number, options in enumerate(stages, start=1):
        path = given.scratch / f"{name}-{given.size}-stage-{number}.pt"
        results.append(fit_pixels(model, data, options, val=val, checkpoint=path, progress=given.progress))
    line = key | {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "start": best,
        "start_losses": losses,
        "noise": network.noise,
        "keeps_norm": network.keeps_norm,
        "method": stages[-1].method,
        "losses": [result.rounds[-1].loss for result in results],
        "evaluations": sum(result.rounds[-1].evaluations for result in results),
        "seconds": round(sum(result.seconds for result in results), 1),
        "cpu_seconds": round(sum(result.cpu_seconds for result in results), 1),
        **tested(model, network, given.size, given.test),
    }
    save_file(model.state_dict(), weights)
    append(given.out, [line | about()])
    print(f"{name}: {summary(line)}", flush=True)


def pieces(network: Network, data: PixelData) -> PixelData:
    """Of each solution the steps that the training looks at."""
    count = data.states.size(0)
    begins = [network.begins[i % len(network.begins)] for i in range(count)]
    states = torch.stack([data.states[i, k : k + max(HORIZONS) + 1] for i, k in enumerate(begins)])
    return replace(data, states=states, name=f"{data.name}, from {', '.join(map(str, network.begins))}")


def seed_of_all_waves(count: int) -> int:
    """The first seed with which every pair of wave numbers, 5 to 8 along each axis, is among the starts."""
    for seed in range(1, VAL):
        waves = plane_waves(count, (20, 20), generator=torch.Generator().manual_seed(seed))  # as load_pde draws them
        if len(torch.fft.rfft2(waves).abs()[:, :10].flatten(1).argmax(dim=1).unique()) == 4 * 4:
            return seed
    raise ValueError(f"--count {count} solutions hardly ever have all 16 pairs of wave numbers: take more")


def weights_of(name: str, given: argparse.Namespace) -> Path:
    """Where a trained network's weights lie."""
    path: Path = given.results / f"{name}-{given.size}.safetensors"
    return path


def trained(name: str, given: argparse.Namespace) -> Flow | None:
    """The trained network; None where it is not there yet."""
    path = weights_of(name, given)
    if not path.exists():
        return None
    model = build(NETWORKS[name], 0, given.size)
    model.load_state_dict(load_file(path))
    return model.eval()


def tested(model: Flow, network: Network, size: int, count: int) -> dict[str, Any]:
    """The errors on other solutions, at each δt the mean and the largest, and what became of the norm."""
    data = load_pde(network.equation, count=count, steps=max(REPORTED), size=size, seed=TEST, dtype=DOUBLE)
    errors = relative_errors(model, data)
    with torch.no_grad():
        norms = rollout(model, data.states[:2, 0], data.steps).flatten(2).norm(dim=2)
    return {
        "test": data.name,
        "mean": [float(f"{value:.4g}") for value in errors.mean(dim=0).tolist()],
        "worst": [float(f"{value:.4g}") for value in errors.amax(dim=0).tolist()],
        "norm_drift": float((norms / norms[:, :1] - 1).abs().max()),
    }


def summary(line: Mapping[str, Any]) -> str:
    """The errors in a few words."""
    errors = ", ".join(f"{line['mean'][n - 1]:.2e} at {n}" for n in REPORTED)
    return f"loss {line['losses'][-1]:.2e}, mean relative error {errors} δt; {line['cpu_seconds']:.0f} s"


# where the error comes from ------------------------------------------------------------------------------------------


def split(given: argparse.Namespace) -> None:
    """Of each network: how far it, and finite differences with the same substeps, are from the solution."""
    for name, network in NETWORKS.items():
        model = trained(name, given)
        if model is None:
            continue
        data = load_pde(network.equation, count=4, steps=40, size=given.size, seed=TEST, dtype=DOUBLE)
        field = differences(network.equation, given.size, 2)
        start = data.states[:, 0]
        times = [k * data.step for k in range(data.steps + 1)]
        lines = method_of_lines(start, lambda u, field=field: field(u), times).transpose(0, 1)  # type: ignore[misc]
        with torch.no_grad():
            steps = rollout(Flow(field, num_steps=SUBSTEPS, step=data.step / SUBSTEPS, constrained=False), start, 40)
            found = rollout(model, start, 40)
        row: dict[str, Any] = {"network": name, "size": given.size}
        for n in (1, 5, 40):
            parts = {
                "space": relative(lines[:, n], data.states[:, n]),
                "time": relative(steps[:, n], lines[:, n]),
                "differences": relative(steps[:, n], data.states[:, n]),
                "network": relative(found[:, n], data.states[:, n]),
                "network_to_differences": relative(found[:, n], steps[:, n]),
            }
            row[str(n)] = parts
        append(given.out, [row | about()])
        print(name, row["40"], flush=True)


# the page ------------------------------------------------------------------------------------------------------------


def in_words(value: float) -> str:
    """A figure; of a prediction that ran away there is none."""
    return f"{value:.1e}" if math.isfinite(value) else "ran away"


def table(results: Path, page: Path) -> None:
    """Write what was measured into the page."""
    lines = read(results / "exact.jsonl")
    rows = []
    for name in EQUATIONS:
        own = [line for line in lines if line["equation"] == name]
        if own:
            channels = sorted({line["channels"] for line in own})
            worst = [max(line[key] for line in own) for key in ("right_hand_side", "after_40_steps")]
            rows.append([name, ", ".join(map(str, channels)), *(f"{value:.1e}" for value in worst), str(len(own))])
    head = ["equation", "channels", "right-hand side", "after 40 steps", "grids, walls and orders"]
    write_between(page, "pdes_exact", markdown(head, rows) if rows else ABSENT)
    rows = [
        [line["equation"], line["kind"], line.get("scheme", "—"), str(line["theory"]), f"{line['fitted']:.3f}"]
        for line in read(results / "orders.jsonl")
    ]
    write_between(
        page, "pdes_orders", markdown(["equation", "error in", "scheme", "order", "fitted"], rows) if rows else ABSENT
    )
    errors, costs = [], []
    lines = read(results / "train.jsonl")
    for name in NETWORKS:
        line = next((one for one in reversed(lines) if one["network"] == name), None)
        if line is None:
            errors.append([name, ABSENT, *[""] * (len(REPORTED) - 1)])
            continue
        pairs = [(line["mean"][n - 1], line["worst"][n - 1]) for n in REPORTED]
        errors.append([name, *(f"{in_words(mean)} ({in_words(worst)})" for mean, worst in pairs)])
        cost = [in_words(line["norm_drift"]), f"{line['evaluations']:,}", f"{line['cpu_seconds']:.0f} s"]
        costs.append([name, str(line["parameters"]), *cost])
    tables = [markdown(["network", *(f"{n} δt" for n in REPORTED)], errors)]
    if costs:
        tables.append(markdown(["network", "weights", "drift of the norm", "evaluations", "CPU"], costs))
    write_between(page, "pdes_trained", "\n\n".join(tables))
    rows = []
    for line in read(results / "split.jsonl"):
        for n in ("1", "40"):
            part = line[n]
            names = ("space", "time", "differences", "network", "network_to_differences")
            rows.append([line["network"], f"{n} δt", *(f"{part[key]:.1e}" for key in names)])
    head = ["network", "after", "space", "time", "finite differences, both", "the network", "network to differences"]
    write_between(page, "pdes_split", markdown(head, rows) if rows else ABSENT)


def picture(results: Path, given: argparse.Namespace, file: Path) -> None:
    """The errors over time, and at 40 δt the solution, the prediction and their difference."""
    with needs("images", "the picture"):
        import matplotlib as mpl
        import matplotlib.pyplot as plt
        from PIL import Image
    lines = {line["network"]: line for line in read(results / "train.jsonl")}
    shown = [name for name in ("heat-noise", "advection-norm", "fisher-noise") if trained(name, given) is not None]
    with mpl.rc_context(STYLE):
        figure = plt.figure(figsize=(11, 3.2 + 2.6 * len(shown)), constrained_layout=True)
        grid = figure.add_gridspec(1 + len(shown), 3)
        for column, equation in enumerate(("heat", "advection", "fisher")):
            axes = figure.add_subplot(grid[0, column])
            for colour, name in zip(
                COLOURS, [one for one in NETWORKS if NETWORKS[one].equation == equation], strict=False
            ):
                if name in lines:
                    axes.semilogy(range(1, 1 + len(lines[name]["mean"])), lines[name]["mean"], color=colour, label=name)
            axes.set(title=equation, xlabel="δt", ylabel="relative error" if column == 0 else "")
            if axes.lines:
                axes.legend(fontsize=8)
        for row, name in enumerate(shown, start=1):
            model = trained(name, given)
            assert model is not None
            data = load_pde(NETWORKS[name].equation, count=1, steps=40, size=given.size, seed=TEST, dtype=DOUBLE)
            with torch.no_grad():
                found = rollout(model, data.states[:, 0], 40)[0, -1, 0]
            true = data.states[0, -1, 0]
            top = float((true - true.mean()).abs().max())
            for column, (what, image) in enumerate(
                (("solution", true), ("prediction", found), ("difference", found - true))
            ):
                axes = figure.add_subplot(grid[row, column])
                limits = {"vmin": float(true.mean()) - top, "vmax": float(true.mean()) + top} if column < 2 else {}
                bar = axes.imshow(image, cmap="RdBu_r", **limits)
                axes.set(title=f"{name}: {what}", xticks=[], yticks=[])
                figure.colorbar(bar, ax=axes, shrink=0.8)
        file.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(file, dpi=90)
    Image.open(file).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(file, optimize=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=("exact", "orders", "train", "split", "table", "picture"))
    parser.add_argument("network", nargs="?", choices=list(NETWORKS))
    parser.add_argument("--scratch", type=Path, help="checkpoints; outside the repository")
    parser.add_argument("--results", type=Path, default=Path("docs/results/pdes"))
    parser.add_argument("--page", type=Path, default=Path("docs/pdes.md"))
    parser.add_argument("--picture", type=Path, default=Path("docs/images/pdes.png"))
    parser.add_argument("--size", type=int, default=SIZE)
    parser.add_argument("--count", type=int, default=40, help="of training solutions")
    parser.add_argument("--test", type=int, default=20, help="of test solutions")
    parser.add_argument("--starts", type=int, default=4, help="random networks, of which the best goes on")
    parser.add_argument("--progress", action="store_true")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    given.results.mkdir(parents=True, exist_ok=True)
    if (given.stage == "train") != (given.network is not None):
        parser.error("train needs the name of a network, and no other stage takes one")
    if given.stage == "train" and given.scratch is None:
        parser.error("train needs --scratch")
    if given.stage == "table":
        table(given.results, given.page)
        return
    if given.stage == "picture":
        picture(given.results, given, given.picture)
        return
    given.out = given.results / f"{given.stage}.jsonl"
    if given.stage == "train":
        given.scratch.mkdir(parents=True, exist_ok=True)
        train(given.network, given)
    elif given.stage == "split":
        split(given)
    elif given.stage == "exact":
        exact(given.out)
    else:
        orders(given.out)


if __name__ == "__main__":
    main()
