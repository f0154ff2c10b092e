r"""A denoiser applied again and again: x_{k+1} = D(x_k), from a noisy photograph.

    python docs/experiments/repeated_denoising.py measure --out docs/results/repeated_denoising.jsonl
    python docs/experiments/repeated_denoising.py picture --out docs/results/repeated_denoising.jsonl

The first photographs of Set12, noise of σ = 25/255 drawn with the image's number as the seed, 500 steps, and the noise
level that D is told is 25/255 at each of them. A line for each image and denoiser: for each step k

* ``step``: ``‖x_{k+1} − x_k‖₂``; for an α-averaged D it never rises;
* ``psnr`` of x_{k+1}, and its mean grey level;
* ``distance``: ``‖x_k − x̄‖₂`` to the declared limit x̄, the constant image with the mean of x_0; for a non-expansive D
  it never rises. DnCNN declares none.

**The limit.** With a circular border and a size that the blocks divide, every constant image is a fixed point of D.
D is α-averaged, so the iterates converge to a fixed point (Krasnosel'skii and Mann), with
``‖x_{k+1} − x_k‖ ≤ √(α/((1 − α)(k + 1))) ‖x_0 − x̄‖``, which is ``bound``. To which one? ``‖x_k − p‖`` never rises for
any fixed point p. Where that holds for all p of a line it holds for the projection too, so x_k keeps its projection on
the constant images: its mean. If D moves all other images, as it does where every frequency but 0 passes one of the
filters (a learned spline vanishes at 0 alone), then the limit is x̄. So PSNR rises for a few steps at most, and falls
to that of a grey image: nothing in the iteration holds it to the data. DnCNN is not averaged: its column says what
happens, and no theorem does.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from appending import Row, append, read
from denoising import load_ours, noisy
from torch import Tensor

from contractive_gnn.bench.results import current_commit, current_versions
from contractive_gnn.datasets.images import dncnn_weights, load_photographs
from contractive_gnn.extras import needs
from contractive_gnn.nn.images import DnCNN
from contractive_gnn.training.images import psnr

SIGMA = 25
METHODS = ("ours", "dncnn")


@torch.no_grad()
def run(method: str, weights: Path | None, image: Tensor, start: Tensor, steps: int) -> dict[str, object]:
    """What is in a line, of ``[1, H, W]``."""
    found: dict[str, object] = {}
    fixed = alpha = None
    if method == "ours":
        ours = load_ours(weights).double()
        fixed, alpha = torch.full_like(start, float(start.mean())), ours.averagedness()
        left = float((ours(fixed, SIGMA / 255) - fixed).norm())
        found |= {"averagedness": alpha, "lipschitz": ours.lipschitz(), "fixed_point_moves": left}
    else:
        network, start, image = DnCNN.from_layers(dncnn_weights(SIGMA)), start.float(), image.float()
    moved, quality, means, distances = [], [], [], []
    x = start
    for _ in range(steps):
        following = ours(x, SIGMA / 255) if method == "ours" else network(x)
        moved.append(float((following - x).norm()))
        quality.append(psnr(following, image))
        means.append(float(following.mean()))
        if fixed is not None:
            distances.append(float((x - fixed).norm()))
        x = following
    found |= {"step": moved, "psnr": quality, "mean": means}
    if fixed is not None and alpha is not None:
        radius = float((start - fixed).norm())
        found |= {
            "distance": distances,
            "bound": [math.sqrt(alpha / ((1 - alpha) * (k + 1))) * radius for k in range(steps)],
        }
    return found


def measure(options: argparse.Namespace) -> None:
    """A line for each image and denoiser."""
    done = {(row["image"], row["method"]) for row in read(options.out)}
    commit, changes = current_commit()
    photographs = load_photographs("set12")
    for index in range(options.images):
        image = photographs[index].double()
        start = noisy(photographs[index], SIGMA, index).double()
        top, left = ((extent - options.size) // 2 for extent in image.shape[1:])
        image, start = (part[:, top : top + options.size, left : left + options.size] for part in (image, start))
        for method in options.methods:
            if (photographs.names[index], method) in done:
                continue
            row = {
                "image": photographs.names[index],
                "method": method,
                "size": options.size,
                "start_psnr": psnr(start, image),
                **run(method, options.weights, image, start, options.steps),
                "commit": commit,
                "uncommitted_changes": changes,
                "versions": current_versions(),
            }
            append(options.out, [row])
            print(summary(row), flush=True)


def summary(row: Row) -> str:
    """One line of what happened."""
    moved, quality = row["step"], row["psnr"]
    rises = sum(after > before * (1 + 1e-9) + 1e-11 for before, after in itertools.pairwise(moved))
    within = ""
    if row["method"] == "ours":
        share = max(step / bound for step, bound in zip(moved, row["bound"], strict=True))
        within = f", at most {share:.2f} of the bound"
    return (
        f"{row['image']} {row['method']}: step {moved[0]:.3g} to {moved[-1]:.3g}, rose {rises} times{within}; "
        f"PSNR {quality[0]:.2f}, best {max(quality):.2f} at {1 + quality.index(max(quality))}, last {quality[-1]:.2f}; "
        f"mean {row['mean'][0]:.3f} to {row['mean'][-1]:.3f}"
    )


def picture(rows: Sequence[Row], file: Path) -> None:
    """Steps and PSNR against k."""
    with needs("images", "the picture"):
        import matplotlib.pyplot as plt
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), constrained_layout=True)
    colours = {"ours": "#0072b2", "dncnn": "#d55e00"}
    names = {"ours": "averaged (ours)", "dncnn": "DnCNN"}
    for row in rows:
        k = range(1, len(row["step"]) + 1)
        label = names[row["method"]] if row["image"] == rows[0]["image"] else None
        axes[0].loglog(k, row["step"], color=colours[row["method"]], alpha=0.7, label=label)
        axes[1].semilogx(k, row["psnr"], color=colours[row["method"]], alpha=0.7, label=label)
        if label and row["method"] == "ours":
            axes[0].loglog(k, row["bound"], color="grey", linestyle="--", label="bound")
    axes[0].set(xlabel="k", ylabel="‖x$_{k+1}$ − x$_k$‖", title="movement of a step")
    axes[1].set(xlabel="k", ylabel="PSNR of x$_k$ (dB)", title="quality")
    axes[0].legend()
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=130)


def main() -> None:
    """Run a stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=("measure", "picture"))
    parser.add_argument("--weights", type=Path, help="of ours; without, those of the package")
    parser.add_argument("--out", type=Path, default=Path("docs/results/repeated_denoising.jsonl"))
    parser.add_argument("--picture", type=Path, default=Path("docs/images/repeated_denoising.png"))
    parser.add_argument("--images", type=int, default=3)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--size", type=int, default=96, help="of the crops, from the middle")
    parser.add_argument("--steps", type=int, default=500)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.stage == "measure":
        measure(options)
    elif rows := read(options.out):
        picture(rows, options.picture)
    else:
        raise SystemExit(f"{options.out} has no lines: run `measure` first")


if __name__ == "__main__":
    main()
