"""The compiled loops over every node's neighbours that refine cosines of edges, for the CPU.

Imports numba: nothing imports it before it is needed. Entries are those of an ``EdgeOrder``: at node i the neighbour j
with the places of the edges j → i and i → j. A pair is an entry whose neighbour is not before its node, so that every
edge belongs to one pair, and every pair to one row.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from contractive_gnn.compiled.edge_loops import AHEAD, REORDER, prefetch
from contractive_gnn.compiled.row_threads import LINE


@numba.njit(cache=True, error_model="numpy", fastmath=REORDER, nogil=True)
def unit(states, hop, least, out, length):  # type: ignore[no-untyped-def]
    """``h_i / max(‖h_i‖, least)`` and ``‖h_i‖``, whose square is summed in double precision."""
    for i in range(out.shape[0]):
        h_i, out_i = states[i, hop], out[i]
        square = 0.0
        for c in range(h_i.size):
            square += np.float64(h_i[c]) * np.float64(h_i[c])
        length[i] = math.sqrt(square)
        factor = out.dtype.type(1.0 / (least if length[i] < least else length[i]))
        for c in range(h_i.size):
            out_i[c] = factor * h_i[c]


@numba.njit(cache=True, error_model="numpy", fastmath=REORDER, nogil=True)
def unit_backward(g, unit, length, least, out, hop):  # type: ignore[no-untyped-def]
    """The gradient by h from that by :func:`unit`; a row shorter than ``least`` was divided by a constant."""
    for i in range(g.shape[0]):
        g_i, u_i, out_i = g[i], unit[i], out[i, hop]
        along = g.dtype.type(0.0)
        if not length[i] < least:
            for c in range(g_i.size):
                along += g_i[c] * u_i[c]
        factor = g.dtype.type(1.0 / (least if length[i] < least else length[i]))
        for c in range(g_i.size):
            out_i[c] = factor * (g_i[c] - along * u_i[c])


@numba.njit(cache=True, error_model="numpy", fastmath=REORDER, nogil=True)
def cosines(unit, pointer, neighbour, edge, back, start, stop, out):  # type: ignore[no-untyped-def]
    """The products of the rows of every pair, at both of its edges."""
    lines = -(-unit.shape[1] * unit.itemsize // LINE)
    last = neighbour.size - 1
    for i in range(start, stop):
        u_i = unit[i]
        for k in range(pointer[i], pointer[i + 1]):
            j = neighbour[k]
            if j < i:
                continue
            ahead = neighbour[min(k + AHEAD, last)]
            for line in range(lines):
                prefetch(unit, ahead, line)
            u_j = unit[j]
            cosine = unit.dtype.type(0.0)
            for c in range(u_i.size):
                cosine += u_i[c] * u_j[c]
            if edge[k] >= 0:
                out[edge[k]] = cosine
            if back[k] >= 0:
                out[back[k]] = cosine


@numba.njit(cache=True, nogil=True)
def weigh(weight, cosine, pointer, neighbour, place, out):  # type: ignore[no-untyped-def]
    """``a max(0, cos)`` of the edges at ``place``, at their entries, and 0 where there is none and at self-loops."""
    none = weight.dtype.type(0.0)
    for i in range(pointer.size - 1):
        for k in range(pointer[i], pointer[i + 1]):
            e = place[k]
            out[k] = none
            if e >= 0 and neighbour[k] != i:
                out[k] = weight[e] * (none if cosine[e] < 0 else cosine[e])


@numba.njit(cache=True, error_model="numpy", nogil=True)
def scales(weights, faint, pointer, out):  # type: ignore[no-untyped-def]
    """``(Σ_j w_ij + faint)^-½`` of every node."""
    for i in range(pointer.size - 1):
        degree = 0.0
        for k in range(pointer[i], pointer[i + 1]):
            degree += weights[k]
        out[i] = 1.0 / math.sqrt(degree + faint)


@numba.njit(cache=True, nogil=True)
def normalised(weights, scale, mixing, pointer, neighbour, starts, near, factor):  # type: ignore[no-untyped-def]
    """``β s_i w_ij s_j`` of the entries with a weight, their neighbours and where each node's begin; their number."""
    number = 0
    for i in range(pointer.size - 1):
        starts[i] = number
        for k in range(pointer[i], pointer[i + 1]):
            j = neighbour[k]
            near[number] = j
            factor[number] = mixing * scale[i] * weights[k] * scale[j]
            number += weights[k] != 0
    starts[pointer.size - 1] = number
    return number


@numba.njit(cache=True, error_model="numpy", fastmath=REORDER, nogil=True)
def spread(states, hop, z, kept, pointer, neighbour, factor, into, start, stop, out):  # type: ignore[no-untyped-def]
    """Rows start … stop − 1 of ``P h + kept z``, P given by its entries; without z of ``P h``.

    h is ``states[:, hop]``, and what comes of it is ``out[:, into]``.
    """
    channels = states.shape[2]
    width = channels * states.itemsize
    first, lines = hop * width // LINE, -(-width // LINE)
    last = neighbour.size - 1
    for i in range(start, stop):
        out_i = out[i, into]
        if z is None:
            for c in range(channels):
                out_i[c] = 0
        else:
            z_i = z[i]
            for c in range(channels):
                out_i[c] = kept * z_i[c]
        for k in range(pointer[i], pointer[i + 1]):
            ahead = neighbour[min(k + AHEAD, last)]
            for line in range(first, first + lines):
                prefetch(states, ahead, line)
            h_j, f = states[neighbour[k], hop], factor[k]
            for c in range(channels):
                out_i[c] += f * h_j[c]


@numba.njit(cache=True, fastmath=REORDER, nogil=True)
def scale_slopes(gradients, states, hop, z, kept, before, at, out):  # type: ignore[no-untyped-def]
    """Add ``s_i`` times the gradient by the scale s_i, of one hop ``new = P old + kept z``.

    ``gradients[:, hop]`` is that by the new state, and ``before[:, at]`` that by the old one, of this hop alone.
    """
    for i in range(out.size):
        g_i, new_i, z_i = gradients[i, hop], states[i, hop + 1], z[i]
        past_i, old_i = before[i, at], states[i, hop]
        slope = out.dtype.type(0.0)
        for c in range(g_i.size):
            slope += g_i[c] * (new_i[c] - kept * z_i[c]) + past_i[c] * old_i[c]
        out[i] += slope


@numba.njit(cache=True, error_model="numpy", fastmath=REORDER, nogil=True)
def weight_slopes(  # type: ignore[no-untyped-def]
    gradients, states, scale, scale_slope, weight, cosine, mixing, pointer, neighbour, edge, back,
    start, stop, by_weight, by_cosine,
):  # fmt: skip
    """Add the gradient by a, and write that by the cosines, of the hops of one round.

    ``gradients`` ``[n, hops · c]`` and ``states`` ``[n, (hops + 1) · c]`` hold, hop by hop, the gradient by what a hop
    made, and what it was made of. At an edge whose cosine is below 0 both are 0.
    """
    channels = gradients.shape[1]
    none = gradients.dtype.type(0.0)
    last = neighbour.size - 1
    for i in range(start, stop):
        g_i, h_i = gradients[i], states[i]
        for k in range(pointer[i], pointer[i + 1]):
            j = neighbour[k]
            if j < i:
                continue
            e, b = edge[k], back[k]
            cos = cosine[e if e >= 0 else b]
            if cos < 0 or j == i:
                continue
            g_j, h_j = gradients[j], states[j]
            here, there = none, none
            for c in range(channels):
                here += g_i[c] * h_j[c]
                there += g_j[c] * h_i[c]
            both = mixing * scale[i] * scale[j]
            for turn in range(2):
                place = e if turn == 0 else b
                if place >= 0:
                    end = i if turn == 0 else j
                    slope = both * (here if turn == 0 else there) - scale[end] * scale[end] * scale_slope[end] / 2
                    by_weight[place] += cos * slope
                    if by_cosine is not None and cos >= 0:
                        by_cosine[place] = weight[place] * slope


@numba.njit(cache=True, error_model="numpy", fastmath=REORDER, nogil=True)
def cosines_backward(by_cosine, unit, pointer, neighbour, edge, back, start, stop, out):  # type: ignore[no-untyped-def]
    """Rows start … stop − 1 of the gradient by the unit rows."""
    channels = unit.shape[1]
    none = unit.dtype.type(0.0)
    for i in range(start, stop):
        out_i = out[i]
        for c in range(channels):
            out_i[c] = 0
        for k in range(pointer[i], pointer[i + 1]):
            here = by_cosine[edge[k]] if edge[k] >= 0 else none
            there = by_cosine[back[k]] if back[k] >= 0 else none
            slope = here + there  # at a self-loop, one edge, both factors are this row
            if slope == 0:
                continue
            u_j = unit[neighbour[k]]
            for c in range(channels):
                out_i[c] += slope * u_j[c]
