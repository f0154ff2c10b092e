"""DnCNN, the denoiser that others are measured against: it has no known Lipschitz constant."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from contractive_gnn.checks import check_whole
from contractive_gnn.nn.lipschitz.base import LipschitzModule


class DnCNN(LipschitzModule):
    r"""The residual denoiser of Zhang, Zuo, Chen, Meng and Zhang (IEEE TIP 2017), for one noise level.

    .. math:: D(y) = y - R(y), \qquad R = C_L ∘ \mathrm{ReLU} ∘ C_{L-1} ∘ … ∘ \mathrm{ReLU} ∘ C_1

    with L convolutions C of 3×3, zero padding and a bias: R estimates the noise. The authors train with batch norm
    between convolution and ReLU; once trained it is part of the convolution, and it is left out here, in training too.

    It is not certified: nothing bounds its constant but the product of its layers' norms, which is useless, so
    :meth:`lipschitz` is infinite. Nor is it averaged: applied again and again it need not converge.

    Args:
        depth: L ≥ 2; the authors' 17.
        channels: between the convolutions.
        in_channels: 1 for grey images, 3 for colour.

    Shapes:
        ``[n, in_channels, H, W]`` or ``[in_channels, H, W]`` to the same, values in [0, 1].

    Raises:
        ValueError: for a depth below 2, channels below 1, and (called) for another number of channels.

    Example:
        >>> import torch
        >>> denoiser = DnCNN(depth=3, channels=8)
        >>> denoiser(torch.rand(1, 1, 16, 16)).shape
        torch.Size([1, 1, 16, 16])
    """

    certified = False

    def __init__(self, depth: int = 17, channels: int = 64, in_channels: int = 1) -> None:
        super().__init__()
        check_whole("depth", depth, least=2)
        check_whole("channels", channels, least=1)
        check_whole("in_channels", in_channels, least=1)
        self.in_channels = in_channels
        widths = [in_channels, *[channels] * (depth - 1), in_channels]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(before, after, 3, padding=1) for before, after in itertools.pairwise(widths)
        )
        self.reset_parameters()

    @classmethod
    def from_layers(cls, layers: Sequence[tuple[Tensor, Tensor]]) -> DnCNN:
        """The network with these weights, such as those that ``contractive_gnn.datasets.dncnn_weights`` reads.

        Args:
            layers: kernel ``[out, in, 3, 3]`` and bias ``[out]`` of each convolution, as ``torch.nn.Conv2d`` has them.

        Returns:
            the network in single precision and evaluation mode. Depth and channels are those of the layers.

        Raises:
            ValueError: for shapes that are not those of a DnCNN, and entries that are not finite.

        Example:
            >>> import torch
            >>> shapes = [(8, 1, 3, 3), (8, 8, 3, 3), (1, 8, 3, 3)]
            >>> layers = [(torch.zeros(shape), torch.zeros(shape[0])) for shape in shapes]
            >>> len(DnCNN.from_layers(layers).convolutions)
            3
        """
        if len(layers) < 2 or layers[0][0].dim() != 4:
            raise ValueError(
                "expected at least two pairs of a kernel [out, in, 3, 3] and a bias [out], got "
                f"{[(list(weight.shape), list(bias.shape)) for weight, bias in layers]}"
            )
        channels, in_channels = layers[0][0].shape[:2]
        network = cls(len(layers), channels, in_channels)
        with torch.no_grad():
            for number, (given, convolution) in enumerate(zip(layers, network.convolutions, strict=True)):
                for kind, tensor, own in zip("wb", given, convolution.parameters(), strict=True):
                    if tensor.shape != own.shape:
                        raise ValueError(
                            f"{kind}{number} must have shape {list(own.shape)} in a network of {len(layers)} "
                            f"convolutions with {channels} channels, got {list(tensor.shape)}"
                        )
                    if not bool(torch.isfinite(tensor).all()):
                        raise ValueError(f"{kind}{number} has entries that are not finite")
                    own.copy_(tensor)
        return network.eval()

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> DnCNN:
        """:meth:`from_layers` of the authors' weights as MatConvNet keeps them.

        Args:
            arrays: ``w0, b0, w1, b1, …``, one pair for each convolution, such as an opened ``.npz``: w is
                ``[out, in, width, height]`` (columns before rows; its last two axes are swapped here), b is ``[out]``.

        Raises:
            ValueError: for other names too.
        """
        depth = len(arrays) // 2
        if set(arrays) != {f"{kind}{number}" for kind in "wb" for number in range(depth)}:
            raise ValueError(f"expected the arrays w0, b0, w1, b1, …, two for each convolution, got {sorted(arrays)}")
        pairs = [[torch.from_numpy(np.array(arrays[f"{kind}{number}"])) for kind in "wb"] for number in range(depth)]
        return cls.from_layers([(weight.transpose(-1, -2), bias) for weight, bias in pairs])

    def reset_parameters(self) -> None:
        """Draw the weights anew (He et al. 2015, as the authors do); the last convolution starts small: D is near y."""
        for convolution in self.convolutions:
            weight, bias = convolution.parameters()
            nn.init.kaiming_normal_(weight, nonlinearity="relu")
            nn.init.zeros_(bias)
        with torch.no_grad():
            weight.mul_(0.1)

    def forward(self, x: Tensor) -> Tensor:
        """``x − R(x)``."""
        if x.dim() not in (3, 4) or x.size(-3) != self.in_channels:
            raise ValueError(f"expected images [n, {self.in_channels}, H, W], got shape {list(x.shape)}")
        noise = x
        for convolution in self.convolutions[:-1]:
            noise = torch.relu(convolution(noise))
        return x - self.convolutions[-1](noise)  # type: ignore[no-any-return]

    def lipschitz(self) -> float:
        """Infinite: no useful bound is known."""
        return math.inf
