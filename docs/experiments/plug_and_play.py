"""Plug-and-Play on six tasks: what is proved of our denoiser, and what DnCNN does in its place.

    python docs/experiments/plug_and_play.py choose   # σ, λ, method: on crops of bsds500/train
    python docs/experiments/plug_and_play.py run      # ten crops of 128 × 128, 500 steps
    python docs/experiments/plug_and_play.py table    # writes into docs/denoising.md
    python docs/experiments/plug_and_play.py picture  # writes docs/images/plug_and_play.png

The tasks have circular borders and white noise of standard deviation 0.01, of CT 0.5 (a sum along a line is up to 128).
``choose`` tries every setting of a task with every denoiser on the centres of three photographs of bsds500/train, with
fewer steps, and keeps the one with the best final PSNR. ``run`` takes it to the centres of ten test photographs. Our
denoiser runs with the projection on [0, 1], DnCNN as it is in use: without a box and with no mean.

Every line is appended once it is known; a stopped run goes on. A line of a run holds the residuals, the bound of the
theory and the PSNR of some steps, and the largest rise of the residual over all of them. On one core a step takes the
time of one denoising: with DnCNN about 0.3 s, so that all of ``run`` takes 2.5 hours of it; ``--device cuda`` minutes.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from appending import Row, append, read
from denoising import load_ours
from pages import markdown, write_between
from torch import Tensor, nn

from contractive_gnn.bench.results import current_commit, current_versions
from contractive_gnn.datasets.images import dncnn_weights, load_photographs
from contractive_gnn.inverse import (
    Convolution,
    DouglasRachford,
    Fourier,
    Inpainting,
    LinearPhysics,
    OneLevel,
    ProximalGradient,
    Radon,
    gaussian_kernel,
    motion_kernel,
)
from contractive_gnn.nn.images import DnCNN, GradientFlowDenoiser

SIDE = 128
SIZE = (SIDE, SIDE)
TEST = [("set12", f"{index:02}.png") for index in (1, 2, 3, 4, 6)] + [
    ("bsd68", f"test{index:03}.png") for index in (5, 19, 33, 47, 61)
]
CHOICE = (10, 90, 170)  # places among the photographs of bsds500/train
PAGE, PICTURE = Path("docs/denoising.md"), Path("docs/images/plug_and_play.png")


@dataclass(frozen=True)
class Task:
    """A measurement of an image of 128 × 128, and the noise on it."""

    words: str
    build: Callable[[], LinearPhysics]
    noise: float = 0.01


def generator(seed: int) -> torch.Generator:
    """For masks and noise."""
    return torch.Generator().manual_seed(seed)


def lines(part: float = 0.3) -> Tensor:
    """Rows of the Fourier transform that are measured: the lowest frequencies and some at random."""
    rows = torch.rand(SIDE, generator=generator(1)) < part - 0.08
    frequency = torch.fft.fftfreq(SIDE).abs()
    return ((frequency <= 0.04) | rows)[:, None].expand(SIZE)


TASKS: dict[str, Task] = {
    "gaussian": Task("Gaussian deblurring, 1.6 pixels", lambda: Convolution(gaussian_kernel(1.6, 13), size=SIZE)),
    "motion": Task("motion deblurring, 13 pixels at 35°", lambda: Convolution(motion_kernel(13, 35, 15), size=SIZE)),
    "inpainting": Task("half of the pixels", lambda: Inpainting(torch.rand(SIZE, generator=generator(0)) < 0.5)),
    "super-resolution": Task("×2 super-resolution", lambda: Convolution(gaussian_kernel(1.0, 7), size=SIZE, stride=2)),
    "mri": Task("MRI, 30 % of the rows", lambda: Fourier(lines())),
    "ct": Task("CT, 40 angles", lambda: Radon(SIZE, 40), noise=0.5),
}


def ours(weights: Path | None) -> tuple[nn.Module, tuple[float, ...]]:
    """The denoiser of this library, and noise levels to try."""
    denoiser = GradientFlowDenoiser.pretrained("grey") if weights is None else load_ours(weights)
    return denoiser, (5 / 255, 10 / 255, 15 / 255, 25 / 255)


def dncnn(weights: Path | None) -> tuple[nn.Module, tuple[float, ...]]:
    """The authors' network, and its levels."""
    return Levels().eval(), (15 / 255, 25 / 255)


class Levels(nn.Module):
    """DnCNN of the level that is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.levels = nn.ModuleList(OneLevel(DnCNN.from_layers(dncnn_weights(s)), s / 255) for s in (15, 25))

    def forward(self, x: Tensor, sigma: float) -> Tensor:
        """The one that was trained for it."""
        for level in self.levels:
            if abs(level.level - sigma) < 1e-6:
                return level(x, sigma)  # type: ignore[no-any-return]
        raise ValueError(f"no DnCNN was trained for sigma = {sigma!r}")


DENOISERS: dict[str, Callable[[Path | None], tuple[nn.Module, tuple[float, ...]]]] = {"ours": ours, "dncnn": dncnn}


@dataclass(frozen=True)
class Setting:
    """What is chosen. ``step`` is in units of 1/‖A‖²."""

    method: str
    sigma: float
    step: float
    relaxation: float


def settings(sigmas: tuple[float, ...]) -> Iterator[Setting]:
    """All that are tried."""
    for sigma, relaxation in itertools.product(sigmas, (0.1, 0.3, 1.0)):
        yield Setting("proximal-gradient", sigma, 1.9, relaxation)
    for sigma, step in itertools.product(sigmas, (4.0, 16.0, 64.0)):
        yield Setting("douglas-rachford", sigma, step, 1.0)


def iteration(setting: Setting, physics: LinearPhysics, denoiser: nn.Module, *, name: str) -> ProximalGradient:
    """The loop. Ours takes the relaxation that is proved to do where that is smaller."""
    box = (0.0, 1.0) if name == "ours" else None
    step = setting.step / physics.squared_norm()
    if setting.method == "proximal-gradient":
        return ProximalGradient(
            physics, denoiser, sigma=setting.sigma, step=step, relaxation=setting.relaxation, box=box
        )
    method: Any = DouglasRachford(physics, denoiser, sigma=setting.sigma, step=step, box=box)
    return method


def crops(which: str) -> list[tuple[str, Tensor]]:
    """The centres of the photographs to choose by, or of those to test on, ``[1, 1, 128, 128]``."""
    if which == "choose":
        photographs = load_photographs("bsds500/train")
        found = [(f"bsds500/train/{photographs.names[place]}", photographs[place]) for place in CHOICE]
    else:
        sets = {name: load_photographs(name) for name in {name for name, _ in TEST}}
        found = [(f"{name}/{file}", sets[name][sets[name].names.index(file)]) for name, file in TEST]
    cut = []
    for name, image in found:
        top, left = ((length - SIDE) // 2 for length in image.shape[1:])
        cut.append((name, image[None, :, top : top + SIDE, left : left + SIDE]))
    return cut


def first_guess(physics: LinearPhysics, y: Tensor, x: Tensor) -> Tensor:
    """``Aᵀy`` with each pixel divided by what AᵀA makes of 1; grey where nothing is seen."""
    weight = physics.adjoint(physics(torch.ones_like(x)))
    return torch.where(weight > 0.05, physics.adjoint(y) / weight.clamp(min=0.05), 0.5).clamp(0, 1)


@functools.cache
def measurement(task: str, device: str) -> LinearPhysics:
    """That of a task; its norm is computed once."""
    return TASKS[task].build().to(device)


def psnr(x: Tensor, truth: Tensor) -> float:
    """In decibels, of the image clipped to [0, 1]."""
    return float(-10 * (x.clamp(0, 1) - truth).square().mean().log10())


def number(value: float) -> float | None:
    """For a line of JSON, which has no infinity."""
    return round(value, 9) if math.isfinite(value) else None


def solve(
    task: str,
    denoiser: str,
    module: nn.Module,
    setting: Setting,
    crop: tuple[str, Tensor],
    *,
    steps: int,
    device: str,
    tolerance: float | None = None,
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """One run: its line without the key, and the images."""
    physics = measurement(task, device)
    truth = crop[1].to(device)
    y = physics(truth)
    seed = sum(map(ord, crop[0] + task))
    noise = torch.randn(y.shape, generator=generator(seed), dtype=y.dtype)
    if y.is_complex():  # of the same deviation in the real and in the imaginary part
        noise = noise * math.sqrt(2)
    y = y + TASKS[task].noise * noise.to(device)
    start = first_guess(physics, y, truth)
    curve: list[float] = []
    began = time.perf_counter()
    method = iteration(setting, physics, module, name=denoiser)
    run = method.run(y, steps=steps, start=start, tolerance=tolerance, track=lambda _, x: curve.append(psnr(x, truth)))
    seconds = time.perf_counter() - began
    residuals = run.residuals[:, 0].tolist()
    bounds = run.bounds().tolist()
    kept = sorted({*range(min(10, len(curve))), *range(0, len(curve), max(1, steps // 50)), len(curve) - 1})
    line = {
        "steps": [k + 1 for k in kept],
        "residuals": [number(residuals[k]) for k in kept],
        "bounds": [number(bounds[k]) for k in kept],
        "psnr": [number(curve[k]) for k in kept],
        "start_psnr": number(psnr(start, truth)),
        "final_psnr": number(curve[-1]),
        "best_psnr": number(max(curve)),
        "best_step": curve.index(max(curve)) + 1,
        "relative": number(float(run.relative[-1, 0])),
        "largest_rise": number(max((b - a for a, b in itertools.pairwise(residuals)), default=0.0)),
        "allowed_rise": number(2 * run.error),
        "certified": run.certificate.certified,
        "averagedness": run.certificate.averagedness,
        "distance": number(run.certificate.distance),
        "reason": run.certificate.reason,
        "stopped": run.stopped,
        "seconds": round(seconds, 3),
        "device": device,
    }
    return line, {"truth": truth, "start": start, denoiser: run.image}


def choose(options: argparse.Namespace) -> None:
    """Try every setting; a line each."""
    done = {tuple(row["key"]) for row in read(options.out) if row["kind"] == "choose"}
    images = crops("choose")[: options.crops]
    for name in options.denoisers:
        module, sigmas = DENOISERS[name](options.weights)
        module = module.to(options.device)
        for task in options.tasks:
            for setting in list(settings(sigmas))[: options.settings]:
                key = [task, name, *asdict(setting).values()]
                if tuple(key) in done:
                    continue
                found = [
                    solve(
                        task,
                        name,
                        module,
                        setting,
                        crop,
                        steps=options.choice_steps,
                        device=options.device,
                        tolerance=1e-5,
                    )[0]
                    for crop in images
                ]
                mean = sum(line["final_psnr"] if line["final_psnr"] is not None else 0.0 for line in found) / len(found)
                row = {"kind": "choose", "key": key, "task": task, "denoiser": name, **asdict(setting)}
                append(options.out, [{**row, "final_psnr": round(mean, 4), "crops": len(images), **about()}])
                print(f"{task}, {name}: {setting} {mean:.2f} dB", flush=True)


def about() -> dict[str, Any]:
    """What made a line."""
    return {"commit": current_commit(), "versions": current_versions()}


def chosen(rows: list[Row], task: str, denoiser: str) -> Setting:
    """The setting with the best PSNR on the photographs of the training set."""
    tried = [row for row in rows if row["kind"] == "choose" and (row["task"], row["denoiser"]) == (task, denoiser)]
    if not tried:
        raise SystemExit(f"no setting of {task} with {denoiser} has been tried: run `choose` first")
    best = max(tried, key=lambda row: row["final_psnr"])
    return Setting(best["method"], best["sigma"], best["step"], best["relaxation"])


def run(options: argparse.Namespace) -> None:
    """The chosen settings on the test crops; a line each, and the images of the first crop."""
    rows = read(options.out)
    done = {(row["task"], row["denoiser"], row["crop"]) for row in rows if row["kind"] == "run"}
    images = crops("run")[: options.crops]
    for name in options.denoisers:
        module = DENOISERS[name](options.weights)[0].to(options.device)
        for task in options.tasks:
            setting = chosen(rows, task, name)
            for place, crop in enumerate(images):
                if (task, name, crop[0]) in done:
                    continue
                line, pictures = solve(task, name, module, setting, crop, steps=options.steps, device=options.device)
                row = {"kind": "run", "task": task, "denoiser": name, "crop": crop[0], **asdict(setting)}
                append(options.out, [{**row, **line, **about()}])
                if place == 0:
                    keep(options.out.with_suffix(".npz"), task, pictures)
                print(f"{task}, {name}, {crop[0]}: {line['final_psnr']} dB, {line['seconds']} s", flush=True)


def keep(file: Path, task: str, pictures: Mapping[str, Tensor]) -> None:
    """Add these images to the file, in 256 levels."""
    held = dict(np.load(file)) if file.exists() else {}
    for name, image in pictures.items():
        held[f"{task}/{name}"] = (image[0, 0].clamp(0, 1) * 255).round().byte().cpu().numpy()
    np.savez_compressed(file, **held)


def runs_of(rows: list[Row]) -> dict[tuple[str, str], list[Row]]:
    """The runs of each task and denoiser."""
    found: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if row["kind"] == "run":
            found.setdefault((row["task"], row["denoiser"]), []).append(row)
    return found


def mean(values: Iterator[float | None]) -> float:
    """Of the numbers; what was not finite makes it so."""
    given = [math.nan if value is None else value for value in values]
    return sum(given) / len(given)


def table(options: argparse.Namespace) -> None:
    """A row for each task and denoiser, into the page."""
    found = runs_of(read(options.out))
    head = (
        *("task", "denoiser", "start", "end", "median", "best − end", "residual"),
        *("it rises", "in bound", "certified"),
    )
    text = []
    for task, name in itertools.product(TASKS, DENOISERS):
        rows = found.get((task, name), [])
        if not rows:
            continue
        gap = max((row["best_psnr"] or math.nan) - (row["final_psnr"] or math.nan) for row in rows)
        relative = max(math.inf if row["relative"] is None else row["relative"] for row in rows)
        rises = sum((row["largest_rise"] or 0.0) > row["allowed_rise"] for row in rows)
        certified = sum(row["certified"] for row in rows)
        below = sum(
            all(b is not None and r <= b for r, b in zip(row["residuals"], row["bounds"], strict=True)) for row in rows
        )
        psnrs = [mean(row[when] for row in rows) for when in ("start_psnr", "final_psnr")]
        psnrs.append(median(math.nan if row["final_psnr"] is None else row["final_psnr"] for row in rows))
        counts = (rises, below if certified else None, certified)
        text.append(
            (
                *(TASKS[task].words, name, *(f"{value:.2f}" for value in (*psnrs, gap)), f"{relative:.1e}"),
                *("–" if count is None else f"{count} of {len(rows)}" for count in counts),
            )
        )
    write_between(options.page, "plug_and_play", markdown(head, text))
    print(markdown(head, text))


def picture(options: argparse.Namespace) -> None:
    """The residuals, the PSNR and the images of the first crop of each task."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    found = runs_of(read(options.out))
    held = np.load(options.out.with_suffix(".npz"))
    tasks = [task for task in TASKS if any(key[0] == task for key in found)]
    colours = {"ours": "tab:blue", "dncnn": "tab:red"}
    shown = ("truth", "start", *DENOISERS)
    figure, axes = pyplot.subplots(
        len(tasks),
        2 + len(shown),
        figsize=(3 * (2 + len(shown)), 2.7 * len(tasks)),
        squeeze=False,
        layout="constrained",
    )
    for line, task in zip(axes, tasks, strict=True):
        for name, colour in colours.items():
            for place, row in enumerate(found.get((task, name), [])):
                steps = row["steps"]
                label = name if place == 0 else None
                line[0].plot(steps, [v or math.nan for v in row["residuals"]], color=colour, alpha=0.5, label=label)
                line[1].plot(steps, [v or math.nan for v in row["psnr"]], color=colour, alpha=0.5)
                if row["certified"] and place == 0:
                    line[0].plot(steps, row["bounds"], color="black", ls="--", label="bound for ours")
        line[0].set(xscale="log", yscale="log", title="‖x_{k+1} − x_k‖", xlabel="step", ylabel=task)
        line[1].set(xscale="log", title="PSNR, dB", xlabel="step")
        line[0].legend(fontsize=7)
        for axis, name in zip(line[2:], shown, strict=True):
            axis.set_axis_off()
            if f"{task}/{name}" in held:
                axis.imshow(held[f"{task}/{name}"], cmap="gray", vmin=0, vmax=255)
                rows = found.get((task, name))
                axis.set_title(f"{name}, {rows[0]['final_psnr']:.2f} dB" if rows and rows[0]["final_psnr"] else name)
    options.picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.picture, dpi=80)
    pyplot.close(figure)


def main(arguments: list[str] | None = None) -> None:
    """Read the options and go."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("stage", choices=("choose", "run", "table", "picture"))
    parser.add_argument("--out", type=Path, default=Path("docs/results/plug_and_play.jsonl"))
    parser.add_argument("--weights", type=Path, help="of ours; left out, those of the package")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--denoisers", nargs="+", choices=DENOISERS, default=list(DENOISERS))
    parser.add_argument("--crops", type=int, default=None, help="the first of them alone")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--choice-steps", type=int, default=200)
    parser.add_argument("--settings", type=int, default=None, help="the first of them alone")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--picture", type=Path, default=PICTURE)
    options = parser.parse_args(arguments)
    {"choose": choose, "run": run, "table": table, "picture": picture}[options.stage](options)


if __name__ == "__main__":
    main()
