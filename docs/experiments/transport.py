"""Classification as transport: a flow of the plane carries two classes to either side of a line.

    python docs/experiments/transport.py --out build/transport

The network is a sequence of vector fields ``ẋ = Aᵀ tanh(Bx + b)``, a few Euler steps along each, and a line at the end
(E, *A proposal on machine learning via dynamical systems*, 2017). The norms of A and B are bounded, so that every step
has ``h · Lip(field) < 1`` and is invertible: the network is a homeomorphism of the plane. So two spirals and two moons
can be pulled apart, and a disc cannot be taken out of the ring around it, until there is a third coordinate.

``results.jsonl`` in the folder gets a line for each set of points, and ``<points>.gif`` shows the journey.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import make_circles, make_moons
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, pad
from torch.nn.utils import parametrize

from contractive_gnn.bench.results import current_commit, current_versions
from contractive_gnn.dynamics import PerceptronField, VectorField
from contractive_gnn.integrators import fixed_point, integrate
from contractive_gnn.nn import Flow
from contractive_gnn.nn.parametrizations import spectral
from contractive_gnn.norms import log_norm, number
from contractive_gnn.operators import Dense

# %% Points of two classes


def spirals(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Two spirals of one turn and a half, within radius 2."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.arange(count) % 2
    radius = 0.05 + 0.95 * torch.rand(count, generator=generator).sqrt()
    angle = 3 * math.pi * radius + math.pi * label
    x = radius[:, None] * torch.stack([angle.cos(), angle.sin()], dim=1)
    return 2 * (x + 0.02 * torch.randn(count, 2, generator=generator)), label


def moons(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Two half moons that reach into each other."""
    x, label = make_moons(count, noise=0.08, random_state=seed)
    return torch.tensor(1.3 * (x - [0.5, 0.25]), dtype=torch.float32), torch.tensor(label)


def circles(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """A small circle inside a large one."""
    x, label = make_circles(count, noise=0.06, factor=0.45, random_state=seed)
    return torch.tensor(1.6 * x, dtype=torch.float32), torch.tensor(label)


POINTS: dict[str, Callable[[int, int], tuple[Tensor, Tensor]]] = {
    "spirals": spirals,
    "moons": moons,
    "circles": circles,
}


# %% The network: fields, steps along them, and a line


class Transport(nn.Module):
    """Flows one after the other, and the side of a line.

    Args:
        lift: how many coordinates, all 0 at the start, are added to the two of the plane.
        layers: number of fields.
        substeps: Euler steps along each.
        width: hidden units of a field.
        bound: of the norms of A and B; the step is ``0.9/bound²``, so that ``h · Lip ≤ 0.9``.
    """

    def __init__(self, *, lift: int = 0, layers: int = 8, substeps: int = 3, width: int = 16, bound: float = 2.0):
        super().__init__()
        self.lift, dim = lift, 2 + lift

        def matrix() -> Dense:
            return spectral(Dense(nn.Parameter(torch.randn(width, dim) / dim**0.5)), bound=bound)

        def field() -> VectorField:
            return PerceptronField(matrix(), "tanh", outer=matrix(), bias=nn.Parameter(torch.randn(width)))

        step = 0.9 / bound**2
        self.flows = nn.ModuleList(
            Flow(field(), num_steps=substeps, step=step, constrained=False) for _ in range(layers)
        )
        self.line = nn.Linear(dim, 1)

    def stations(self, x: Tensor) -> list[Tensor]:
        """The points before, between and after the flows."""
        states = [pad(x, (0, self.lift))]
        for flow in self.flows:
            states.append(flow(states[-1]))
        return states

    def forward(self, x: Tensor) -> Tensor:
        """Positive on one side of the line, ``[n]``."""
        return self.line(self.stations(x)[-1]).squeeze(-1)

    def steps(self) -> list[tuple[VectorField, float]]:
        """Every Euler step, as its field and its length."""
        return [(flow.field, flow.step) for flow in self.flows for _ in range(flow.num_steps)]


def train(net: Transport, x: Tensor, label: Tensor, *, iterations: int, effort: float = 3e-3) -> None:
    """Fit all parameters; ``effort`` prices the squared distance travelled, so that no one runs for nothing."""
    optimizer = torch.optim.Adam(net.parameters(), lr=0.03)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.03, total_steps=iterations)
    for _ in range(iterations):
        with parametrize.cached():  # A and B are computed once, not for every step
            states = net.stations(x)
            travel = sum((after - before).square().sum(dim=1).mean() for before, after in pairwise(states))
            loss = binary_cross_entropy_with_logits(net.line(states[-1]).squeeze(-1), label.float())
        optimizer.zero_grad()
        (loss + effort * travel).backward()
        optimizer.step()
        schedule.step()


# %% What is certified, and what is seen


@torch.no_grad()
def accuracy(net: Transport, x: Tensor, label: Tensor) -> float:
    """In per cent."""
    return 100 * float(((net(x) > 0) == (label > 0)).double().mean())


@torch.no_grad()
def largest_step(net: Transport) -> float:
    """The largest ``h · Lip(field)`` of all steps, with certified Lipschitz constants."""
    assert all(field.certified for field, _ in net.steps())
    return max(h * number(field.field_lipschitz()) for field, h in net.steps())


@torch.no_grad()
def way_back(net: Transport, x: Tensor) -> float:
    """How far from its start a point ends that goes there and back, at most; each step back is a fixed point."""
    net = net.double()
    start = pad(x.double(), (0, net.lift))
    y = start
    for field, h in net.steps():
        y = integrate(field, y, step=h, num_steps=1)
    for field, h in reversed(net.steps()):
        y = fixed_point(lambda z, end, field=field, h=h: end - h * field(z), y, y)
    net.float()
    return float((y - start).norm(dim=1).max())


@torch.no_grad()
def closed_curves(count: int = 20_000) -> tuple[Tensor, Tensor]:
    """The two circles without noise, as closed curves."""
    angle = torch.arange(count) * (4 * math.pi / count)
    label = (torch.arange(count) >= count // 2).long()
    radius = torch.where(label == 0, 1.6, 1.6 * 0.45)
    return radius[:, None] * torch.stack([angle.cos(), angle.sin()], dim=1), label


# %% The journey as a film


@torch.no_grad()
def film(net: Transport, x: Tensor, label: Tensor, path: Path, *, between: int = 2, grid: int = 120) -> None:
    """Write a GIF: the points under way, and in a second panel the local expansion rate of the field that moves them.

    The background of the first panel is the network's answer at that place *from that time on*: at the start it is the
    decision boundary pulled back to the plane, at the end a line. The colour of the second is ``μ₂(DX)``, the log norm
    of the Jacobian: the fastest rate at which neighbours part (red) or, below 0, all come together (blue).
    """
    import matplotlib.pyplot as plt
    from PIL import Image

    steps = net.steps()
    states = [x]
    for field, h in steps:
        states.append(integrate(field, states[-1], step=h, num_steps=1))
    reach = 1.08 * float(torch.stack(states).abs().max())
    axis = torch.linspace(-reach, reach, grid)
    places = torch.cartesian_prod(axis, axis)
    extent = (-reach, reach, -reach, reach)

    def picture(values: Tensor) -> np.ndarray:
        return values.view(grid, grid).T.numpy()

    moments = [(k, j / between) for k in range(len(steps)) for j in range(between)] + [(len(steps), 0.0)]
    jacobians = {id(field): torch.func.vmap(torch.func.jacrev(field)) for field, _ in steps}
    rates = [log_norm(jacobians[id(field)](places), "l2") for field, _ in steps]
    strongest = float(torch.stack(rates).abs().quantile(0.995))
    frames = []
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.6, 4.1), dpi=100)
    for k, share in moments:
        field, h = steps[min(k, len(steps) - 1)]
        points = states[k] + share * h * field(states[k])
        answer = places + (1 - share) * h * field(places) if k < len(steps) else places
        for later, length in steps[k + 1 :]:
            answer = integrate(later, answer, step=length, num_steps=1)
        side = picture(torch.sigmoid(4 * net.line(answer).squeeze(-1)))
        for panel in (left, right):
            panel.clear()
            panel.set(xlim=extent[:2], ylim=extent[2:], xticks=[], yticks=[], aspect="equal")
        left.imshow(side, extent=extent, origin="lower", cmap="PuOr", vmin=-1.2, vmax=2.2, interpolation="bilinear")
        left.contour(axis.numpy(), axis.numpy(), side, levels=[0.5], colors="black", linewidths=1.2)
        rate = picture(rates[min(k, len(steps) - 1)])
        right.imshow(rate, extent=extent, origin="lower", cmap="RdBu_r", vmin=-strongest, vmax=strongest)
        for panel in (left, right):
            for value, colour in ((0, "#e66101"), (1, "#5e3c99")):
                chosen = points[label == value].numpy()
                panel.scatter(chosen[:, 0], chosen[:, 1], s=9, c=colour, edgecolors="white", linewidths=0.3)
        left.set_title(f"step {min(k + share, len(steps)):4.1f} of {len(steps)}: points, decision boundary", fontsize=9)
        right.set_title(f"expansion rate $\\mu_2(DX)$, within ±{strongest:.1f}", fontsize=9)
        figure.subplots_adjust(left=0.01, right=0.99, bottom=0.01, top=0.92, wspace=0.02)
        figure.canvas.draw()
        frame = Image.frombytes("RGBA", figure.canvas.get_width_height(), bytes(figure.canvas.buffer_rgba()))
        frames.append(frame.convert("RGB").quantize(128, dither=Image.Dither.NONE))
    plt.close(figure)
    pause = [1200, *[110] * (len(frames) - 2), 2000]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=pause, loop=0, optimize=True)


# %% All together


def run(points: str, *, lift: int, seed: int, count: int, iterations: int) -> tuple[Transport, dict[str, object]]:
    """Train on ``count`` points, and measure on twice as many others."""
    torch.manual_seed(seed)
    x, label = POINTS[points](count, seed)
    others, truth = POINTS[points](2 * count, 1000 + seed)
    net = Transport(lift=lift)
    start = time.perf_counter()
    train(net, x, label, iterations=iterations)
    seconds = time.perf_counter() - start
    row: dict[str, object] = {
        "points": points,
        "coordinates": 2 + lift,
        "seed": seed,
        "train_accuracy": accuracy(net, x, label),
        "accuracy": accuracy(net, others, truth),
        "steps": len(net.steps()),
        "largest_h_lipschitz": largest_step(net),
        "there_and_back": way_back(net, others),
        "train_s": seconds,
    }
    if points == "circles":
        row["wrong_on_closed_curves"] = 100 - accuracy(net, *closed_curves())
    return net, row


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", nargs="+", choices=list(POINTS), default=list(POINTS))
    parser.add_argument("--count", type=int, default=1000, help="of training points")
    parser.add_argument("--iterations", type=int, default=500)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--no-film", action="store_true")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    commit, changes = current_commit()
    for points in options.points:
        for lift in (0, 1) if points == "circles" else (0,):
            for seed in range(options.seeds):
                net, row = run(points, lift=lift, seed=seed, count=options.count, iterations=options.iterations)
                if not row["largest_h_lipschitz"] < 1:
                    raise AssertionError(f"a step has h·Lip(field) = {row['largest_h_lipschitz']}, not below 1")
                row |= {"commit": commit, "uncommitted_changes": changes, "versions": current_versions()}
                with (options.out / "results.jsonl").open("a") as file:
                    file.write(json.dumps(row) + "\n")
                print(
                    f"{points} in {2 + lift} coordinates, seed {seed}: {row['accuracy']:.2f} % of held-out points, "
                    f"h·Lip(field) ≤ {row['largest_h_lipschitz']:.4f} at each of {row['steps']} steps, there and back "
                    f"within {row['there_and_back']:.1e}",
                    flush=True,
                )
                if "wrong_on_closed_curves" in row:
                    print(f"  of the closed curves {row['wrong_on_closed_curves']:.2f} % are on the wrong side")
                if lift == 0 and seed == 0 and not options.no_film:
                    x, label = POINTS[points](400, 1000)
                    film(net, x, label, options.out / f"{points}.gif")


if __name__ == "__main__":
    main()
