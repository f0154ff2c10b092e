"""Fit one model in several processes, each of which holds a part of the graph."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import Parameter
from torch.nn.parallel import DistributedDataParallel
from torch_geometric.data import Data

from contractive_gnn.partition import Method, partition
from contractive_gnn.seeding import seeded
from contractive_gnn.trainable import HasRoles, declared
from contractive_gnn.training.fitting import FitResult, check_options, fit_alone, judged
from contractive_gnn.training.halo import Halo
from contractive_gnn.training.lessons import check_classes
from contractive_gnn.training.loop import Judgement, check_differentiates, check_learns, train
from contractive_gnn.training.on_part import check_on_parts, on_part
from contractive_gnn.training.options import FitOptions, GivenOptions, options_of
from contractive_gnn.training.prediction import check_reads, class_scores, compressed
from contractive_gnn.training.split import trainable

if TYPE_CHECKING:
    from typing_extensions import Unpack

_ONE_BUCKET_MB: Final = 1 << 20
"""Gradients are summed once, after the last exchange of a backward pass: two at a time could meet in another order."""


def fit_distributed(
    model: nn.Module,
    data: Data,
    options: FitOptions | None = None,
    *,
    seed: int = 0,
    part: Tensor | None = None,
    on_epoch: Callable[[int, float, float], None] | None = None,
    **given: Unpack[GivenOptions],
) -> FitResult:
    r"""Fit a model as :func:`~contractive_gnn.training.fit` does, in all processes of ``torch.distributed`` together.

    Process p holds the rows of the nodes of part p. At each evaluation of the vector field it fetches the states of
    their neighbours elsewhere, and the gradients go back the same way:

    .. math::
        \nabla L = \sum_p \nabla L_p, \qquad L_p = \frac{1}{|T|} \sum_{i \in T \cap V_p} \mathrm{CE}_i

    over the training nodes T. So the losses are those of one process up to rounding, without dropout; with dropout each
    process draws its own, and process 0 what one process would. Every process chooses the same epoch, on all validation
    nodes, and its model has the same parameters at the end: ``predict`` takes it with the whole graph.

    The activations are divided among the processes; ``data`` is the whole graph in each. Call it in each of them, with
    the same arguments::

        torch.distributed.init_process_group("gloo")  # "nccl", with model and data on the process's own GPU
        fit_distributed(model, data)

    and start the script with ``torchrun --nproc_per_node 2 script.py``.

    Args:
        model: a :class:`~contractive_gnn.nn.FlowGNN` of the ℓ∞ diffusion or a gradient flow of the graph, such as
            ``build("linf-diffusion", …)``, or a :class:`~contractive_gnn.nn.CSGNN`.
        data: see :func:`~contractive_gnn.training.fit`.
        options: see :class:`FitOptions`; without ``self_training``, ``teacher`` and ``order``.
        seed: of the parameters, and of dropout.
        part: of every node, ``[n]`` int64, the process that holds it, each at least one; by default those of
            :func:`contractive_gnn.partition.partition`, by METIS where pymetis is installed.
        on_epoch: called in every process with the epoch, its validation accuracy in percent and its validation loss.
        **given: options by name.

    Returns:
        the same in every process, but for ``seconds``.

    Raises:
        RuntimeError: no process group, and within ``torch.inference_mode()``.
        TypeError: for another model, or an option of another type.
        ValueError: for an option out of its range or one that needs one process, nothing to train, parts that are not
            what is said above, or processes with other arguments.
        InputError: see :func:`~contractive_gnn.training.fit`.
        FloatingPointError: if the training loss is not finite.
    """
    if not dist.is_available() or not dist.is_initialized():
        raise RuntimeError(
            "fit_distributed needs a process group: start the script with torchrun, and call "
            "torch.distributed.init_process_group('gloo') first"
        )
    check_differentiates("fit_distributed")
    start, rank, parts = time.perf_counter(), dist.get_rank(), dist.get_world_size()
    data = trainable(data)
    options = options_of(FitOptions, options, given)
    check_options(model, options, seed=seed)
    check_reads(model, data)
    check_on_parts(model)
    check_learns(model)
    for name, value in fit_alone(options).items():
        if value is not None:
            raise ValueError(f"fit_distributed has no {name}: leave it out, or fit in one process, with fit")
    if data.get("batch") is not None:
        raise ValueError("fit_distributed takes one graph, without batch: fit several in one process, with fit")
    part = _parts(data, part, parts)
    _check_same(model, data, part, options, seed)
    weight = data.get("edge_weight")
    if weight is None:
        weight = torch.ones(data.num_edges, dtype=data.x.dtype, device=data.x.device)
    halo = Halo(data.edge_index, weight, part, rank=rank, parts=parts)
    own = _own(data, halo.own)
    with seeded(seed), torch.enable_grad(), on_part(model, halo):
        kind = _Shared if declared(model, HasRoles) is None else _SharedWithRoles
        shared = kind(model, seed=seed, rank=rank)
        learned, seen = (own[mask].nonzero().squeeze(1) for mask in ("train_mask", "val_mask"))
        n_learned, n_seen = int(data.train_mask.sum()), int(data.val_mask.sum())

        def objective(scores: Tensor, epoch: int) -> Tensor:
            if epoch == 0:
                check_classes(data.y[data.train_mask | data.val_mask], scores)
            loss = nn.functional.cross_entropy(scores[learned], own.y[learned], reduction="sum") / n_learned
            total = loss.detach().clone()
            dist.all_reduce(total)
            # the value of all processes, the gradient of this one: DistributedDataParallel divides their sum by parts
            return parts * loss + (total - parts * loss).detach()

        def judge(loss: Tensor) -> Judgement:
            scores = class_scores(shared, own)[seen]
            right = (scores.argmax(dim=-1) == own.y[seen]) & scores.isfinite().all(dim=-1)
            entropy = nn.functional.cross_entropy(scores.double(), own.y[seen], reduction="sum")
            sums = torch.stack([right.sum().double(), entropy])
            dist.all_reduce(sums)
            return judged(100.0 * float(sums[0]) / n_seen, float(sums[1]) / n_seen, options)

        kept = train(shared, own, options, seed=seed, objective=objective, judge=judge, on_epoch=on_epoch)
    return FitResult(*kept.judgement.figures, kept.epoch, kept.epochs, time.perf_counter() - start)


class _Shared(nn.Module):
    """A model whose gradients are averaged over the processes, as the training loop takes it."""

    def __init__(self, model: nn.Module, *, seed: int, rank: int) -> None:
        super().__init__()
        self.parallel = DistributedDataParallel(model, bucket_cap_mb=_ONE_BUCKET_MB)
        self.seed, self.rank = seed, rank

    def reset_parameters(self) -> None:
        """Draw the parameters of the seed in every process, and then what each drops by itself."""
        self.parallel.module.reset_parameters()
        if self.rank:
            torch.manual_seed(int(np.random.SeedSequence([self.seed, self.rank]).generate_state(1)[0]))

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        """Class scores of the own nodes."""
        called = self.parallel if self.training else self.parallel.module
        scores: Tensor = called(x, edge_index)
        return scores


class _SharedWithRoles(_Shared, HasRoles):
    """One of a model whose parameters have roles."""

    def parameter_groups(self) -> Mapping[str, Sequence[Parameter]]:
        """Those of the model."""
        groups: Mapping[str, Sequence[Parameter]] = self.parallel.module.parameter_groups()
        return groups


def _parts(data: Data, part: Tensor | None, parts: int) -> Tensor:
    """The part of every node, checked."""
    n = data.num_nodes
    if part is None:
        method: Method = "metis" if find_spec("pymetis") is not None else "rcm"
        part = partition(data.edge_index.cpu(), n, parts, method=method)
    if not isinstance(part, Tensor) or part.dtype != torch.int64 or part.shape != (n,):
        given = f"{part.dtype} {list(part.shape)}" if isinstance(part, Tensor) else f"a {type(part).__name__}"
        raise ValueError(f"part must be int64 [{n}], got {given}")
    sizes = part.clamp(min=-1).add(1).bincount(minlength=parts + 1).tolist()  # first of the negative ones
    if sizes[0] or len(sizes) > parts + 1 or 0 in sizes[1:]:
        raise ValueError(
            f"part must give each of the processes 0 to {parts - 1} at least one node, and name no other, got "
            f"{int(part.min())} to {int(part.max())} with {sizes[1:]} nodes"
        )
    return part.to(data.edge_index.device)


def _check_same(model: nn.Module, data: Data, part: Tensor, options: FitOptions, seed: int) -> None:
    """Raise ValueError unless every process has the same graph, parts, parameters and options."""
    state = hashlib.sha256(f"{model} {options} {seed} {tuple(data.x.shape)} {data.x.dtype}".encode())
    x = data.x
    values = (x,) if x.layout == torch.strided else (x.crow_indices(), x.col_indices(), x.values())
    for tensor in (*values, data.edge_index, data.get("edge_weight"), data.y, data.train_mask, data.val_mask, part):
        if tensor is not None:
            state.update(tensor.detach().cpu().flatten().contiguous().view(torch.uint8).numpy())
    digests: list[str | None] = [None] * dist.get_world_size()
    dist.all_gather_object(digests, state.hexdigest())
    if len(set(digests)) > 1:
        raise ValueError(
            "the processes were given different graphs, parts, models, options or seeds; make them from the same files "
            "and seeds in each"
        )


def _own(data: Data, own: Tensor) -> Data:
    """The rows of these nodes, without the edges: the halo has them."""
    x = data.x if data.x.layout == torch.strided else data.x.to_dense()
    rows = {name: data[name][own] for name in ("y", "train_mask", "val_mask")}
    return compressed(Data(x=x[own], edge_index=data.edge_index[:, :0], **rows))
