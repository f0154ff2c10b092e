"""Train the averaged denoiser on bsds500/train, one network for noise levels of 5/255 to 50/255.

    python docs/experiments/train_denoiser.py --scratch ~/denoiser --out docs/results/train_denoiser.jsonl
    python docs/experiments/train_denoiser.py --scratch ~/denoiser --out docs/results/train_denoiser.jsonl --colour

Every tenth photograph is held out, and judged whole. What is minimised is the squared error of a crop, divided by what
is usual for its photograph and noise level: the mean over photographs of the PSNR, which is what denoisers are compared
by, weighs them so. ``--seconds`` are of the processor, and set the schedule; a run that was stopped goes on at the last
validation. Convolutions are in bfloat16 with ``--bfloat16``; weights and validation are not.

``weights.npz`` in the scratch folder is for ``contractive_gnn/nn/images/weights``, ``weights.pt`` for
``docs/experiments/denoising.py``.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from contractive_gnn.bench.results import current_commit, current_versions
from contractive_gnn.datasets.images import Photographs, load_photographs
from contractive_gnn.nn.images import GradientFlowDenoiser
from contractive_gnn.training.batches.checkpoint import load_checkpoint, save_checkpoint
from contractive_gnn.training.images import mean_psnr
from contractive_gnn.training.images.denoising import crop

SIGMAS = (5 / 255, 50 / 255)
GROWTH = 1.2  # the squared error of a denoiser grows about as σ to this power
BORDER = 8  # pixels of a crop that are not judged: beyond them its neighbours are missing
JUDGED = 100  # training steps between two looks at the clock
DECAY = 0.998  # of the moving average of the weights


def one_of(photographs: Photographs, index: int) -> Photographs:
    """That one alone."""
    return photographs[index : index + 1]


def rate(share: float) -> float:
    """The learning rate as a part of the largest, at that share of the time: up, and down to 1 % by a cosine."""
    return min(1.0, share / 0.05) * (0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * share)))


class Training:
    """The network, its moving average, and what goes on where a run is resumed."""

    def __init__(self, options: argparse.Namespace, train: Photographs) -> None:
        self.options, self.train = options, train
        torch.manual_seed(options.seed)
        self.network = GradientFlowDenoiser(3 if options.colour else 1, **arguments(options)).train()
        self.average = copy.deepcopy(self.network)
        kernels = [p for name, p in self.network.named_parameters() if name.endswith("weight")]
        others = [p for name, p in self.network.named_parameters() if not name.endswith("weight")]
        groups = [{"params": kernels, "lr": options.rate}, {"params": others, "lr": 10 * options.rate}]
        self.optimiser = torch.optim.Adam(groups, betas=(0.9, 0.99))
        self.rates = [options.rate, 10 * options.rate]
        self.usual = torch.full((len(train),), 0.02)  # squared error / σ^GROWTH of each photograph so far
        self.seconds, self.steps = 0.0, 0

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "usual": self.usual,
            "seconds": self.seconds,
            "steps": self.steps,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        for name in ("network", "average", "optimiser"):
            getattr(self, name).load_state_dict(state[name])
        self.usual, self.seconds, self.steps = state["usual"], state["seconds"], state["steps"]

    def batch(self, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Crops, σ, and the number of the photograph of each."""
        chosen = torch.randint(len(self.train), (self.options.batch,), generator=generator)
        crops = [
            crop(one_of(self.train, index), 1, self.options.patch, generator, turn=True) for index in chosen.tolist()
        ]
        low, high = SIGMAS
        return torch.cat(crops), low + (high - low) * torch.rand(len(chosen), generator=generator), chosen

    def step(self, generator: torch.Generator) -> None:
        """One step of Adam."""
        clean, sigma, chosen = self.batch(generator)
        noisy = clean + sigma[:, None, None, None] * torch.randn(clean.shape, generator=generator)
        half = torch.autocast("cpu", torch.bfloat16) if self.options.bfloat16 else contextlib.nullcontext()
        with half:
            denoised = self.network(noisy, sigma)
        inner = (denoised.float() - clean)[..., BORDER:-BORDER, BORDER:-BORDER]
        errors = inner.square().mean((1, 2, 3)) / sigma**GROWTH
        for index, error in zip(chosen.tolist(), errors.detach().tolist(), strict=True):
            self.usual[index] = 0.95 * self.usual[index] + 0.05 * error
        loss = (errors / self.usual[chosen]).mean()
        for group, largest in zip(self.optimiser.param_groups, self.rates, strict=True):
            group["lr"] = largest * rate(self.seconds / self.options.seconds)
        self.optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimiser.step()
        self.steps += 1
        decay = min(DECAY, (1 + self.steps) / (10 + self.steps))
        with torch.no_grad():
            for kept, new in zip(self.average.state_dict().values(), self.network.state_dict().values(), strict=True):
                kept.lerp_(new, 1.0 - decay)

    def run(self, val: Photographs, checkpoint: Path) -> None:
        """Train until the time is spent, with a checkpoint each minute."""
        saved = self.seconds
        while self.seconds < self.options.seconds:
            generator = torch.Generator().manual_seed(hash((self.options.seed, self.steps)) % 2**62)
            start = time.process_time()
            for _ in range(JUDGED):
                self.step(generator)
            self.seconds += time.process_time() - start
            if self.seconds - saved >= 60.0 or self.seconds >= self.options.seconds:
                saved = self.seconds
                ratio = mean_psnr(self.average.eval(), val[:5], sigma=25 / 255)
                self.average.train()
                print(f"{self.seconds:.0f} s, {self.steps} steps, {ratio:.3f} dB on five photographs", flush=True)
                save_checkpoint(checkpoint, self.state(), identity=identity(self.options))


def arguments(options: argparse.Namespace) -> dict[str, Any]:
    """Of the network, beyond the number of channels."""
    return {"scales": tuple(options.scales), "filters": options.filters, "kernel_size": options.kernel_size}


def identity(options: argparse.Namespace) -> dict[str, str]:
    """What a checkpoint must agree with."""
    return {name: repr(value) for name, value in sorted(vars(options).items()) if name not in ("scratch", "out")}


def save_weights(network: GradientFlowDenoiser, options: argparse.Namespace) -> int:
    """Both files; the size of the first.

    Half precision is enough of a weight: the bound is that of the kernels that are read.
    """
    given = {"channels": network.channels, **arguments(options)}
    state = {name: tensor for name, tensor in network.state_dict().items() if not name.endswith("_probe")}
    arrays = {name: tensor.numpy().astype(np.float16) for name, tensor in state.items()}
    name = "colour" if options.colour else "grey"
    np.savez_compressed(options.scratch / f"{name}.npz", arguments=np.array(json.dumps(given)), **arrays)
    torch.save({"arguments": given, "state": network.state_dict()}, options.scratch / f"{name}.pt")
    return (options.scratch / f"{name}.npz").stat().st_size


def main() -> None:
    """Train, judge, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--colour", action="store_true")
    parser.add_argument("--bfloat16", action="store_true")
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--scales", type=int, nargs="+", default=(1, 1, 2, 2, 1, 1, 2, 2, 1, 1))
    parser.add_argument("--filters", type=int, default=64)
    parser.add_argument("--kernel-size", type=int, default=5)
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--patch", type=int, default=96)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.scales = tuple(options.scales)
    options.scratch.mkdir(parents=True, exist_ok=True)
    photographs = load_photographs("bsds500/train", grey=not options.colour)
    held = [index for index in range(len(photographs)) if index % 10 == 0]
    learned = [index for index in range(len(photographs)) if index % 10]
    train, val = (
        Photographs(tuple(photographs[i] for i in part), tuple(photographs.names[i] for i in part), photographs.name)
        for part in (learned, held)
    )
    training = Training(options, train)
    checkpoint = options.scratch / ("colour.checkpoint" if options.colour else "grey.checkpoint")
    state = load_checkpoint(checkpoint, identity=identity(options))
    if state is not None:
        training.restore(state)
    training.run(val, checkpoint)
    network = training.average.eval()
    ratios = {f"{255 * s:g}": mean_psnr(network, val, sigma=s) for s in (5 / 255, 15 / 255, 25 / 255, 50 / 255)}
    network.padding = "mirror"
    mirrored = mean_psnr(network, val, sigma=25 / 255)
    network.padding = "circular"
    line = {
        "colour": options.colour,
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "arguments": arguments(options),
        "cpu_s": round(training.seconds, 1),
        "steps": training.steps,
        "val_psnr": ratios,
        "val_psnr_25_mirror": mirrored,
        "lipschitz": network.lipschitz(),
        "averagedness": network.averagedness(),
        "bytes": save_weights(network, options),
        "commit": current_commit(),
        "versions": current_versions(),
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with options.out.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
    print(json.dumps(line))


if __name__ == "__main__":
    main()
