"""What the layers of deel-torchlip and orthogonium are called, what they measure, and what a training step costs.

    pip install deel-torchlip==1.0.5 orthogonium==0.0.4
    python docs/experiments/lipschitz_peers.py constants --out docs/results/lipschitz_peers.jsonl
    python docs/experiments/lipschitz_peers.py times --out docs/results/lipschitz_peers_times.jsonl
    python docs/experiments/lipschitz_peers.py table --out docs/results/lipschitz_peers.jsonl

``constants``: a line for each layer and way to build it. The layer is trained by Adam to raise its gain
``‖f(x) − f(y)‖/‖x − y‖`` between pairs of inputs, the pairs too (``contractive_gnn.testing.lipschitz``); then the
largest singular value of its dense Jacobian is taken at these and other inputs, in evaluation. That is a lower bound of
what the layer may reach, found by this search; what is not found is not proved absent. The same under ``autocast`` to
bfloat16, and with weights in bfloat16 where the layer takes them; there autograd's Jacobian of a sort may be no
derivative, since numbers of eight bits are often equal.

``times``: milliseconds of one training step (forward, backward) on one core with a batch of 128, CPU seconds of the
process, so that other work on the machine counts little. Layers of one kind are measured in turn, ours beside them.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from appending import append, read
from pages import markdown, write_between
from torch import Tensor, nn

from contractive_gnn.activations import LeakyReLU
from contractive_gnn.bench.results import current_commit, current_versions
from contractive_gnn.dynamics import GradientFlow
from contractive_gnn.nn.flow import Flow
from contractive_gnn.nn.lipschitz import MaxMin, OrthogonalConv2d, OrthogonalLinear, SpectralConv2d, SpectralLinear
from contractive_gnn.nn.parametrizations import almost_orthogonal
from contractive_gnn.operators import Conv2d, Dense, Operator
from contractive_gnn.testing.lipschitz import measured_lipschitz, raise_gain, rounded_measured_lipschitz

Build = Callable[[], nn.Module]
IMAGE = (4, 8, 8)
STEPS, STEP_SIZE, PAIRS, SEEDS = 300, 0.02, 4, (0, 1, 2)
BATCH, ROUNDS = 128, 15
#: what a measurement in float32 may exceed a constant by, from rounding
ROUNDING = 1e-3


@dataclasses.dataclass(frozen=True)
class Layer:
    """A layer in one way to build it.

    Attributes:
        library: where it is from.
        name: of its class.
        options: that differ from the defaults, in words.
        build: makes one.
        shape: of one input.
        claimed: its constant by its library's own text; None where the text says that it has none.
        text: what the library says about it where that is not "1-Lipschitz".
    """

    library: str
    name: str
    options: str
    build: Build
    shape: tuple[int, ...]
    claimed: float | None = 1.0
    text: str = ""


class WithBranch(nn.Module):
    """``layer(x, branch(x))`` for residual layers that take both."""

    def __init__(self, layer: nn.Module, branch: nn.Module) -> None:
        super().__init__()
        self.layer, self.branch = layer, branch

    def forward(self, x: Tensor) -> Tensor:
        """Join the input and the branch."""
        return self.layer(x, self.branch(x))


def torchlip_layers() -> Iterator[Layer]:
    """Those of deel-torchlip."""
    from deel import torchlip as tl

    def layer(name: str, options: str, build: Build, shape: tuple[int, ...] = IMAGE, **more: Any) -> Layer:
        return Layer("deel-torchlip", name, options, build, shape, **more)

    conv: dict[str, Any] = {"kernel_size": 3, "padding": 1}
    for mode in ("zeros", "circular", "reflect", "replicate"):
        yield layer("SpectralConv2d", mode, lambda mode=mode: tl.SpectralConv2d(4, 4, **conv, padding_mode=mode))
    yield layer(
        "SpectralConv2d", "symmetric, k 5", lambda: tl.SpectralConv2d(4, 4, 5, padding=2, padding_mode="symmetric")
    )
    yield layer("SpectralConv2d", "eps_bjorck=None", lambda: tl.SpectralConv2d(4, 4, **conv, eps_bjorck=None))
    yield layer("SpectralConv2d", "stride 2", lambda: tl.SpectralConv2d(4, 8, **conv, stride=2))
    yield layer(
        "SpectralConv2d", "k_coef_lip=0.5", lambda: tl.SpectralConv2d(4, 4, **conv, k_coef_lip=0.5), claimed=0.5
    )
    yield layer("SpectralConv1d", "zeros", lambda: tl.SpectralConv1d(4, 4, 3, padding=1), (4, 16))
    yield layer("SpectralConvTranspose2d", "k 2, stride 2", lambda: tl.SpectralConvTranspose2d(4, 2, 2, stride=2))
    yield layer("SpectralConvTranspose2d", "k 3", lambda: tl.SpectralConvTranspose2d(4, 4, 3, padding=1))
    yield layer("FrobeniusConv2d", "zeros", lambda: tl.FrobeniusConv2d(4, 1, **conv))
    yield layer("SpectralLinear", "", lambda: tl.SpectralLinear(64, 64), (64,))
    yield layer("SpectralLinear", "eps_bjorck=None", lambda: tl.SpectralLinear(64, 64, eps_bjorck=None), (64,))
    yield layer(
        "FrobeniusLinear",
        "64 outputs",
        lambda: tl.FrobeniusLinear(64, 64),
        (64,),
        text="each neuron",
    )
    yield layer("FrobeniusLinear", "disjoint=False", lambda: tl.FrobeniusLinear(64, 64, disjoint_neurons=False), (64,))
    yield layer("InvertibleDownSampling", "2", lambda: tl.InvertibleDownSampling(2))
    yield layer("InvertibleUpSampling", "2", lambda: tl.InvertibleUpSampling(2))
    yield layer("ScaledAvgPool2d", "2", lambda: tl.ScaledAvgPool2d(2))
    yield layer("ScaledAvgPool2d", "3, ceil_mode", lambda: tl.ScaledAvgPool2d(3, ceil_mode=True), (4, 7, 7))
    yield layer("ScaledAvgPool2d", "2, divisor_override=1", lambda: tl.ScaledAvgPool2d(2, divisor_override=1))
    yield layer("ScaledL2NormPool2d", "2", lambda: tl.ScaledL2NormPool2d(2))
    yield layer("ScaledL2NormPool2d", "3, ceil_mode", lambda: tl.ScaledL2NormPool2d(3, ceil_mode=True), (4, 7, 7))
    yield layer("ScaledAdaptiveAvgPool2d", "(1, 1)", lambda: tl.ScaledAdaptiveAvgPool2d((1, 1)))
    yield layer("ScaledAdaptativeL2NormPool2d", "(1, 1)", lambda: tl.ScaledAdaptativeL2NormPool2d((1, 1)))
    yield layer("MaxMin", "", tl.MaxMin)
    yield layer("GroupSort2", "", tl.GroupSort2)
    yield layer("GroupSort", "4", lambda: tl.GroupSort(4))
    yield layer("FullSort", "", tl.FullSort, (64,))
    yield layer("HouseHolder", "", lambda: tl.HouseHolder(4))
    yield layer("LPReLU", "", tl.LPReLU)
    yield layer("LPReLU", "k_coef_lip=0.5", lambda: tl.LPReLU(k_coef_lip=0.5), claimed=0.5)
    yield layer("LayerCentering", "", lambda: tl.LayerCentering(4))
    yield layer("BatchCentering", "", lambda: tl.BatchCentering(4))
    yield layer("BatchLipNorm", "", lambda: tl.BatchLipNorm(4), claimed=None, text="not 1-Lipschitz")
    yield layer("LipResidual", "SpectralConv2d", lambda: WithBranch(tl.LipResidual(), tl.SpectralConv2d(4, 4, **conv)))
    yield layer(
        "Sequential",
        "k_coef_lip=0.1, two SpectralLinear",
        lambda: tl.Sequential(tl.SpectralLinear(64, 64), tl.SpectralLinear(64, 64), k_coef_lip=0.1),
        (64,),
        claimed=0.1,
    )


def orthogonium_layers() -> Iterator[Layer]:
    """Those of orthogonium."""
    from orthogonium import layers as ol
    from orthogonium.layers.conv.adaptiveSOC.ortho_conv import AdaptiveSOCConv2d
    from orthogonium.layers.conv.AOC import AdaptiveOrthoConv2d, AdaptiveOrthoConvTranspose2d
    from orthogonium.layers.conv.AOL.aol import AOLConv2D, AOLConvTranspose2D
    from orthogonium.layers.conv.SLL import (
        AOCLipschitzResBlock,
        SDPBasedLipschitzDense,
        SDPBasedLipschitzResBlock,
        SLLxAOCLipschitzResBlock,
    )
    from orthogonium.layers.custom_activations import SoftHuber
    from orthogonium.layers.residual import (
        AdditiveResidual,
        ConcatResidual,
        L2NormResidual,
        PrescaledAdditiveResidual,
    )

    def layer(name: str, options: str, build: Build, shape: tuple[int, ...] = IMAGE, **more: Any) -> Layer:
        return Layer("orthogonium", name, options, build, shape, **more)

    def aoc(*channels: int, **options: Any) -> Build:
        return lambda: AdaptiveOrthoConv2d(*channels, **options)

    for mode in ("zeros", "circular", "reflect", "replicate"):
        yield layer("AdaptiveOrthoConv2d", mode, aoc(4, 4, kernel_size=3, padding=1, padding_mode=mode))
    yield layer("AdaptiveOrthoConv2d", "circular, padding=2", aoc(4, 4, kernel_size=3, padding=2))
    yield layer("AdaptiveOrthoConv2d", "k 2, stride 2", aoc(4, 8, kernel_size=2, stride=2, padding=0))
    yield layer("AdaptiveOrthoConv2d", "k 3, stride 2", aoc(4, 8, kernel_size=3, stride=2, padding=1))
    yield layer("AdaptiveOrthoConv2d", "groups=2", aoc(4, 4, kernel_size=3, groups=2))
    yield layer("AdaptiveOrthoConv2d", "dilation=2", aoc(4, 4, kernel_size=3, dilation=2))
    yield layer(
        "AdaptiveOrthoConvTranspose2d", "k 2, stride 2", lambda: AdaptiveOrthoConvTranspose2d(4, 2, 2, stride=2)
    )
    yield layer(
        "AdaptiveSOCConv2d", "k 3", lambda: AdaptiveSOCConv2d(4, 4, 3, padding=3, padding_mode="circular"), text="1.08"
    )
    yield layer("AOLConv2D", "zeros", lambda: AOLConv2D(4, 4, 3, padding=1))
    yield layer("AOLConv2D", "reflect", lambda: AOLConv2D(4, 4, 3, padding=1, padding_mode="reflect"))
    yield layer("AOLConvTranspose2D", "k 3", lambda: AOLConvTranspose2D(4, 4, 3, padding=1))
    yield layer("SDPBasedLipschitzResBlock", "", lambda: SDPBasedLipschitzResBlock(4, 1.0))
    yield layer("SLLxAOCLipschitzResBlock", "stride 2", lambda: SLLxAOCLipschitzResBlock(4, 8, 1.0))
    yield layer("AOCLipschitzResBlock", "", lambda: AOCLipschitzResBlock(4, 1, 3))
    yield layer("SDPBasedLipschitzDense", "", lambda: SDPBasedLipschitzDense(64, 64, 64), (64,))
    yield layer("OrthoLinear", "", lambda: ol.OrthoLinear(64, 64), (64,))
    yield layer("UnitNormLinear", "64 outputs", lambda: ol.UnitNormLinear(64, 64), (64,), text="each output")
    yield layer("LayerCentering2D", "", lambda: ol.LayerCentering2D(4))
    yield layer("BatchCentering2D", "", lambda: ol.BatchCentering2D(4))
    yield layer("MaxMin", "", ol.MaxMin)
    yield layer("HouseHolder", "", lambda: ol.HouseHolder(4))
    yield layer("HouseHolder_Order_2", "", lambda: ol.HouseHolder_Order_2(4))
    yield layer("Abs", "", ol.Abs)
    yield layer("SoftHuber", "", SoftHuber)
    yield layer("ChannelShuffle", "2, 2", lambda: ol.ChannelShuffle(2, 2))
    for residual in (AdditiveResidual, PrescaledAdditiveResidual, L2NormResidual):
        yield layer(
            residual.__name__,
            "AdaptiveOrthoConv2d",
            lambda residual=residual: residual(AdaptiveOrthoConv2d(4, 4, 3, padding=1, padding_mode="zeros")),
        )
    yield layer(
        "ConcatResidual",
        "AdaptiveOrthoConv2d",
        lambda: ConcatResidual(AdaptiveOrthoConv2d(2, 2, 3, padding=1, padding_mode="zeros")),
    )


# constants -----------------------------------------------------------------------------------------------------------


def in_bfloat16(module: nn.Module, x: Tensor) -> dict[str, float | str]:
    """The same under autocast, and with weights in bfloat16; the error's first line where it does not run."""
    found: dict[str, float | str] = {}
    for way, measured in (("autocast", rounded_measured_lipschitz), ("weights", measured_lipschitz)):
        try:
            found[way] = measured(module, x, dtype=torch.bfloat16)
        except Exception as error:  # another library's: whatever it raises is what is reported
            found[way] = f"{type(error).__name__}: {str(error).splitlines()[0][:100]}"
    return found


def constant(layer: Layer, *, steps: int) -> dict[str, Any]:
    """The line of one layer: fresh, and the largest of several seeds after training."""
    fresh, trained, low, parameters = 0.0, [], [], 0
    for seed in SEEDS:
        torch.manual_seed(seed)
        module = layer.build()
        parameters = sum(parameter.numel() for parameter in module.parameters())
        points = torch.randn(PAIRS, *layer.shape)
        module(points)  # what is computed lazily, and in training only
        fresh = max(fresh, measured_lipschitz(module.eval(), points, dtype=torch.float32))
        pair = raise_gain(module.train(), points, steps=steps, step_size=STEP_SIZE, seed=seed)
        points = torch.cat([pair.x, pair.y, points])
        trained.append(measured_lipschitz(module.eval(), points, dtype=torch.float32))
        low.append(in_bfloat16(module, points))
    worst = max(fresh, *trained)
    return {
        "library": layer.library,
        "version": metadata.version(layer.library),
        "layer": layer.name,
        "options": layer.options,
        "shape": layer.shape,
        "parameters": parameters,
        "claimed": layer.claimed,
        "text": layer.text,
        "fresh": fresh,
        "trained": trained,
        "worst": worst,
        "exceeds": layer.claimed is not None and worst > layer.claimed * (1 + ROUNDING),
        "bfloat16": {
            way: max((one[way] for one in low if isinstance(one[way], float)), default=low[0][way])
            for way in ("autocast", "weights")
        },
        "steps": steps,
        "seeds": SEEDS,
    }


# times ---------------------------------------------------------------------------------------------------------------

STAGES = ((32, 16), (64, 8), (128, 4))


def timed() -> Iterator[tuple[str, str, str, Build, tuple[int, ...]]]:
    """``(kind, library, layer, build, shape)`` of what a network of this size is made of."""
    from deel import torchlip as tl
    from orthogonium import layers as ol
    from orthogonium.layers.conv.AOC import AdaptiveOrthoConv2d
    from orthogonium.layers.conv.AOL.aol import AOLConv2D
    from orthogonium.layers.conv.SLL import SDPBasedLipschitzResBlock

    for c, s in STAGES:
        kind, shape = f"convolution {c} at {s} x {s}", (c, s, s)
        conv: dict[str, Any] = {"in_channels": c, "out_channels": c, "kernel_size": 3, "padding": 1}
        yield kind, "torch", "Conv2d", lambda conv=conv: nn.Conv2d(**conv), shape
        yield kind, "deel-torchlip", "SpectralConv2d", lambda conv=conv: tl.SpectralConv2d(**conv), shape
        yield (
            kind,
            "orthogonium",
            "AdaptiveOrthoConv2d",
            lambda conv=conv: AdaptiveOrthoConv2d(**conv, padding_mode="zeros"),
            shape,
        )
        yield kind, "orthogonium", "AOLConv2D", lambda conv=conv: AOLConv2D(**conv), shape
        yield kind, "orthogonium", "SDPBasedLipschitzResBlock", lambda c=c: SDPBasedLipschitzResBlock(c, 1.0), shape
        for name, build in our_convolutions(c):
            yield kind, "contractive_gnn", name, build, shape
        kind = f"activation {c} at {s} x {s}"
        yield kind, "torch", "ReLU", nn.ReLU, shape
        yield kind, "deel-torchlip", "GroupSort2", tl.GroupSort2, shape
        yield kind, "orthogonium", "MaxMin", ol.MaxMin, shape
    for name, build in our_activations():
        for c, s in STAGES:
            yield f"activation {c} at {s} x {s}", "contractive_gnn", name, build, (c, s, s)
    shape = (512,)
    yield "dense 512", "torch", "Linear", lambda: nn.Linear(512, 512), shape
    yield "dense 512", "deel-torchlip", "SpectralLinear", lambda: tl.SpectralLinear(512, 512), shape
    yield "dense 512", "orthogonium", "OrthoLinear", lambda: ol.OrthoLinear(512, 512), shape
    for name, build in our_matrices():
        yield "dense 512", "contractive_gnn", name, build, shape


def flow(operator: Operator, bias: Tensor) -> nn.Module:
    """``x − 2Aᵀ relu(Ax + b)`` with A almost orthogonal."""
    field = GradientFlow(almost_orthogonal(operator), LeakyReLU(0.0), bias=nn.Parameter(bias))
    return Flow(field, num_steps=1)


def our_convolutions(c: int) -> list[tuple[str, Build]]:
    """Ours beside them, the flow that the classifier is made of first."""
    return [
        ("Flow", lambda: flow(Conv2d(nn.Parameter(0.1 * torch.randn(c, c, 3, 3)), padding=1), torch.zeros(c, 1, 1))),
        ("SpectralConv2d", lambda: SpectralConv2d(c, c, 3, padding=1)),
        ("OrthogonalConv2d", lambda: OrthogonalConv2d(c, c, 3, padding_mode="zeros")),
    ]


def our_activations() -> list[tuple[str, Build]]:
    """Ours beside them."""
    return [("MaxMin", MaxMin)]


def our_matrices() -> list[tuple[str, Build]]:
    """Ours beside them."""
    return [
        ("Flow", lambda: flow(Dense(nn.Parameter(0.1 * torch.randn(512, 512))), torch.zeros(512))),
        ("SpectralLinear", lambda: SpectralLinear(512, 512)),
        ("OrthogonalLinear", lambda: OrthogonalLinear(512, 512)),
    ]


def step_seconds(module: nn.Module, x: Tensor) -> float:
    """CPU seconds of a forward and a backward pass."""
    start = time.process_time()
    module.zero_grad()
    module(x).square().mean().backward()
    return time.process_time() - start


def times() -> Iterator[dict[str, Any]]:
    """A line for each layer, those of one kind measured in turn."""
    torch.manual_seed(0)
    kinds: dict[str, list[tuple[str, str, nn.Module, Tensor]]] = {}
    for kind, library, name, build, shape in timed():
        kinds.setdefault(kind, []).append((library, name, build().train(), torch.randn(BATCH, *shape).requires_grad_()))
    for kind, layers in kinds.items():
        seconds: list[list[float]] = [[] for _ in layers]
        for _ in range(ROUNDS):
            for found, (_, _, module, x) in zip(seconds, layers, strict=True):
                found.append(step_seconds(module, x))
        for found, (library, name, module, _) in zip(seconds, layers, strict=True):
            yield {
                "kind": kind,
                "library": library,
                "layer": name,
                "parameters": sum(parameter.numel() for parameter in module.parameters()),
                "batch": BATCH,
                "median_ms": round(1e3 * statistics.median(found[2:]), 2),
                "least_ms": round(1e3 * min(found[2:]), 2),
                "rounds": ROUNDS - 2,
            }


# the table -----------------------------------------------------------------------------------------------------------


def shown(value: float | str | None) -> str:
    """A cell."""
    if value is None:
        return "none"
    return f"{value:.4f}" if isinstance(value, float) else value.partition(":")[0]


def constants_table(lines: list[Mapping[str, Any]]) -> str:
    """The constants in markdown, what exceeds its claim in bold."""
    rows = []
    for line in lines:
        claim = "none" if line["claimed"] is None else f"{line['claimed']:g}"
        claim += f" ({line['text']})" if line["text"] else ""
        worst = f"**{line['worst']:.4f}**" if line["exceeds"] else f"{line['worst']:.4f}"
        low = line["bfloat16"]
        measured = f"{line['fresh']:.4f}", worst, shown(low["autocast"]), shown(low["weights"])
        rows.append([line["library"], f"`{line['layer']}`", line["options"], claim, *measured])
    return markdown(["library", "layer", "options", "claimed", "fresh", "trained", "autocast", "bfloat16"], rows)


def times_table(lines: list[Mapping[str, Any]]) -> str:
    """Milliseconds of a step in markdown: a row for each layer, a column for each size."""
    kinds = list(dict.fromkeys(line["kind"] for line in lines))
    found = {(line["library"], line["layer"], line["kind"]): line["median_ms"] for line in lines}
    layers = list(dict.fromkeys((line["library"], line["layer"]) for line in lines))
    rows = [
        [library, f"`{layer}`", *(f"{found[library, layer, kind]:.1f}" if (library, layer, kind) in found else ""
                                  for kind in kinds)]
        for library, layer in layers
    ]  # fmt: skip
    short = {"convolution": "conv", "activation": "act"}
    heads = [re.sub(r"(\w+) (\d+) at (\d+) x \3", lambda m: f"{short[m[1]]} {m[2]}, {m[3]}²", kind) for kind in kinds]
    return markdown(["library", "layer", *heads], rows)


def main() -> None:
    """Measure what has no line yet, or write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=("constants", "times", "table"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--page", type=Path, default=Path("docs/images.md"))
    parser.add_argument("--steps", type=int, default=STEPS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")  # of other libraries, one for each build
    if options.stage == "table":
        for name, table in (("lipschitz_peers", constants_table), ("lipschitz_peers_times", times_table)):
            write_between(options.page, name, table(read(options.out.with_name(f"{name}.jsonl"))))
        return
    commit, changed = current_commit()
    about = {"commit": commit, "uncommitted_changes": changed, "versions": current_versions()}
    if options.stage == "times":
        for line in times():
            append(options.out, [line | about])
            print(f"{line['kind']:28} {line['library']:16} {line['layer']:26} {line['median_ms']:8.2f} ms")
        return
    done = {(line["library"], line["layer"], line["options"]) for line in read(options.out)}
    for layer in (*torchlip_layers(), *orthogonium_layers()):
        if (layer.library, layer.name, layer.options) in done:
            continue
        line = constant(layer, steps=options.steps)
        append(options.out, [line | about])
        print(
            f"{layer.library:14} {layer.name:28} {layer.options:34} {line['fresh']:.4f} {line['worst']:.4f}", flush=True
        )


if __name__ == "__main__":
    main()
