"""The compiled loops that refine cosines of edges, for the CPU.

Imports numba: nothing imports it before it is needed. A pair is two nodes with the edges between them, as
:func:`contractive_gnn.compiled.edge_loops.pairs` numbers them; an entry is a node's neighbour, with its pair.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from contractive_gnn.compiled.edge_loops import AHEAD, NEAR, REORDER, prefetch
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
def cosines(unit, first, second, start, stop, out):  # type: ignore[no-untyped-def]
    """The products of the rows of the pairs start … stop − 1."""
    for k in range(start, stop):
        u_i, u_j = unit[first[k]], unit[second[k]]
        cosine = unit.dtype.type(0.0)
        for c in range(u_i.size):
            cosine += u_i[c] * u_j[c]
        out[k] = cosine


@numba.njit(cache=True, nogil=True)
def to_edges(values, edge, back, out):  # type: ignore[no-untyped-def]
    """The value of every pair at its edges."""
    for k in range(values.size):
        if edge[k] >= 0:
            out[edge[k]] = values[k]
        if back[k] >= 0:
            out[back[k]] = values[k]


@numba.njit(cache=True, nogil=True)
def to_pairs(values, edge, back, out):  # type: ignore[no-untyped-def]
    """The sum of the values of every pair's edges; a self-loop is one."""
    for k in range(out.size):
        out[k] = values[edge[k]] if edge[k] >= 0 else 0
        if back[k] >= 0 and back[k] != edge[k]:
            out[k] += values[back[k]]


@numba.njit(cache=True, nogil=True)
def listed(weight, pointer, neighbour, edge, back, pair, starts, near, into, out_of, pairs):  # type: ignore[no-untyped-def]
    """The entries of which an edge has a weight, self-loops aside; where each node's begin, and their number.

    Neighbour, the weights of the edges into the node and out of it, and the pair of each.
    """
    none = weight.dtype.type(0.0)
    number = 0
    for i in range(pointer.size - 1):
        starts[i] = number
        for k in range(pointer[i], pointer[i + 1]):
            here = weight[edge[k]] if edge[k] >= 0 else none
            there = weight[back[k]] if back[k] >= 0 else none
            if neighbour[k] != i and (here != 0 or there != 0):
                near[number], into[number], out_of[number], pairs[number] = neighbour[k], here, there, pair[k]
                number += 1
    starts[pointer.size - 1] = number
    return number


@numba.njit(cache=True, error_model="numpy", nogil=True)
def scales(starts, into, pair, cosine, faint, out):  # type: ignore[no-untyped-def]
    """``(Σ_j a_ij max(0, cos_ij) + faint)^-½`` of every node."""
    for i in range(out.size):
        degree = 0.0
        for k in range(starts[i], starts[i + 1]):
            c = cosine[pair[k]]
            degree += 0.0 if c < 0 else np.float64(into[k] * c)
        out[i] = 1.0 / math.sqrt(degree + faint)


@numba.njit(cache=True, nogil=True)
def normalised(starts, near, weight, pair, cosine, scale, mixing, pointer, neighbour, factor):  # type: ignore[no-untyped-def]
    """``β s_i a_ij max(0, cos_ij) s_j`` of the entries where it is not 0, and their number.

    Their neighbours and where each node's begin are written, too.
    """
    number = 0
    for i in range(starts.size - 1):
        pointer[i] = number
        for k in range(starts[i], starts[i + 1]):
            j, c = near[k], cosine[pair[k]]
            if c <= 0 or weight[k] == 0:
                continue
            neighbour[number], factor[number] = j, mixing * scale[i] * weight[k] * c * scale[j]
            number += 1
    pointer[starts.size - 1] = number
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


@numba.njit(cache=True, nogil=True)
def possible(cosine, first, second, out):  # type: ignore[no-untyped-def]
    """The pairs whose cosine is not below 0, self-loops aside; their number."""
    number = 0
    for k in range(cosine.size):
        out[number] = k
        number += not (cosine[k] < 0) and first[k] != second[k]
    return number


@numba.njit(cache=True, error_model="numpy", fastmath=REORDER, nogil=True)
def products(gradients, states, chosen, first, second, start, stop, here, there):  # type: ignore[no-untyped-def]
    """``⟨g_i, h_j⟩`` and ``⟨g_j, h_i⟩`` of the chosen pairs start … stop − 1, summed over the hops of a round.

    ``gradients`` ``[n, hops · c]`` and ``states`` ``[n, (hops + 1) · c]`` hold, hop by hop, the gradient by what a hop
    made, and what it was made of.
    """
    lines = -(-gradients.shape[1] * gradients.itemsize // LINE)
    last = chosen.size - 1
    far = gradients.size * gradients.itemsize > 4 * NEAR
    for place in range(start, stop):
        if far:
            ahead = second[chosen[min(place + 2, last)]]  # rows of a whole round are long
            for line in range(lines):
                prefetch(gradients, ahead, line)
                prefetch(states, ahead, line)
        i, j = first[chosen[place]], second[chosen[place]]
        g_i, h_i, g_j, h_j = gradients[i], states[i], gradients[j], states[j]
        at_i, at_j = gradients.dtype.type(0.0), gradients.dtype.type(0.0)
        for c in range(gradients.shape[1]):
            at_i += g_i[c] * h_j[c]
            at_j += g_j[c] * h_i[c]
        here[place], there[place] = at_i, at_j


@numba.njit(cache=True, error_model="numpy", nogil=True)
def weight_slopes(  # type: ignore[no-untyped-def]
    here, there, scale, weight, cosine, mixing, chosen, first, second, edge, back, by_weight, by_cosine
):
    """Add the gradient by a, and write that by the cosines, of one round, from its :func:`products`.

    A weight ``w = a max(0, cos)`` acts by itself, as ``β s_i w s_j``, and on both scales. Where the cosine is below 0
    both gradients are 0.
    """
    along = np.zeros(scale.size)  # s times the gradient by s
    for place in range(chosen.size):
        k = chosen[place]
        i, j = first[k], second[k]
        both = mixing * scale[i] * scale[j]
        here[place] *= both
        there[place] *= both
        if cosine[k] != 0:
            share = weight[edge[k]] * here[place] if edge[k] >= 0 else 0.0
            share += weight[back[k]] * there[place] if back[k] >= 0 else 0.0
            along[i] += cosine[k] * share
            along[j] += cosine[k] * share
    for i in range(scale.size):
        along[i] *= -scale[i] * scale[i] / 2  # the gradient by the degree
    for place in range(chosen.size):
        k = chosen[place]
        e, b = edge[k], back[k]
        slope = 0.0
        if e >= 0:
            at = here[place] + along[first[k]]
            by_weight[e] += cosine[k] * at
            slope += weight[e] * at
        if b >= 0:
            at = there[place] + along[second[k]]
            by_weight[b] += cosine[k] * at
            slope += weight[b] * at
        if by_cosine is not None and cosine[k] >= 0:
            by_cosine[k] = slope


@numba.njit(cache=True, error_model="numpy", fastmath=REORDER, nogil=True)
def cosines_backward(by_cosine, unit, pointer, neighbour, pair, start, stop, out):  # type: ignore[no-untyped-def]
    """Rows start … stop − 1 of the gradient by the unit rows; at a self-loop both factors are one row."""
    channels = unit.shape[1]
    for i in range(start, stop):
        out_i = out[i]
        for c in range(channels):
            out_i[c] = 0
        for k in range(pointer[i], pointer[i + 1]):
            slope, j = by_cosine[pair[k]], neighbour[k]
            if slope == 0:
                continue
            slope = slope + slope if j == i else slope
            u_j = unit[j]
            for c in range(channels):
                out_i[c] += slope * u_j[c]
