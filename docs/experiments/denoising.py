"""Denoising: what a certified denoiser gives beside the noisy image, total variation and DnCNN.

    python docs/experiments/denoising.py train --scratch ~/denoising
    python docs/experiments/denoising.py measure --scratch ~/denoising --out docs/results/denoising.jsonl
    python docs/experiments/denoising.py table --out docs/results/denoising.jsonl --page docs/denoising.md

Grey BSD68 and Set12, Gaussian noise of σ = 5, 15, 25 and 50 (of 255), the same for all: that of image number i is drawn
with the seed i. ``measure`` writes one line for each set, image, σ and method, and goes on where it was stopped.

==========  ===========================================================================================================
``noisy``   the image itself
``tv``      Chambolle's total variation, by scikit-image; its weight, one for each σ, is the best on crops of the
            first 20 photographs of BSDS500's training half
``ours``    :class:`~contractive_gnn.nn.images.GradientFlowDenoiser`, one network for all σ: 1-Lipschitz and averaged
``dncnn``   the authors' network for σ = 15 and 25, without a bound
``small``   a DnCNN of about as many parameters as ours, trained here for each of σ = 5 and 50 (``train``), without a
            bound: the authors published no network for these
==========  ===========================================================================================================

PSNR is of the output as it is, neither clipped nor rounded: that gives the published figures (20.17 for the noisy image
at σ = 25, 29.23 and 30.44 for DnCNN); clipping and rounding change them by less than 0.01. BSD68 is part of BSDS500's
validation half: nothing here is chosen or trained on that. Seconds are the CPU's, of one thread.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import torch
from appending import Row, append, read
from pages import markdown, write_between
from torch import Tensor, nn

from contractive_gnn.bench.results import current_commit, current_versions
from contractive_gnn.datasets.images import dncnn_weights, load_photographs
from contractive_gnn.extras import needs
from contractive_gnn.inverse import OneLevel
from contractive_gnn.nn.images import DnCNN, GradientFlowDenoiser
from contractive_gnn.training.images import DenoiserFitOptions, fit_denoiser, psnr

SIGMAS = (5, 15, 25, 50)
SETS = ("bsd68", "set12")
METHODS = ("noisy", "tv", "ours", "dncnn", "small")
AUTHORS = (15, 25)
WEIGHTS = tuple(0.3 + 0.05 * step for step in range(19))  # of total variation, in units of σ
SMALL = {"depth": 10, "channels": 32}
TRAINING = DenoiserFitOptions(steps=200, batch_size=8, patch=40, max_lr=2e-3)

Denoise = Callable[[Tensor], Tensor]


def noisy(image: Tensor, sigma: int, seed: int) -> Tensor:
    """The image with noise."""
    return image + sigma / 255 * torch.randn(image.shape, generator=torch.Generator().manual_seed(seed))


def small_network(scratch: Path, sigma: int) -> DnCNN:
    """The one that ``train`` has made."""
    network = DnCNN(**SMALL)
    network.load_state_dict(torch.load(scratch / f"small{sigma}.pt", weights_only=True))
    return network.eval()


def train(scratch: Path, sigmas: list[int], epochs: int) -> None:
    """A small DnCNN for each σ; goes on where it was stopped."""
    scratch.mkdir(parents=True, exist_ok=True)
    photographs = load_photographs("bsds500/train")
    for sigma in sigmas:
        torch.manual_seed(0)
        network = DnCNN(**SMALL)
        options = DenoiserFitOptions(
            **{**vars(TRAINING), "epochs": epochs, "sigma": sigma / 255, "val_sigmas": (sigma / 255,)}
        )
        result = fit_denoiser(
            OneLevel(network, sigma / 255),
            photographs[:-10],
            options,
            val=photographs[-10:],
            checkpoint=scratch / f"small{sigma}.checkpoint",
            progress=False,
        )
        torch.save(network.state_dict(), scratch / f"small{sigma}.pt")
        record = {
            "sigma": sigma,
            "steps": options.epochs * options.steps,
            "cpu_s": result.cpu_seconds,
            "val_psnr": [next(iter(epoch.val_psnr.values())) for epoch in result.epochs],
        }
        (scratch / f"small{sigma}.json").write_text(json.dumps(record) + "\n", encoding="utf-8")
        print(record)


def total_variation(image: Tensor, weight: float) -> Tensor:
    """Chambolle's, of ``[1, H, W]``."""
    with needs("attacks", "the baseline of total variation"):
        from skimage.restoration import denoise_tv_chambolle
    return torch.from_numpy(denoise_tv_chambolle(image[0].numpy(), weight=weight, eps=1e-6, max_num_iter=500))[None]


@cache
def best_weight(sigma: int) -> float:
    """Of total variation, in units of σ: chosen on crops of 20 photographs that are in no test set."""
    crops = [image[:, 60:240, 60:240] for image in load_photographs("bsds500/train")[:20]]

    def score(weight: float) -> float:
        return sum(
            psnr(total_variation(noisy(crop, sigma, seed), weight * sigma / 255), crop)
            for seed, crop in enumerate(crops)
        )

    return max(WEIGHTS, key=score)


def load_ours(file: Path | None) -> GradientFlowDenoiser:
    """What ``docs/experiments/train_denoiser.py`` saved as ``.pt``, or the weights of the package."""
    if file is None:
        return GradientFlowDenoiser.pretrained().frozen()
    saved = torch.load(file, weights_only=True)
    denoiser = GradientFlowDenoiser(**saved["arguments"])
    denoiser.load_state_dict(saved["state"])
    return denoiser.frozen()


def denoiser(method: str, sigma: int, options: argparse.Namespace) -> tuple[Denoise, dict[str, object]]:
    """A function of a noisy image, and what is said of it."""
    if method == "noisy":
        return lambda image: image, {"parameters": 0, "lipschitz": 1.0}
    if method == "tv":  # a proximal operator
        weight = best_weight(sigma)
        return lambda image: total_variation(image, weight * sigma / 255), {
            "parameters": 1,
            "lipschitz": 1.0,
            "weight": weight,
        }
    if method == "ours":
        ours = load_ours(options.weights)
        about = {"lipschitz": ours.lipschitz(), "averagedness": ours.averagedness()}
        return lambda image: ours(image, sigma / 255), {"parameters": count(ours), **about}
    said: dict[str, object] = {"lipschitz": None}
    if method == "dncnn":
        network = DnCNN.from_layers(dncnn_weights(sigma))
    else:
        network = small_network(options.scratch, sigma)
        said["training"] = json.loads((options.scratch / f"small{sigma}.json").read_text(encoding="utf-8"))
    return lambda image: network(image[None])[0], {"parameters": count(network), **said}


def count(module: nn.Module) -> int:
    """Of parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def applies(method: str, sigma: int) -> bool:
    """Whether there is such a denoiser for this noise."""
    return {"dncnn": sigma in AUTHORS, "small": sigma not in AUTHORS}.get(method, True)


def measure(options: argparse.Namespace) -> None:
    """A line for each set, image, noise and method."""
    done = {(row["set"], row["image"], row["sigma"], row["method"]) for row in read(options.out)}
    commit, changes = current_commit()
    about = {"commit": commit, "uncommitted_changes": changes, "versions": current_versions()}
    wanted = [(s, m) for s in options.sigmas or SIGMAS for m in options.methods if applies(m, s)]
    for name in options.sets:
        photographs = load_photographs(name)
        for sigma, method in wanted:
            left = [i for i, file in enumerate(photographs.names) if (name, file, sigma, method) not in done]
            if left:
                denoise, said = denoiser(method, sigma, options)
                denoise(photographs[0])  # what is compiled or worked out once
            for index in left:
                image = photographs[index]
                given = noisy(image, sigma, index)
                wall, cpu = time.perf_counter(), time.thread_time()
                denoised = denoise(given)
                wall, cpu = time.perf_counter() - wall, time.thread_time() - cpu
                row = {
                    "set": name,
                    "image": photographs.names[index],
                    "sigma": sigma,
                    "method": method,
                    "psnr": psnr(denoised, image),
                    "cpu_s": cpu,
                    "wall_s": wall,
                    **said,
                }
                append(options.out, [row | about])
            if left:
                print(f"{name} {sigma} {method}: {len(left)} images", flush=True)


def table(rows: Sequence[Row]) -> str:
    """The mean PSNR and seconds of each method, in markdown."""
    found: dict[tuple[str, int, str], list[Row]] = defaultdict(list)
    for row in rows:
        found[row["set"], row["sigma"], row["method"]].append(row)
    lines = []
    for name in SETS:
        for method in METHODS:
            cells = [found[name, sigma, method] for sigma in SIGMAS]
            every = [row for cell in cells for row in cell]
            if every:
                seconds = sum(row["cpu_s"] for row in every) / len(every)
                means = [f"{sum(row['psnr'] for row in cell) / len(cell):.2f}" if cell else "–" for cell in cells]
                lines.append([name, method, *means, f"{every[0]['parameters']:,}", f"{1e3 * seconds:,.0f}"])
    return markdown(["set", "method", *(f"σ = {sigma}" for sigma in SIGMAS), "parameters", "CPU ms an image"], lines)


def main() -> None:
    """Run a stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=("train", "measure", "table"))
    parser.add_argument("--scratch", type=Path, help="folder of the small networks")
    parser.add_argument("--epochs", type=int, default=60, help="of 200 steps, for each small network")
    parser.add_argument("--weights", type=Path, help="of ours; without, those of the package")
    parser.add_argument("--out", type=Path, default=Path("docs/results/denoising.jsonl"))
    parser.add_argument("--page", type=Path, help="where the table is written between its marks")
    parser.add_argument("--sigmas", type=int, nargs="+", choices=SIGMAS)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=SETS)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    options = parser.parse_args()
    small = any(applies("small", sigma) for sigma in options.sigmas or SIGMAS) and "small" in options.methods
    if options.scratch is None and (options.stage == "train" or (options.stage == "measure" and small)):
        parser.error(f"{options.stage} needs --scratch, the folder of the small networks")
    torch.set_num_threads(1)
    if options.stage == "train":
        train(options.scratch, [s for s in options.sigmas or SIGMAS if applies("small", s)], options.epochs)
    elif options.stage == "measure":
        with torch.no_grad():
            measure(options)
    else:
        text = table(read(options.out))
        print(text)
        if options.page is not None:
            write_between(options.page, "denoising", text)


if __name__ == "__main__":
    main()
