"""A classifier of images whose constant is known, and its free relative."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from contractive_gnn import activations
from contractive_gnn.activations import Activation, LeakyReLU
from contractive_gnn.checks import check_flag, check_real, check_whole, whole_pair
from contractive_gnn.nn.images import blocks
from contractive_gnn.nn.images.frozen import frozen
from contractive_gnn.nn.images.radius import pairwise_radius
from contractive_gnn.nn.lipschitz import LipschitzModule, Sequential, SpaceToDepth, Standardise, certified
from contractive_gnn.nn.parametrizations import computed_once
from contractive_gnn.nn.plain import altered

Kind = Literal["nonexpansive", "alternating", "unconstrained"]

PATCH = 2  # pixels along each axis that are moved to channels at the start, and between stages


class ImageClassifier(LipschitzModule):
    r"""Stages of gradient flows at falling resolutions, and a linear map to the classes.

    .. math::
        x \to \text{standardise} \to \text{stages} \to \text{flatten} \to \text{dense flows} \to Wx + c

    Each stage moves 2 × 2 pixels to channels (an isometry), maps them by a 1 × 1 convolution to its width, and follows
    ``num_layers`` convolutional layers of 3 × 3. Then come dense layers on the flattened image. All linear maps are
    almost orthogonal (:func:`~contractive_gnn.nn.parametrizations.almost_orthogonal`), W too. Kinds of layers:

    ================= ================================================================= ===========================
    kind              layers                                                            constant
    ================= ================================================================= ===========================
    ``nonexpansive``  ``x − 2Aᵀσ(Ax + b)`` (for slopes up to 1)                         1/std
    ``alternating``   ``x + h_e Aᵀσ(Ax + b)``, then ``x − h_c(Bᵀσ(Bx + c) + μx)``       1/std
    ``unconstrained`` ``x + Bσ(Ax + b)`` with A and B free, and free linear maps        none
    ================= ================================================================= ===========================

    Celledoni et al. (SISC 2023); the non-expansive step is that of Meunier et al. (ICML 2022), which with orthogonal
    rows and a ReLU reflects, and keeps the length of gradients. In an alternating pair ``h_c = 2/(1 + 2μ)``, and h_e is
    a learned share of what the pair may expand. The networks of all kinds have the same states and equal numbers of
    parameters, up to a part in a hundred: an unconstrained block has two free operators, and takes the place of two
    layers of a stage; in a dense layer its inner width is half.

    Args:
        in_channels: of an image.
        num_classes: at least 2.
        size: height and width of an image, or one number for both; ``2^stages`` must divide them.
        channels: the width of each stage.
        num_layers: layers of each stage; an even number for two of the kinds.
        dense: inner widths of the dense layers, the rows of their A.
        kind: see above.
        activation: σ, monotone, or its name; by default a ReLU. An object is shared by all layers.
        mean: subtracted from the pixels: one number, or one for each channel.
        std: what they are divided by.
        mu: μ > 0 of the contracting steps of an alternating network.
        learn_step: learn the expansive steps of an alternating network, or take the longest.

    Shapes:
        ``[n, in_channels, H, W]`` with entries in [0, 1] to scores ``[n, num_classes]``.

    Raises:
        ValueError: for numbers that do not fit, and an activation that is not monotone; (called) for another shape.
        TypeError: for arguments of another type.

    Example:
        >>> model = ImageClassifier(3, 10, size=32, channels=(8, 16), num_layers=2)
        >>> model(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 10])
        >>> 0.99 < model.lipschitz() <= 1.0, model.certified
        (True, True)
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        size: int | tuple[int, int],
        channels: Sequence[int] = (32, 64, 128),
        num_layers: int = 2,
        dense: Sequence[int] = (128,),
        kind: Kind = "nonexpansive",
        activation: str | Activation | None = None,
        mean: float | Sequence[float] = 0.5,
        std: float = 1.0,
        mu: float = 0.1,
        learn_step: bool = True,
    ) -> None:
        super().__init__()
        for name, number, least in (
            ("in_channels", in_channels, 1),
            ("num_classes", num_classes, 2),
            ("num_layers", num_layers, 1),
        ):
            check_whole(name, number, least=least)
        check_real("mu", mu, above=0)
        check_flag("learn_step", learn_step)
        self.channels, self.size = _widths("channels", channels), whole_pair("size", size, least=1)
        if not self.channels:
            raise ValueError("channels must have the width of at least one stage, got none")
        divisor = PATCH ** len(self.channels)
        if any(length % divisor for length in self.size):
            raise ValueError(
                f"each of {len(self.channels)} stages halves the size, so {divisor} must divide it, got {self.size}: "
                "give fewer channels, or pad the images"
            )
        if kind not in get_args(Kind):
            raise ValueError(f"kind must be one of {', '.join(map(repr, get_args(Kind)))}, got {kind!r}")
        if kind != "nonexpansive" and num_layers % 2:
            raise ValueError(f"num_layers must be even for the kind {kind!r}, whose blocks are pairs, got {num_layers}")
        sigma = LeakyReLU(0.0) if activation is None else activations.activation(activation)
        if sigma.slopes[0] < 0 or sigma.group:
            raise ValueError(f"activation must be monotone and elementwise, got {sigma} with slopes {sigma.slopes}")
        if not isinstance(mean, int | float | Sequence):
            raise TypeError(f"mean must be a number, or a list of one for each channel, got {mean!r}")
        means = [mean] * in_channels if isinstance(mean, int | float) else list(mean)
        if len(means) != in_channels:
            raise ValueError(f"mean must be one number, or one for each of {in_channels} channels, got {mean!r}")

        self.in_channels, self.num_classes, self.kind = in_channels, num_classes, kind
        free = kind == "unconstrained"
        layers: list[nn.Module] = [Standardise(means, [std] * in_channels)]
        before = in_channels
        for width in self.channels:
            layers.append(SpaceToDepth(PATCH))
            mixing = blocks.convolution(before * PATCH**2, width, 1, constrained=not free)
            layers.append(blocks.projection(mixing, constrained=not free))
            layers += _stage(kind, width, num_layers, sigma, mu, learn_step)
            before = width
        layers.append(nn.Flatten())
        features = before * math.prod(length // divisor for length in self.size)
        for inner in _widths("dense", dense):
            if free:
                half = max(inner // 2, 1)
                first, second = (
                    blocks.dense(*shape, constrained=False) for shape in ((features, half), (half, features))
                )
                layers.append(blocks.residual(first, second, sigma))
            else:
                layers.append(blocks.flow(blocks.dense(features, inner, constrained=True), sigma))
        self.body = Sequential(*layers)
        self.head = blocks.projection(blocks.dense(features, num_classes, constrained=not free), constrained=not free)

    def forward(self, x: Tensor) -> Tensor:
        """Scores of images."""
        if x.dim() != 4 or tuple(x.shape[1:]) != (self.in_channels, *self.size):
            raise ValueError(
                f"expected images [n, {self.in_channels}, {self.size[0]}, {self.size[1]}], got {[*x.shape]}"
            )
        with computed_once(self):  # a kernel is used twice in a step, by A and by its adjoint
            features = self.body(x.contiguous(memory_format=torch.channels_last))
            scores: Tensor = self.head(features)
        return scores

    def lipschitz(self) -> float:
        """A bound of the constant from an image to its scores, in raw pixel units; ``inf`` for the free kind."""
        return math.inf if self.kind == "unconstrained" else Sequential(self.body, self.head).lipschitz()

    def rounded_lipschitz(self, dtype: torch.dtype) -> float:
        """The product of those of the parts; ``inf`` for the free kind."""
        return math.inf if self.kind == "unconstrained" else Sequential(self.body, self.head).rounded_lipschitz(dtype)

    @property
    def certified(self) -> bool:  # type: ignore[override]  # that of its parts
        """Whether the constant is proved."""
        whole = self.kind != "unconstrained" and not altered(self, below=False)
        return whole and certified(self.body) and certified(self.head)

    @torch.no_grad()
    def radius(self, x: Tensor, *, pairwise: bool = True) -> Tensor:
        """The certified radius of each image, evaluated in float64: no closer image (ℓ2) is predicted otherwise.

        Args:
            x: images.
            pairwise: divide the difference of two scores by the constant of that difference
                (:func:`~contractive_gnn.nn.images.pairwise_radius`); else by ``√2 L``, which is never more.

        Returns:
            ``[n]``, float64, in raw pixel units.

        Raises:
            ValueError: where the constant is not :attr:`certified`: for the unconstrained kind, say.
        """
        if not self.certified:
            raise ValueError(
                "a model without a certified constant has no radius: the kind 'unconstrained' has none, and hooks, "
                "replaced methods and foreign parts may compute anything"
            )
        exact = frozen(self).double()
        scores = exact(x.double())
        if pairwise:
            return pairwise_radius(scores, exact.head.operator.weight, lipschitz=exact.body.lipschitz())
        apart = torch.eye(self.num_classes, dtype=torch.float64, device=scores.device)
        return pairwise_radius(scores, apart, lipschitz=exact.lipschitz())


def _stage(kind: Kind, width: int, num_layers: int, sigma: Activation, mu: float, learn_step: bool) -> list[nn.Module]:
    kernels = [blocks.convolution(width, width, 3, constrained=kind != "unconstrained") for _ in range(num_layers)]
    if kind == "nonexpansive":
        return [blocks.flow(kernel, sigma) for kernel in kernels]
    pairs = list(zip(kernels[::2], kernels[1::2], strict=True))
    if kind == "unconstrained":
        return [blocks.residual(first, second, sigma) for first, second in pairs]
    return [blocks.alternating(first, second, sigma, mu=mu, learn_step=learn_step) for first, second in pairs]


def _widths(name: str, widths: Sequence[int]) -> tuple[int, ...]:
    if isinstance(widths, int) or not isinstance(widths, Sequence):
        raise TypeError(f"{name} must be a list of widths, got {widths!r}")
    for index, width in enumerate(widths):
        check_whole(f"{name}[{index}]", width, least=1)
    return tuple(widths)
