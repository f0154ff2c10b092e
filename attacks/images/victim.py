"""A classifier of images while it is attacked."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from contractive_gnn.attacks.base import AttackError
from contractive_gnn.nn.images import frozen
from contractive_gnn.training.batches.place import place


class Victim(nn.Module):
    """A model as the attacks call it: in single precision, with the number of images counted.

    Args:
        model: ``[n, c, H, W]`` to scores ``[n, classes]``.
        fast: the same function with weights that are computed once; what the attacks search with.
        dtype: of the images that the model takes.
        device: where it is.

    Attributes:
        forwards: images that went through the model or its copy so far.
    """

    def __init__(self, model: nn.Module, fast: nn.Module, *, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__()
        # torchattacks reads the device off the first parameter, and a model may have none
        self.place = nn.Parameter(torch.empty(0, device=device), requires_grad=False)
        self.model = model
        self.fast = fast
        self.dtype = dtype
        self.forwards = 0

    def forward(self, x: Tensor) -> Tensor:
        """The scores, ``[n, classes]``, float32."""
        self.forwards += len(x)
        scores: Tensor = self.fast(x.to(self.dtype))
        return scores.float().clone()  # Square writes into what it is given

    @torch.no_grad()
    def scores(self, x: Tensor) -> Tensor:
        """The scores by the model itself in its own precision, checked.

        Raises:
            AttackError: they are no finite numbers ``[n, classes]`` with at least two classes.
        """
        self.forwards += len(x)
        scores = self._answer(x)
        if not isinstance(scores, Tensor) or scores.dim() != 2 or len(scores) != len(x) or scores.size(1) < 2:
            got = list(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
            raise AttackError(
                f"{type(self.model).__name__} must map images [{len(x)}, …] to scores [{len(x)}, classes] with at "
                f"least two classes, got {got}"
            )
        if not bool(scores.isfinite().all()):
            raise AttackError(
                f"{type(self.model).__name__} gives scores that are not finite: no attack says anything about it"
            )
        return scores

    def _answer(self, x: Tensor) -> object:
        try:
            return self.model(x)
        except (RuntimeError, TypeError) as error:
            device, dtype = place(self.model)
            if (device, dtype) == (x.device, x.dtype):
                raise
            raise AttackError(
                f"{type(self.model).__name__} has parameters of {dtype} on {device} and the images are {x.dtype} on "
                f"{x.device}: give both the same, in float32 or float64 ({error})"
            ) from error


@contextlib.contextmanager
def attacked(model: nn.Module, x: Tensor) -> Iterator[Victim]:
    """The model in eval mode, parameters without gradients, and a frozen copy to search with; as before after it.

    Args:
        model: any.
        x: the images, for their dtype and device.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    training = [module for module in model.modules() if module.training]
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        model.eval()
        for parameter in learned:
            parameter.requires_grad_(False)
        # an attack needs gradients, wherever it is called
        with torch.inference_mode(False), torch.enable_grad():
            yield Victim(model, _fast(model), dtype=x.dtype, device=x.device).eval()
    finally:
        for module in training:
            module.training = True
        for parameter in learned:
            parameter.requires_grad_(True)


def _fast(model: nn.Module) -> nn.Module:
    """A frozen copy; the model itself where it cannot be copied."""
    try:
        return frozen(model)
    except (RuntimeError, TypeError):  # a lock, an open file, a tensor with a history
        return model


def margins(scores: Tensor, y: Tensor) -> Tensor:
    """``z_y − max_{j ≠ y} z_j`` of each image, ``[n]``: the model is right where it is positive.

    A tie is no prediction: an attack that reaches one has won.
    """
    own = scores.gather(1, y[:, None])
    others = scores.scatter(1, y[:, None], -torch.inf).amax(dim=1, keepdim=True)
    return (own - others).squeeze(1)
