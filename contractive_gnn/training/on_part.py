"""The layers of which a part of the graph can be computed in one process, as they act on it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from contractive_gnn.dynamics import Adjacency, AdjacencyFlow, Diffusion, Dynamics, GraphGradientFlow
from contractive_gnn.graph import Graph
from contractive_gnn.nn.csgnn import CSGNN, CoupledConv
from contractive_gnn.nn.flow import FlowConv, FlowGNN
from contractive_gnn.training.halo import Halo, PartAdjacency


def check_on_parts(model: nn.Module) -> None:
    """Raise where what a model computes for a part is not known to be exact.

    Raises:
        TypeError: another model than a FlowGNN of the dynamics that are known, or a CSGNN.
        ValueError: a learned step that follows the largest degree, or parameters whose shapes are not known yet.
    """
    if type(model) is FlowGNN and type(model.conv) is FlowConv:
        meeting = [model.conv.dynamics]
    elif type(model) is CSGNN and all(type(block) is CoupledConv for block in model.blocks):
        meeting = [*model.blocks, *(block.adjacency_flow for block in model.layers() if block.adjacency_flow)]
    else:
        raise TypeError(
            "fit_distributed takes a FlowGNN with a FlowConv, like build('linf-diffusion', …), or a CSGNN, got "
            f"{type(model).__name__}: fit it in one process, with fit"
        )
    if lazy := [name for name, parameter in model.named_parameters() if is_lazy(parameter)]:
        raise ValueError(
            f"{lazy[0]} of {type(model).__name__} has no shape before the first call: build the model with "
            "data.num_features in the place of -1, and each process draws the same parameters"
        )
    for part in meeting:
        if type(part) not in (Diffusion, GraphGradientFlow, CoupledConv, AdjacencyFlow):
            raise TypeError(
                "fit_distributed takes Diffusion, GraphGradientFlow and AdjacencyFlow, got a model with "
                f"{type(part).__name__}: fit it in one process, with fit"
            )
        learned = any(parameter.requires_grad for parameter in part.parameters(recurse=False))
        if isinstance(part, GraphGradientFlow) and not part.uniform and (learned or type(part) is CoupledConv):
            raise ValueError(
                "the step of an unnormalised gradient flow follows the largest degree, and here something learned "
                "too: take normalization='degree' or 'sym'"
            )


@contextlib.contextmanager
def on_part(model: nn.Module, halo: Halo) -> Iterator[None]:
    """Within this a model that was checked computes the own nodes of a part, from their features ``[m, d]`` alone."""
    if isinstance(model, FlowGNN):
        whole = model.conv.dynamics
        model.conv.dynamics = DynamicsOnPart(whole, halo)
        try:
            yield
        finally:
            model.conv.dynamics = whole
        return
    assert isinstance(model, CSGNN)
    blocks = model.blocks
    model.blocks = nn.ModuleList(CoupledOnPart(block, halo) for block in blocks)  # type: ignore[arg-type]
    try:
        yield
    finally:
        model.blocks = blocks


class DynamicsOnPart(Dynamics):
    """A dynamics on the own nodes of a part: the states of the halo are fetched for each evaluation of the field.

    A node's row of the field must depend on the states of its neighbours and on row sums alone. The rate and the
    largest step must be the same on every graph, or the least of those on the parts, and then without a gradient.

    Args:
        dynamics: on the whole graph.
        halo: of this process.
    """

    def __init__(self, dynamics: Dynamics, halo: Halo) -> None:
        super().__init__()
        self.dynamics = dynamics
        self.norm = dynamics.norm
        self.halo = halo

    def field(self, x: Tensor, graph: Graph, *, anchor: Tensor | None = None, t: Tensor | float = 0.0) -> Tensor:
        """The rows of the own nodes ``[m, c]``; ``graph`` is not read."""
        state = self.halo.filled(x)
        anchor = None if anchor is None else self.halo.padded(anchor)
        return self.dynamics.field(state, self.halo.graph, anchor=anchor, t=t)[: x.size(0)]

    def rate(self, graph: Graph) -> Tensor | float:
        """That on the whole graph."""
        return self._least(self.dynamics.rate(self.halo.graph))

    def max_step(self, graph: Graph) -> Tensor | float:
        """That on the whole graph."""
        return self._least(self.dynamics.max_step(self.halo.graph))

    def _least(self, value: Tensor | float) -> Tensor | float:
        """The least of the values of all processes."""
        if self.dynamics.uniform:
            return value
        least = torch.as_tensor(value, dtype=torch.float64, device=self.halo.own.device).clone()
        dist.all_reduce(least, dist.ReduceOp.MIN)
        return least.to(value) if isinstance(value, Tensor) else float(least)


class CoupledOnPart(nn.Module):
    """A coupled step on the own nodes of a part, and on the adjacency of the edges that touch it.

    Args:
        block: the step.
        halo: of this process.
    """

    def __init__(self, block: CoupledConv, halo: Halo) -> None:
        super().__init__()
        self.block = block
        self.halo = halo

    @property
    def adjacency_flow(self) -> AdjacencyFlow | None:
        """That of the step."""
        return self.block.adjacency_flow

    def reset_parameters(self) -> None:
        """Draw those of the step anew."""
        self.block.reset_parameters()

    def forward(self, x: Tensor, adjacency: Adjacency, *, anchor: Tensor | None = None) -> tuple[Tensor, PartAdjacency]:
        """One step of the own nodes ``[m, c]``; the first begins with the part's adjacency, whatever it is given."""
        if not isinstance(adjacency, PartAdjacency):
            adjacency = PartAdjacency.on(self.halo)
        anchor = None if anchor is None else self.halo.padded(anchor)
        state, adjacency = self.block(self.halo.filled(x), adjacency, anchor=anchor)
        assert isinstance(adjacency, PartAdjacency)
        return state[: x.size(0)], adjacency
