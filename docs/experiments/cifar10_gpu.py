"""The authors' three networks at their size beside ours, under their attack and under stronger ones, on one GPU.

A stage of ``cifar10.py``: ``python docs/experiments/cifar10.py gpu --scratch ~/cifar10``. Four trainings of equal
epochs and data; then, of the first images of the test split, foolbox's ℓ2 PGD of ten steps as the authors ran it (its
default step of ε/40, so ε/4 in all), a PGD whose steps are ten times as long, and AutoAttack. foolbox is needed for the
first of these, and nothing else.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from appending import append, read
from authors_networks import AuthorsNetwork
from pages import markdown
from torch import Tensor, nn

from contractive_gnn.attacks.images import AutoAttack, full_reach_pgd
from contractive_gnn.bench.results import current_commit, current_versions
from contractive_gnn.datasets.images import hold_out, load_images
from contractive_gnn.nn.images import ImageClassifier, frozen
from contractive_gnn.nn.lipschitz import certified, lipschitz
from contractive_gnn.training.images import (
    Augmentation,
    ImageFitOptions,
    MarginLoss,
    TemperatureCrossEntropy,
    fit_images,
)

EPOCHS, BATCH = 40, 256
#: of the authors' table
PUBLISHED = (8 / 255, 16 / 255, 36 / 255, 0.3, 0.5, 0.6, 0.8, 1.0)
SMALL = 36 / 255
#: images for foolbox's PGD and the longer one; for AutoAttack at either ε
PGD_IMAGES, AUTO = 1024, ((SMALL, 512), (0.5, 256))
AUTHORS = ("unconstrained", "nonexpansive", "switching")


def networks() -> dict[str, tuple[nn.Module, ImageFitOptions]]:
    """Theirs with their loss and optimiser, ours with its own."""
    common: dict[str, Any] = {"epochs": EPOCHS, "batch_size": BATCH, "augment": Augmentation()}
    common |= {"ema": 0.999, "channels_last": True}
    theirs = ImageFitOptions(loss=MarginLoss(0.07), optimiser="sgd", max_lr=0.1, weight_decay=5e-4, **common)
    loss = TemperatureCrossEntropy(temperature=0.25, offset=SMALL)
    ours = ImageFitOptions(loss=loss, optimiser="adamw", max_lr=1e-2, **common)
    made: dict[str, tuple[nn.Module, ImageFitOptions]] = {}
    for kind in AUTHORS:
        torch.manual_seed(0)
        made[f"authors {kind}"] = (AuthorsNetwork(kind), theirs)  # type: ignore[arg-type]
    torch.manual_seed(0)
    # as many layers as theirs; wider where the image is small
    made["ours"] = (ImageClassifier(3, 10, size=32, channels=(64, 128, 256), num_layers=4), ours)
    return made


def published_attack(model: nn.Module, x: Tensor, y: Tensor, epsilon: float) -> float:
    """Accuracy in percent under foolbox's ℓ2 PGD of ten steps, its step and start as they come."""
    import foolbox

    victim = foolbox.PyTorchModel(model, bounds=(0, 1), device=x.device)
    moved = foolbox.attacks.L2PGD(steps=10)(victim, x, y, epsilons=epsilon)[1]
    with torch.no_grad():
        return percent(model(moved).argmax(dim=1) == y)


def percent(which: Tensor) -> float:
    """Of the images for which it holds."""
    return round(100.0 * float(which.double().mean()), 2)


def run(*, scratch: Path, out: Path, device: str, limit: int | None, epochs: int | None) -> None:
    """Train and attack each network that has no line yet."""
    lines = out / "gpu.jsonl"
    done = {line["network"] for line in read(lines)}
    train, val = hold_out(load_images("cifar10"))
    test = load_images("cifar10", "test")
    if limit is not None:
        train = train.subset(slice(limit), name=f"{train.name}:{limit}")
        val, test = val.subset(slice(limit)), test.subset(slice(limit))
    commit, changed = current_commit()
    for name, (model, options) in networks().items():
        if name in done:
            continue
        if epochs is not None:
            options = ImageFitOptions(**{**vars(options), "epochs": epochs})
        model = model.to(device)
        result = fit_images(model, train, options, val=val, checkpoint=scratch / f"gpu-{name.replace(' ', '-')}.pt")
        still = frozen(model).to(device)
        x, y = test.floats().to(device), test.labels.to(device)
        with torch.no_grad():
            right = torch.cat([still(part).argmax(dim=1) for part in x.split(500)]) == y
        line: dict[str, Any] = {
            "network": name,
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "epochs": options.epochs,
            "train": train.name,
            "seconds": round(result.seconds, 1),
            "val": result.epochs[-1].val_accuracy,
            "clean": percent(right),
            "lipschitz": lipschitz(still) if certified(still) else None,
            "foolbox": {},
            "pgd": {},
            "autoattack": {},
            "attack_seconds": {},
        }
        start = time.perf_counter()
        part, labels = x[:PGD_IMAGES], y[:PGD_IMAGES]
        for epsilon in PUBLISHED:
            line["foolbox"][f"{epsilon:.4g}"] = published_attack(still, part, labels, epsilon)
            longer = full_reach_pgd(still, part, labels, norm="l2", epsilon=epsilon)
            line["pgd"][f"{epsilon:.4g}"] = percent(longer.survived)
        line["attack_seconds"]["pgd"] = round(time.perf_counter() - start, 1)
        for epsilon, count in AUTO:
            start = time.perf_counter()
            survived = AutoAttack(norm="l2", epsilon=epsilon)(still, x[:count], y[:count]).survived
            line["autoattack"][f"{epsilon:.4g}"] = {"images": len(survived), "robust": percent(survived)}
            line["attack_seconds"][f"autoattack {epsilon:.4g}"] = round(time.perf_counter() - start, 1)
        about = {"device": name_of(device), "commit": commit, "uncommitted_changes": changed}
        append(lines, [line | about | {"versions": current_versions()}])
        print(json.dumps(line), flush=True)


def table(lines: Sequence[Mapping[str, Any]]) -> str:
    """What each attack leaves of each network, in markdown."""
    if not lines:
        return "Not yet measured: it needs a GPU."
    rows = []
    for line in lines:
        for name, found in (("foolbox, as published", line["foolbox"]), ("PGD of full reach", line["pgd"])):
            rows.append([line["network"], name, f"{line['clean']:.1f}", *(f"{value:.1f}" for value in found.values())])
        strong = line["autoattack"]
        cells = (strong.get(f"{epsilon:.4g}") for epsilon in PUBLISHED)
        rows.append(
            [
                *(line["network"], "AutoAttack", f"{line['clean']:.1f}"),
                *("" if cell is None else f"{cell['robust']:.1f}" for cell in cells),
            ]
        )
    return markdown(["network", "attack", "clean", *(f"{epsilon:.4g}" for epsilon in PUBLISHED)], rows)


def name_of(device: str) -> str:
    """What the device is."""
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device
