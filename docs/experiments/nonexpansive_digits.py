r"""A non-expansive classifier of images against the same layers without constraint, under attack.

    python docs/experiments/nonexpansive_digits.py --out docs/results/nonexpansive_digits.jsonl --plot digits.png

The images are scikit-learn's 8 × 8 digits. Each block of the non-expansive net takes two steps (Celledoni, Murari,
Owren, Schönlieb, Sherry, *Dynamical systems-based neural networks*, SISC 2023):

.. math::
    x \leftarrow x + h_e B^\top\sigma(C x + c), \qquad x \leftarrow x - h_c (A^\top\sigma(A x + a) + \mu x)

The first one expands, the second one contracts, and the steps are chosen so that the pair is 1-Lipschitz in ℓ2, by
certified norms of the convolutions. With a last layer of norm 1 the scores are 1-Lipschitz, so no image that is closer
than ``margin/√2`` is predicted otherwise. The other net has the same layers with steps of length 1, μ = 0 and no
bound.

Both nets meet the same attack: projected gradient ascent in an ℓ2 ball of radius ε, in the range of the pixels [0, 1].
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad
from torch.nn.utils import parametrize

from contractive_gnn.attacks.l2 import l2_pgd
from contractive_gnn.bench.results import current_commit, current_versions
from contractive_gnn.certificates.lipschitz import lipschitz_radius
from contractive_gnn.dynamics import GradientFlow, PerceptronField
from contractive_gnn.nn import Alternating, Flow
from contractive_gnn.nn.parametrizations import spectral
from contractive_gnn.operators import Conv2d, Dense

EPSILONS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)


# %% Two nets of the same convolutions


def convolution(inner: int, outer: int) -> Conv2d:
    """A learned 3 × 3 convolution of 8 × 8 images."""
    return Conv2d(nn.Parameter(torch.randn(outer, inner, 3, 3) / (9 * inner) ** 0.5), size=(8, 8), padding=1)


def bias(channels: int) -> nn.Parameter:
    """One number for each channel, 0 at the start."""
    return nn.Parameter(torch.zeros(channels, 1, 1))


class Classifier(nn.Module):
    """Empty channels are added to the image, blocks follow, and a linear layer to ten scores.

    Args:
        nonexpansive: keep the scores 1-Lipschitz in ℓ2.
        blocks: how many.
        channels: of the images within.
        width: channels within a block.
        mu: μ of the contracting step.
    """

    def __init__(self, *, nonexpansive: bool, blocks: int = 2, channels: int = 8, width: int = 16, mu: float = 1.0):
        super().__init__()
        self.channels = channels
        self.blocks = nn.Sequential()
        for _ in range(blocks):
            expanding = PerceptronField(
                convolution(channels, width), "leaky-relu", outer=convolution(channels, width), bias=bias(width)
            )
            contracting = GradientFlow(
                convolution(channels, width), "leaky-relu", bias=bias(width), mu=mu if nonexpansive else 0.0
            )
            if nonexpansive:
                self.blocks.append(Alternating(contracting, expanding, num_pairs=1))
            else:
                for field in (expanding, contracting):
                    self.blocks.append(Flow(field, num_steps=1, step=1.0, constrained=False))
        self.last = nn.Linear(64 * channels, 10)
        if nonexpansive:
            spectral(self.last, bound=1.0)

    def forward(self, x: Tensor) -> Tensor:
        """``[n, 1, 8, 8]`` to ``[n, 10]``."""
        x = pad(x, (0, 0, 0, 0, 0, self.channels - 1))
        return self.last(self.blocks(x).flatten(1))

    @torch.no_grad()
    def lipschitz(self) -> float:
        """A certified Lipschitz constant of the scores in ℓ2; the empty channels and the flattening are isometries."""
        constants = [block.lipschitz() for block in self.blocks]
        return math.prod(constants) * float(Dense(self.last.weight.detach()).norm_bound())


# %% Training and attack


def digits(seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Images in [0, 1] and labels: 1297 for training, 500 for the test."""
    data = load_digits()
    images = torch.tensor(data.images / 16, dtype=torch.float32)[:, None]
    parts = train_test_split(images.numpy(), data.target, test_size=500, stratify=data.target, random_state=seed)
    train, test, train_labels, test_labels = (torch.from_numpy(part) for part in parts)
    return train, train_labels, test, test_labels


def train(net: Classifier, x: Tensor, y: Tensor, *, epochs: int, temperature: float) -> float:
    """Cross-entropy of ``scores/temperature``; returns the seconds it took. A 1-Lipschitz net needs a small one."""
    start = time.perf_counter()
    batches = math.ceil(len(x) / 64)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=epochs * batches)
    for _ in range(epochs):
        for batch in torch.randperm(len(x)).split(64):
            with parametrize.cached():
                loss = cross_entropy(net(x[batch]) / temperature, y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return time.perf_counter() - start


def attack(net: Classifier, x: Tensor, y: Tensor, epsilons: Sequence[float], **pgd: int) -> dict[float, Tensor]:
    """Which images survive at each ε, bool ``[n]``; what was lost within a smaller ball stays lost in a larger one."""
    net.eval().requires_grad_(False)
    with parametrize.cached():
        alive = net(x).argmax(dim=1) == y
        survivors = {0.0: alive.clone()}
        for epsilon in sorted(epsilons):
            left = alive.nonzero().squeeze(1)
            moved = l2_pgd(net, x[left], y[left], epsilon=epsilon, **pgd)
            alive[left] = net(moved).argmax(dim=1) == y[left]
            survivors[epsilon] = alive.clone()
    return survivors


@torch.no_grad()
def radii(net: Classifier, x: Tensor, y: Tensor) -> Tensor:
    """Certified radius of each image, in float64; −1 where the prediction is wrong."""
    net = net.double()
    scores, constant = net(x.double()), net.lipschitz()
    net.float()
    radius = lipschitz_radius(scores, lipschitz=constant)
    return torch.where(scores.argmax(dim=1) == y, radius, -1.0)


def measure(kind: str, seed: int, *, epochs: int, epsilons: Sequence[float], **pgd: int) -> dict[str, object]:
    """Train one net, attack it, certify it, and compare the two for every image."""
    torch.manual_seed(seed)
    x, y, test, labels = digits(seed)
    net = Classifier(nonexpansive=kind == "non-expansive")
    seconds = train(net, x, y, epochs=epochs, temperature=0.2 if kind == "non-expansive" else 1.0)
    start = time.perf_counter()
    survivors = attack(net, test, labels, epsilons, **pgd)
    attack_s = time.perf_counter() - start
    radius = radii(net, test, labels)
    for epsilon, alive in survivors.items():
        if bool(((radius >= epsilon) & ~alive).any()):
            raise AssertionError(f"an image with a certified radius of at least {epsilon} was lost within it")

    def percent(kept: Tensor) -> float:
        return round(100 * float(kept.double().mean()), 4)

    return {
        "dataset": "digits",
        "model": kind,
        "seed": seed,
        "clean_accuracy": percent(survivors[0.0]),
        "attacked": {str(epsilon): percent(alive) for epsilon, alive in survivors.items()},
        "certified": {str(epsilon): percent(radius >= epsilon) for epsilon in survivors},
        "lipschitz": net.lipschitz(),
        "parameters": sum(parameter.numel() for parameter in net.parameters()),
        "attack": {"name": "l2_pgd", **pgd},
        "train_s": seconds,
        "attack_s": attack_s,
    }


# %% Tables and plot


def table(rows: Sequence[dict[str, object]]) -> str:
    """Mean ± standard deviation over seeds of attacked and certified accuracy."""
    lines = []
    for kind in dict.fromkeys(str(row["model"]) for row in rows):
        for what in ("attacked", "certified"):
            curves = [row[what] for row in rows if row["model"] == kind]
            cells = []
            for epsilon in curves[0]:
                values = torch.tensor([curve[epsilon] for curve in curves], dtype=torch.float64)
                deviation = float(values.std()) if len(values) > 1 else 0.0
                cells.append(f"{epsilon}: {float(values.mean()):.1f} ± {deviation:.1f}")
            lines.append(f"{kind}, {what}: " + ", ".join(cells))
    return "\n".join(lines)


def plot(rows: Sequence[dict[str, object]], path: Path) -> None:
    """Accuracy over ε: attacked as lines, certified as a dashed one, with the spread over seeds."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 3.8), dpi=120)
    for kind, colour in (("unconstrained", "#e66101"), ("non-expansive", "#5e3c99")):
        for what, line in (("attacked", "-"), ("certified", "--")):
            curves = [row[what] for row in rows if row["model"] == kind]
            if not curves or (kind == "unconstrained" and what == "certified"):
                continue
            epsilons = [float(epsilon) for epsilon in curves[0]]
            values = np.array([list(curve.values()) for curve in curves])
            mean = values.mean(axis=0)
            axes.plot(epsilons, mean, line, color=colour, marker="o", markersize=3, label=f"{kind}, {what}")
            if len(curves) > 1:
                spread = values.std(axis=0, ddof=1)
                axes.fill_between(epsilons, mean - spread, mean + spread, color=colour, alpha=0.15, linewidth=0)
    axes.set(xlabel="ε, ℓ2 distance between images in [0, 1]", ylabel="accuracy, %", ylim=(0, 100))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure both nets for each seed, append the lines, and show the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--epsilons", type=float, nargs="+", default=list(EPSILONS))
    parser.add_argument("--num-steps", type=int, default=40, help="of the attack, in each restart")
    parser.add_argument("--restarts", type=int, default=4)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    commit, changes = current_commit()
    rows: list[dict[str, object]] = []
    options.out.parent.mkdir(parents=True, exist_ok=True)
    for seed in range(options.seeds):
        for kind in ("unconstrained", "non-expansive"):
            row = measure(
                kind, seed, epochs=options.epochs, epsilons=options.epsilons, num_steps=options.num_steps,
                restarts=options.restarts,
            )  # fmt: skip
            rows.append(row | {"commit": commit, "uncommitted_changes": changes, "versions": current_versions()})
            print(f"{kind}, seed {seed}: {row['clean_accuracy']:.1f} %, Lipschitz {row['lipschitz']:.4g}", flush=True)
            with options.out.open("a") as file:
                file.write(json.dumps(rows[-1]) + "\n")
    print(table(rows))
    if options.plot is not None:
        plot(rows, options.plot)


if __name__ == "__main__":
    main()
