"""What a checkpoint has of a model, and what it must share with the model that goes on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList

from contractive_gnn.nn.evaluation import evaluating
from contractive_gnn.training.batches.checkpoint import CheckpointError


class SavedModel:
    """A model in a checkpoint.

    What the training changes is read from the checkpoint: the parameters that learn, and buffers such as running
    statistics and the vectors of a power iteration. What it left alone is what the model *is*: a stencil's kernel, a
    graph, a frozen layer. That must be the same in both, bit for bit. So must be which parameters learn, and, up to
    rounding, the answers: not every argument of a model shows in its text or in a tensor.

    Args:
        model: before the training.
        probe: answers of a model to a few fixed inputs.
    """

    def __init__(self, model: nn.Module, probe: Callable[[nn.Module], Tensor]) -> None:
        self._model, self._probe = model, probe
        self._learning = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
        self._fixed = _digests(model)

    @torch.no_grad()
    def answers(self) -> Tensor:
        """Those to the probe in evaluation mode, as float32 on the CPU; each part's mode is left as it was."""
        with evaluating(self._model):
            return self._probe(self._model).float().cpu()

    def saved(self, answers: Tensor) -> dict[str, Any]:
        """For a checkpoint, with the present :meth:`answers`."""
        now = _digests(self._model)
        self._fixed = {name: digest for name, digest in self._fixed.items() if now.get(name) == digest}
        return {
            "state": self._model.state_dict(),
            "learning": self._learning,
            "fixed": self._fixed,
            "answers": answers,
        }

    def restore(self, saved: Mapping[str, Any], checkpoint: Path | None) -> None:
        """Go back to what :meth:`saved` gave.

        Raises:
            CheckpointError: it is of another model.
        """
        if others := sorted({*saved["learning"]} ^ {*self._learning}):
            raise CheckpointError(
                f"{checkpoint} belongs to another training: {', '.join(others)} learned there or learn here, not both; "
                "freeze the same parameters, delete the checkpoint to train from the start, or give another path"
            )
        if others := [name for name, digest in saved["fixed"].items() if self._fixed.get(name) != digest]:
            raise CheckpointError(
                f"{checkpoint} belongs to another model: {', '.join(others)}, which no training changed, had other "
                "values there than here. Build the model with the same arguments (and seed, where they are drawn), "
                "delete the checkpoint to train from the start, or give another path"
            )
        self._fixed = dict(saved["fixed"])
        self._model.load_state_dict(saved["state"])
        there, here = saved["answers"], self.answers()
        scale = 1.0 + float(there.abs().max())
        if here.shape != there.shape or not float((here - there).abs().max()) <= 1e-4 * scale:
            raise CheckpointError(
                f"{checkpoint} belongs to another model: with the weights that were saved, "
                f"{type(self._model).__name__} gives other answers than it gave then. Build it with the same arguments "
                "(activation, mean, steps, …), delete the checkpoint to train from the start, or give another path"
            )


def _digests(model: nn.Module) -> dict[str, str]:
    """What no optimiser changes, by its name: buffers, those that ``state_dict`` leaves out too, and frozen parameters.

    Without the buffers that were drawn with a weight that learns.
    """
    frozen = {name: parameter for name, parameter in model.named_parameters() if not parameter.requires_grad}
    buffers = dict(model.named_buffers())
    drawn = set(_drawn(model))
    return {name: _digest(value) for name, value in {**frozen, **buffers}.items() if name not in drawn}


def _drawn(model: nn.Module) -> Iterator[str]:
    """The buffers of torch's parametrisations: a base point of orthogonal matrices, vectors of a power iteration."""
    for name, chain in model.named_modules():
        if isinstance(chain, ParametrizationList) and any(weight.requires_grad for weight in chain.parameters()):
            for part, module in chain.named_modules(prefix=name):
                if type(module).__module__ == "torch.nn.utils.parametrizations":
                    yield from (f"{part}.{buffer}" for buffer, _ in module.named_buffers())


def _digest(value: Tensor) -> str:
    value = value.detach().cpu()
    parts = [value]
    if value.layout != torch.strided:
        entries = value.to_sparse(layout=torch.sparse_coo).coalesce()
        parts = [entries.indices(), entries.values()]
    content = b"".join(part.contiguous().flatten().view(torch.uint8).numpy().tobytes() for part in parts)
    return f"{value.dtype} {list(value.shape)} {hashlib.sha256(content).hexdigest()[:16]}"
