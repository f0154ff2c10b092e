"""Image classifiers made of the layers of deel-torchlip and of orthogonium, in the shape of ours.

One shape for all: pixels are standardised, 2 × 2 pixels become channels, stages of convolutions at 16, 8 and 4 pixels
with a downsampling between them, all of the image flattened, one hidden dense layer, and a linear head. Layers,
activation and downsampling are those that each library recommends for 1-Lipschitz classifiers; the width of the hidden
layer is what makes the number of parameters equal.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from contractive_gnn.nn.images.radius import pairwise_radius
from contractive_gnn.nn.lipschitz import LipschitzModule
from contractive_gnn.nn.lipschitz.base import product
from contractive_gnn.operators import Conv2d, Dense

#: training passes after which a power iteration that starts at the last estimate has nothing left to find
SETTLING = 200


class PeerClassifier(LipschitzModule):
    """Scores of images by layers of another library.

    Args:
        layers: from standardised images to features, each 1-Lipschitz by its library's text.
        head: from features to scores, linear.
        mean: of each channel.
        std: one number for all channels.
        claimed: Lipschitz constant of ``layers``, by their library's text.
    """

    certified = False  # claimed by others

    def __init__(
        self, layers: Sequence[nn.Module], head: nn.Linear, *, mean: Sequence[float], std: float, claimed: float = 1.0
    ) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(-1, 1, 1))
        self.std = float(std)
        self.body = nn.Sequential(*layers)
        self.head = head
        self.claimed = claimed

    mean: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Images ``[n, c, H, W]`` in [0, 1] to scores ``[n, classes]``."""
        scores: Tensor = self.head(self.body((x - self.mean) / self.std))
        return scores

    def lipschitz(self) -> float:
        """The claimed constant of the scores; the head is measured."""
        return self.claimed / self.std * float(Dense(self.head.weight.detach().double()).norm_bound())

    def radius(self, x: Tensor) -> Tensor:
        """By the claimed constant of the layers: ``min_j (z_i − z_j)/(L ‖w_i − w_j‖)``, ``[n]``."""
        return pairwise_radius(self(x), self.head.weight, lipschitz=self.claimed / self.std)

    def proved(self, x: Tensor) -> float:
        """A proved constant of the layers for images of the shape of ``x``; ``inf`` where no bound is known here.

        The weights must be at rest, as in a copy by :func:`settled`.
        """
        constants, x = [1.0 / self.std], (x - self.mean) / self.std
        for layer in self.body:
            constants.append(bound(layer, x))
            x = layer(x)
        return product(constants)


def bound(layer: nn.Module, x: Tensor) -> float:
    """A proved constant of one layer with its weights at rest, for inputs of the shape of ``x``; ``inf`` for none."""
    from deel import torchlip as tl
    from orthogonium import layers as ol
    from orthogonium.layers.conv.SLL import SDPBasedLipschitzResBlock

    size = (int(x.shape[-2]), int(x.shape[-1])) if x.dim() == 4 else None
    if isinstance(layer, nn.Conv2d) and layer.padding_mode in ("zeros", "circular"):
        operator = Conv2d(
            layer.weight.detach().double(),
            stride=layer.stride,  # type: ignore[arg-type]
            padding=layer.padding,  # type: ignore[arg-type]
            dilation=layer.dilation,  # type: ignore[arg-type]
            groups=layer.groups,
            padding_mode=layer.padding_mode,  # type: ignore[arg-type]
        )
        return float(operator.norm_bound(size=size))
    if isinstance(layer, nn.Linear):
        return float(Dense(layer.weight.detach().double()).norm_bound())
    if isinstance(layer, SDPBasedLipschitzResBlock):  # x − 2Kᵀ relu(Kx + b)
        squared = float(Conv2d(layer.kernel.detach().double(), padding=layer.padding).norm_bound(size=size)) ** 2
        return max(1.0, 2.0 * squared - 1.0)
    known = (tl.GroupSort2, tl.InvertibleDownSampling, tl.ScaledL2NormPool2d, ol.MaxMin, nn.PixelUnshuffle, nn.Flatten)
    return 1.0 if type(layer) in known else math.inf


def settled(model: nn.Module) -> nn.Module:
    """A copy in evaluation mode whose weights are computed once, from the parameters as they are now.

    Both libraries estimate norms by power iterations that go on from one training pass to the next, and deel-torchlip
    keeps the weight of the last training pass for evaluation: parameters that were averaged or loaded afterwards have
    no effect before another one.
    """
    model = copy.deepcopy(model).train()
    parametrised = [module for module in model.modules() if parametrize.is_parametrized(module)]
    for module in parametrised:
        # torch's copy shares the class that holds the parametrised property: removing it would break the original
        kind = type(module)
        own = {name: value for name, value in vars(kind).items() if name not in ("__dict__", "__weakref__")}
        module.__class__ = type(kind.__name__, kind.__bases__, own)
    with torch.no_grad():
        for module in parametrised:
            for name in module.parametrizations:
                for _ in range(SETTLING):
                    getattr(module, name)
    model.eval()
    for module in parametrised:
        for name in list(module.parametrizations):
            parametrize.remove_parametrizations(module, name)
    return model.requires_grad_(False)


def torchlip(
    *,
    hidden: int,
    in_channels: int,
    num_classes: int,
    size: int,
    channels: Sequence[int],
    num_layers: int,
    mean: Sequence[float],
    std: float,
    pool: str = "invertible",
) -> PeerClassifier:
    """Björck-normalised spectral convolutions, GroupSort2, invertible or ℓ2 downsampling, a spectral head."""
    from deel import torchlip as tl

    layers: list[nn.Module] = [tl.InvertibleDownSampling(2)]
    width, side = 4 * in_channels, size // 2
    for stage, wide in enumerate(channels):
        if stage:
            if pool == "invertible":
                layers.append(tl.InvertibleDownSampling(2))
                width = 4 * width
            else:
                layers.append(tl.ScaledL2NormPool2d(2))
            side = side // 2
            layers += [tl.SpectralConv2d(width, wide, 1), tl.GroupSort2()]
            width = wide
        for _ in range(num_layers):
            layers += [tl.SpectralConv2d(width, wide, 3, padding=1), tl.GroupSort2()]
            width = wide
    layers += [nn.Flatten(), tl.SpectralLinear(width * side * side, hidden), tl.GroupSort2()]
    return PeerClassifier(layers, tl.SpectralLinear(hidden, num_classes), mean=mean, std=std)


def orthogonium(
    *,
    hidden: int,
    in_channels: int,
    num_classes: int,
    size: int,
    channels: Sequence[int],
    num_layers: int,
    mean: Sequence[float],
    std: float,
    block: str = "aoc",
) -> PeerClassifier:
    """Adaptive orthogonal convolutions with MaxMin, or SLL blocks; orthogonal strided downsampling and head."""
    from orthogonium import layers as ol
    from orthogonium.layers.conv.AOC import AdaptiveOrthoConv2d
    from orthogonium.layers.conv.SLL import SDPBasedLipschitzResBlock

    layers: list[nn.Module] = [nn.PixelUnshuffle(2)]
    width, side = 4 * in_channels, size // 2
    for stage, wide in enumerate(channels):
        if stage:
            layers.append(AdaptiveOrthoConv2d(width, wide, kernel_size=2, stride=2, padding=0))
            side = side // 2
        else:
            layers.append(AdaptiveOrthoConv2d(width, wide, kernel_size=3, padding=1, padding_mode="zeros"))
        width = wide
        if block == "aoc":
            layers.append(ol.MaxMin())
        for _ in range(num_layers):
            if block == "aoc":
                layers += [AdaptiveOrthoConv2d(width, width, 3, padding=1, padding_mode="zeros"), ol.MaxMin()]
            else:
                layers.append(SDPBasedLipschitzResBlock(width, 1.0))
    layers += [nn.Flatten(), ol.OrthoLinear(width * side * side, hidden), ol.MaxMin()]
    return PeerClassifier(layers, ol.OrthoLinear(hidden, num_classes), mean=mean, std=std)


def parameters(model: nn.Module) -> int:
    """How many numbers are learned."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def of_equal_size(
    build: Callable[..., PeerClassifier], target: int, *, tolerance: float = 0.03, **options: Any
) -> tuple[PeerClassifier, int]:
    """The network whose even hidden width brings its parameters nearest to ``target``, and that width.

    Raises:
        ValueError: where even the nearest one is further than ``tolerance`` from it.
    """
    few, more = (parameters(build(hidden=hidden, **options)) for hidden in (32, 64))
    hidden = max(16, 32 + 2 * round((target - few) / (more - few) * 16))
    model = build(hidden=hidden, **options)
    found = parameters(model)
    if abs(found - target) > tolerance * target:
        raise ValueError(
            f"{build.__name__} with {options} has {found} parameters at a hidden width of {hidden}, not within "
            f"{tolerance:.0%} of {target}: choose other channels or num_layers"
        )
    return model, hidden
