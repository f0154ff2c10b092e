"""Seconds of a denoiser's training step with the compiled loops, and with plain tensor operations.

    python docs/experiments/denoiser_speed.py --out docs/results/denoiser_speed.jsonl

Both take the same step of Adam on the same batch, 16 crops of 64 × 64, in turn, in one process and one thread:
``kernels.disabled()`` turns the compiled loops off, for the activation and for the transposed convolution, and nothing
else. Seconds are the thread's own, so that what else the machine does counts little; the least of several rounds
counts. The line has the parts too: one activation and one transposed convolution, forward and back.

===========  ==========================================================================================================
``pixels``   8 steps ``x ← x − h Kᵀσ(Kx)`` on pixels, K of 32 filters of 7 × 7
``default``  :class:`~contractive_gnn.nn.images.GradientFlowDenoiser` as it is: steps on blocks of 2 × 2 and of
             4 × 4 pixels, 64 filters of 5 × 5
===========  ==========================================================================================================
"""

from __future__ import annotations

import argparse
import contextlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from contractive_gnn.bench.results import current_commit, current_versions
from contractive_gnn.compiled import convolutions, kernels
from contractive_gnn.nn.images import GradientFlowDenoiser
from contractive_gnn.splines import LinearSpline

SHAPES: dict[str, dict[str, Any]] = {
    "pixels": {"filters": 32, "kernel_size": 7, "scales": (0,) * 8, "padding": "zeros"},
    "default": {},
}
BATCH = (16, 1, 64, 64)
SIGMA = 25 / 255
SIDES = {"pixels": 64, "default": 32}


def training_step(shape: str) -> Callable[[], None]:
    """One step of Adam."""
    torch.manual_seed(0)
    denoiser = GradientFlowDenoiser(**SHAPES[shape]).train()
    optimizer = torch.optim.Adam(denoiser.parameters(), lr=1e-3)
    clean = torch.rand(BATCH)
    noisy = clean + SIGMA * torch.randn(BATCH)

    def step() -> None:
        optimizer.zero_grad()
        (denoiser(noisy, SIGMA) - clean).square().mean().backward()
        optimizer.step()

    return step


def activation(shape: str) -> Callable[[], None]:
    """One spline of that denoiser and its gradient."""
    filters = GradientFlowDenoiser(**SHAPES[shape]).steps[0].weight.size(0)
    side = SIDES[shape]
    sigma, u = LinearSpline(filters, reach=6.0), torch.randn(16, filters, side, side, requires_grad=True)
    g, tau = torch.randn_like(u), torch.ones(16, filters, 1, 1, requires_grad=True)
    return lambda: sigma(u, scale=tau).backward(g)


def transposed(shape: str) -> Callable[[], None]:
    """One transposed convolution of that denoiser and its gradient."""
    weight = GradientFlowDenoiser(**SHAPES[shape]).steps[0].weight
    side, reach = SIDES[shape], weight.size(-1) // 2
    y = torch.randn(16, weight.size(0), side, side, requires_grad=True)

    def both() -> None:
        x: Tensor = convolutions.transpose(y, weight, (reach, reach))
        x.backward(x.detach())

    return both


def least(work: Callable[[], None], rounds: int) -> tuple[float, float]:
    """Seconds with and without the compiled loops, in turn."""
    found: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(rounds + 1):  # the first round compiles, and does not count
        for compiled in (True, False):
            with contextlib.nullcontext() if compiled else kernels.disabled():
                start = time.thread_time()
                work()
                found[compiled].append(time.thread_time() - start)
    return min(found[True][1:]), min(found[False][1:])


def main() -> None:
    """Measure, write a line for each shape and part, and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    commit, changes = current_commit()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with options.out.open("w", encoding="utf-8") as file:
        for shape in SHAPES:
            for part, work in (("step", training_step), ("activation", activation), ("transpose", transposed)):
                compiled, plain = least(work(shape), options.rounds)
                row = {
                    "shape": shape,
                    "part": part,
                    "compiled_s": compiled,
                    "plain_s": plain,
                    "commit": commit,
                    "uncommitted_changes": changes,
                    "versions": current_versions(),
                }
                file.write(json.dumps(row) + "\n")
                print(f"{shape} {part}: {1e3 * compiled:.1f} ms, plain {1e3 * plain:.1f} ms: {plain / compiled:.2f}")


if __name__ == "__main__":
    main()
