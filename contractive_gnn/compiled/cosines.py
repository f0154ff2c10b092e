r"""The cosines of edges after rounds of diffusion, compiled, with their gradient.

From ``c_ij = cos(z_i, z_j)`` on the edges, ``rounds`` times:

.. math::
    w_{ij} = a_{ij} \max(0, c_{ij}), \quad s_i = (\textstyle\sum_j w_{ij} + \delta)^{-1/2}, \quad
    h_i \leftarrow \beta \sum_j s_i w_{ij} s_j h_j + (1 - \beta) z_i \;(\text{hops times, from } z), \quad
    c_{ij} = \cos(h_i, h_j).

With tensor operations each cosine gathers two rows for every edge, and its gradient scatters them. Here a pair of edges
i → j, j → i is visited once; the gradient by the weights is one sum for all hops of a round; an edge with ``c < 0`` has
``w = 0`` and gradients 0 whatever its weight is, and no row is read for it there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from contractive_gnn.activations import Identity
from contractive_gnn.compiled import kernels
from contractive_gnn.compiled.edge_order import EdgeOrder
from contractive_gnn.compiled.plain_gradients import plain_gradients
from contractive_gnn.compiled.row_threads import by_items, by_rows

LEAST: Final = 1e-12
"""Rows shorter than this are divided by it."""

_IDENTITY: Final = Identity()
Plain = Callable[[Tensor, Tensor], Tensor]


class Diffusion(NamedTuple):
    """How cosines are refined: rounds, hops of each, β and δ of the equation above."""

    rounds: int
    hops: int
    mixing: float
    faint: float


def available(z: Tensor, edge_weight: Tensor) -> bool:
    """Whether the compiled loops serve: as :func:`contractive_gnn.compiled.kernels.available` says."""
    return kernels.available(_IDENTITY, z, edge_weight)


def refined_cosines(z: Tensor, edge_weight: Tensor, edge_index: Tensor, diffusion: Diffusion, plain: Plain) -> Tensor:
    """The last cosines of the module's equation, ``[E]``, where :func:`available`.

    Args:
        z: ``[n, r]``.
        edge_weight: a, ``[E]``, at least 0.
        edge_index: ``[2, E]``, row 0 the j, row 1 the i; self-loops pass nothing on, and have a cosine.
        diffusion: how.
        plain: the same function of z and a with tensor operations, through which higher derivatives go.

    Raises:
        IndexError: for an index outside 0 … n − 1.
    """
    order = EdgeOrder.of(edge_index, z.shape[0])
    if torch.is_grad_enabled() and (z.requires_grad or edge_weight.requires_grad):
        found: Tensor = _Refined.apply(z, edge_weight, order, diffusion, plain)
        return found
    rounds = _Rounds(z, edge_weight, order, diffusion)
    return torch.from_numpy(rounds.to_edges(rounds.cosines()[-1]))


class _Refined(torch.autograd.Function):
    """The cosines as a function of z and a."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, weight: Tensor, order: EdgeOrder, diffusion: Diffusion, plain: Plain) -> Tensor:
        rounds = _Rounds(z, weight, order, diffusion)
        states = z.new_empty(diffusion.rounds, z.shape[0], diffusion.hops + 1, z.shape[1])
        cosines = rounds.cosines(states.numpy())
        ctx.save_for_backward(z, weight, states, torch.from_numpy(cosines))  # autograd sees whether z or a changed
        ctx.how = rounds, plain
        return torch.from_numpy(rounds.to_edges(cosines[-1]))

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        z, weight, states, cosines = ctx.saved_tensors
        rounds, plain = ctx.how
        needed = ctx.needs_input_grad[:2]
        if (found := plain_gradients(plain, (z, weight), needed, g)) is not None:
            return *found, None, None, None
        by_z, by_weight = rounds.gradients(g, states.numpy(), cosines.numpy(), by_z=needed[0])
        return by_z, by_weight if needed[1] else None, None, None, None


class _Rounds:
    """The arrays of one graph, and what the loops make of them."""

    def __init__(self, z: Tensor, weight: Tensor, order: EdgeOrder, diffusion: Diffusion) -> None:
        from contractive_gnn.compiled import cosine_loops, edge_loops  # numba is imported where it is needed

        self.loops: Any = cosine_loops
        self.z, self.weight = (tensor.detach().contiguous().numpy() for tensor in (z, weight))
        self.order = tuple(tensor.numpy() for tensor in order.arrays)
        *self.pairs, self.pair = edge_loops.pairs(*self.order)
        self.diffusion = diffusion
        self.number = self.z.dtype.type
        self.unit, self.length = np.empty_like(self.z), np.empty(len(self.z))
        pointer, neighbour = self.order[:2]
        starts, near, pair = np.empty_like(pointer), np.empty_like(neighbour), np.empty_like(neighbour)
        into, out_of = np.empty(near.size, self.number), np.empty(near.size, self.number)
        number = cosine_loops.listed(self.weight, *self.order, self.pair, starts, near, into, out_of, pair)
        self.listed = starts, *(array[:number] for array in (near, into, out_of, pair))

    def to_edges(self, values: Any) -> Any:
        """What every pair has, at its edges ``[E]``."""
        found = np.empty(self.weight.size, self.number)
        self.loops.to_edges(values, *self.pairs[2:], found)
        return found

    def cosines(self, states: Any = None) -> Any:
        """The cosines of the pairs in all rounds ``[rounds + 1, P]``, or without ``states`` ``[1, P]``, the last ones.

        Args:
            states: ``[rounds, n, hops + 1, r]``, for the states of every hop.
        """
        rounds, hops, _, _ = self.diffusion
        found = np.empty((1 if states is None else rounds + 1, self.pairs[0].size), self.number)
        n, r = self.z.shape
        self._measure(self.z.reshape(n, 1, r), 0, found[0])
        own = np.empty((n, 2, r) if states is None else (0, 0, 0), self.number)
        for turn in range(rounds):
            before, after = found[turn % len(found)], found[(turn + 1) % len(found)]
            entries = self._entries(before, self._scale(before), into=True)
            own = own if states is None else states[turn]
            own[:, 0] = self.z
            for hop in range(hops):
                self._spread(own, hop % own.shape[1], entries, own, (hop + 1) % own.shape[1], anchored=True)
            self._measure(own, hops % own.shape[1], after)
        return found

    def gradients(self, g: Tensor, states: Any, cosines: Any, *, by_z: bool) -> tuple[Tensor | None, Tensor]:
        """The gradients by z, None where it is not wanted, and by a.

        Args:
            g: the gradient by the last cosines, ``[E]``.
            states: those of :meth:`cosines`.
            cosines: what it returned.
            by_z: whether the first one is wanted.
        """
        rounds, hops, mixing, _ = self.diffusion
        n, r = self.z.shape
        by_weight = np.zeros(self.weight.size, self.number)
        at_z = np.zeros_like(self.z) if by_z else None
        slopes: Any = np.empty(self.pairs[0].size, self.number)
        self.loops.to_pairs(g.detach().contiguous().numpy(), *self.pairs[2:], slopes)
        neighbours = self.order[0], self.order[1], self.pair
        gradients = np.empty((n, hops, r), self.number)
        passed = np.empty((n, 1, r), self.number)
        chosen = np.empty_like(self.pairs[0])
        for turn in reversed(range(rounds)):
            own, cosine = states[turn], cosines[turn]
            self._unmeasure(own, hops, slopes, neighbours, gradients, hops - 1)
            scale = self._scale(cosine)
            entries = self._entries(cosine, scale, into=False)
            for hop in reversed(range(hops)):
                # the gradient by what the hop was made of, and z's own share of it
                before, at = (passed, 0) if hop == 0 else (gradients, hop - 1)
                self._spread(gradients, hop, entries, before, at, anchored=False)
            if at_z is not None:
                at_z += (1 - mixing) * gradients.sum(axis=1) + passed[:, 0]
            first = turn == 0 and not by_z  # what the first cosines follow is given
            slopes = None if first else np.zeros(self.pairs[0].size, self.number)
            number = self.loops.possible(cosine, *self.pairs[:2], chosen)
            here, there = np.empty((2, number), self.number)
            arrays = gradients.reshape(n, -1), own.reshape(n, -1), chosen[:number], *self.pairs[:2]
            by_items(self.loops.products, arrays, number, here, there, channels=2 * hops * r)
            arrays = scale, self.weight, cosine, self.number(mixing), chosen[:number], *self.pairs
            self.loops.weight_slopes(here, there, *arrays, by_weight, slopes)
            # the slope of a cosine between the rounds is that of a weight times a
            neighbours = self.listed[0], self.listed[1], self.listed[4]
        if at_z is not None:
            start = np.empty((n, 1, r), self.number)
            self._unmeasure(self.z.reshape(n, 1, r), 0, slopes, neighbours, start, 0)
            at_z += start[:, 0]
        return None if at_z is None else torch.from_numpy(at_z), torch.from_numpy(by_weight)

    def _measure(self, states: Any, hop: int, out: Any) -> None:
        """The cosines of one hop's states."""
        self.loops.unit(states, hop, LEAST, self.unit, self.length)
        by_items(self.loops.cosines, (self.unit, *self.pairs[:2]), out.size, out, channels=self.z.shape[1])

    def _unmeasure(self, states: Any, hop: int, slopes: Any, neighbours: Any, out: Any, at: int) -> None:
        """The gradient by one hop's states from that by their cosines, at these entries."""
        self.loops.unit(states, hop, LEAST, self.unit, self.length)
        by_unit = np.empty_like(self.unit)
        pointer, near, pair = neighbours
        by_rows(self.loops.cosines_backward, (slopes, self.unit, pointer, near, pair), pointer, by_unit)
        self.loops.unit_backward(by_unit, self.unit, self.length, LEAST, out, at)

    def _scale(self, cosine: Any) -> Any:
        """The scale s of every node."""
        starts, _, into, _, pair = self.listed
        scale = np.empty(len(self.z), self.number)
        self.loops.scales(starts, into, pair, cosine, self.diffusion.faint, scale)
        return scale

    def _entries(self, cosine: Any, scale: Any, *, into: bool) -> tuple[Any, Any, Any]:
        """Pointer, neighbours and values of the diffusion's matrix, or of its transpose where not ``into``."""
        starts, near, here, there, pair = self.listed
        pointer, neighbour, factor = np.empty_like(starts), np.empty_like(near), np.empty_like(here)
        mixing = self.number(self.diffusion.mixing)
        arrays = starts, near, here if into else there, pair, cosine, scale, mixing
        number = self.loops.normalised(*arrays, pointer, neighbour, factor)
        return pointer, neighbour[:number], factor[:number]

    def _spread(
        self, states: Any, hop: int, entries: tuple[Any, Any, Any], out: Any, at: int, *, anchored: bool
    ) -> None:
        """One hop, or its transpose."""
        pointer, neighbour, factor = entries
        kept = self.number(1 - self.diffusion.mixing)
        arrays = (states, hop, self.z if anchored else None, kept, pointer, neighbour, factor, at)
        by_rows(self.loops.spread, arrays, pointer, out, channels=self.z.shape[1])
