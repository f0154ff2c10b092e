"""A training step of a convolutional gradient flow, beside a residual block and orthogonium's orthogonal convolution.

    pip install orthogonium==0.0.4
    python docs/experiments/image_step_speed.py --out docs/results/image_step_speed.jsonl

A line for each layer, batch (32 and 128 images) and stage of a classifier (32 channels at 16 × 16, 64 at 8 × 8, 128 at
4 × 4), and one for the three stages together. What a constrained kernel costs does not depend on the batch. ``flow`` is
``x − 2Aᵀσ(Ax + b)`` with an almost orthogonal A, which is made anew at each step; ``flow, frozen`` the same with a
fixed A; ``residual`` is ``x + Bσ(Ax + b)`` with two free convolutions, as wide; ``orthogonium`` is one
AdaptiveOrthoConv2d and MaxMin, left out where the package is not there. All are 3 × 3 with zero padding, and store
channels innermost.

Milliseconds of forward and backward on one thread: CPU seconds of the process, since other work on the machine counts
little in them, and of the clock. Layers are measured in turn, and the quotients to ``residual`` and ``orthogonium`` are
medians of those of the same round, so that what slows the machine slows both.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from appending import append
from torch import Tensor, nn

from contractive_gnn.activations import LeakyReLU
from contractive_gnn.bench.results import current_commit, current_versions
from contractive_gnn.nn.images import blocks, frozen

STAGES = ((32, 16), (64, 8), (128, 4))
BATCHES, ROUNDS = (32, 128), 25
REFERENCES = ("residual", "orthogonium")


class Flow(nn.Module):
    """A gradient flow whose kernel is made once a step, as in a classifier."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        kernel = blocks.convolution(channels, channels, 3, constrained=True)
        self.flow = blocks.flow(kernel, LeakyReLU(0.0))

    def forward(self, x: Tensor) -> Tensor:
        """The step."""
        with torch.nn.utils.parametrize.cached():
            return self.flow(x)


def residual(channels: int) -> nn.Module:
    """A free block of the same width."""
    first, second = (blocks.convolution(channels, channels, 3, constrained=False) for _ in range(2))
    return blocks.residual(first, second, LeakyReLU(0.0))


def orthogonium(channels: int) -> nn.Module:
    """An orthogonal convolution and the activation that goes with it."""
    from orthogonium.layers import MaxMin
    from orthogonium.layers.conv.AOC import AdaptiveOrthoConv2d

    return nn.Sequential(AdaptiveOrthoConv2d(channels, channels, 3, padding=1, padding_mode="zeros"), MaxMin())


def seconds(module: nn.Module, x: Tensor) -> tuple[float, float]:
    """One step: CPU seconds of the process, and seconds of the clock."""
    cpu, clock = time.process_time(), time.perf_counter()
    module(x).square().mean().backward()
    return time.process_time() - cpu, time.perf_counter() - clock


def measure(layers: dict[str, Callable[[int], nn.Module]], batch: int, rounds: int) -> list[dict[str, Any]]:
    """The lines of one batch."""
    torch.manual_seed(0)
    rows, whole = [], {name: [0.0] * rounds for name in layers}
    for channels, side in STAGES:
        built = {name: build(channels).to(memory_format=torch.channels_last) for name, build in layers.items()}
        x = torch.randn(batch, channels, side, side).contiguous(memory_format=torch.channels_last)
        x.requires_grad_()  # what comes before it is trained too
        for module in built.values():
            seconds(module, x)
            seconds(module, x)
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in built}
        for _ in range(rounds):
            for name, module in built.items():
                times[name].append(seconds(module, x))
        cpu = {name: [one for one, _ in found] for name, found in times.items()}
        whole = {name: [one + more for one, more in zip(whole[name], cpu[name], strict=True)] for name in cpu}
        for name, found in times.items():
            clock = round(1e3 * statistics.median(one for _, one in found), 2)
            rows.append(line(name, f"{channels} channels at {side} x {side}", cpu) | {"clock_ms": clock})
    rows += [line(name, "all three", whole) for name in whole]
    return [row | {"batch": batch} for row in rows]


def line(name: str, stage: str, cpu: dict[str, list[float]]) -> dict[str, Any]:
    """Medians of one layer."""
    row = {"layer": name, "stage": stage, "cpu_ms": round(1e3 * statistics.median(cpu[name]), 2)}
    for reference in REFERENCES:
        if reference in cpu:
            quotients = [one / other for one, other in zip(cpu[name], cpu[reference], strict=True)]
            row[f"to_{reference}"] = round(statistics.median(quotients), 3)
    return row | {"rounds": len(cpu[name])}


def main() -> None:
    """Measure, and add the lines."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    layers: dict[str, Callable[[int], nn.Module]] = {
        "flow": Flow,
        "flow, frozen": lambda channels: frozen(Flow(channels)),
        "residual": residual,
    }
    if importlib.util.find_spec("orthogonium"):
        layers["orthogonium"] = orthogonium
    else:
        print("orthogonium is not installed: left out")
    commit, changed = current_commit()
    common = {"torch_threads": 1, "commit": commit, "uncommitted_changes": changed, "versions": current_versions()}
    rows = [row | common for batch in BATCHES for row in measure(layers, batch, options.rounds)]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    append(options.out, rows)
    for row in rows:
        quotients = ", ".join(f"{row[f'to_{one}']:.2f} x {one}" for one in REFERENCES if f"to_{one}" in row)
        print(f"{row['batch']:4} {row['stage']:24} {row['layer']:14} {row['cpu_ms']:8.2f} ms {quotients}")


if __name__ == "__main__":
    main()
