"""The weights of DnCNN that its authors published (Zhang et al., IEEE TIP 2017)."""

from __future__ import annotations

import numbers

import torch
from torch import Tensor

from contractive_gnn.datasets.errors import UnknownDatasetError
from contractive_gnn.datasets.fetch import Folder
from contractive_gnn.datasets.images.sources import pinned_files, read_pinned
from contractive_gnn.datasets.published import arrays

#: levels of noise, of 255, that weights are pinned for
SIGMAS = (15, 25)
_LAYERS = 17


def dncnn_weights(sigma: int, *, root: Folder | None = None) -> tuple[tuple[Tensor, Tensor], ...]:
    """Kernels and biases of the 17 convolutions of DnCNN-S, as ``torch.nn.functional.conv2d`` takes them.

    With x the noisy grey image in [0, 1], zero padding of 1 and ReLU between the layers, the clean image is
    ``x − network(x)``.

    Args:
        sigma: standard deviation of the noise in 255ths: 15 or 25. (A denoiser of this library takes it in [0, 1].)
        root: folder that is searched first; see :func:`load_photographs`.

    Returns:
        ``((weight, bias), …)``: weight float32 ``[out, in, 3, 3]``, bias ``[out]``. The file has the two last axes
        of each kernel the other way round, since MATLAB's files do; here they are put right. The PSNR does not tell:
        with all kernels the other way round the network is as good, on the image turned by its diagonal.

    Raises:
        UnknownDatasetError: another sigma.
        MissingFileError: the file is in none of the places.
        AlteredFileError: it is not the one that is pinned.
    """
    asked: object = sigma  # 25.0 and True are equal to whole numbers
    if isinstance(asked, bool) or not isinstance(asked, numbers.Integral) or asked not in SIGMAS:
        raise UnknownDatasetError(
            f"sigma = {sigma!r} given; expected {' or '.join(map(str, SIGMAS))}, in 255ths: only these are pinned"
        )
    file = f"images/dncnn/sigma{sigma}.npz"
    names = [f"{part}{layer}" for layer in range(_LAYERS) for part in "wb"]
    parts = arrays(read_pinned(file, root=root), names, source=pinned_files()[file])
    return tuple(
        (
            torch.from_numpy(parts[f"w{layer}"]).transpose(2, 3).contiguous(),
            torch.from_numpy(parts[f"b{layer}"]).contiguous(),
        )
        for layer in range(_LAYERS)
    )
