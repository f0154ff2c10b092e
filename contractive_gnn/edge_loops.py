"""The compiled loops over sorted edges, for the CPU. Imports numba, so nothing imports it before it is needed.

numba keeps the machine code on disk, next to this file or in its cache folder. For that the loops are functions of this
module: those made inside a function that refer to each other are compiled anew in each process. None holds Python's
lock while it runs.
"""

from __future__ import annotations

import math
from typing import Final

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

LINEAR, CLIP, GROUP_FIRM, GROUP_MCP = range(4)
AHEAD: Final = 16
"""So many edges before its turn a neighbour's row is asked for: the rows come from all over the memory."""
REORDER: Final = {"reassoc", "contract", "nsz"}
"""The sums over channels may be reordered, or they would run one entry at a time."""


@intrinsic
def prefetch(typing_context, array, row, column):  # type: ignore[no-untyped-def]
    """Ask for the cache line of ``array[row, column]`` and do not wait for it; a vector's column is not looked at."""

    def build(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        kind = signature.args[0]
        value = context.make_array(kind)(context, builder, arguments[0])
        ends = range(1, 1 + kind.ndim)
        position = [context.cast(builder, arguments[i], signature.args[i], types.intp) for i in ends]
        pointer = cgutils.get_item_pointer(context, builder, kind, value, position, wraparound=False)
        byte, word = ir.IntType(8).as_pointer(), ir.IntType(32)
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(ir.VoidType(), [byte, word, word, word]), "llvm.prefetch.p0i8"
        )
        builder.call(function, [builder.bitcast(pointer, byte), word(0), word(3), word(1)])  # read, keep, data
        return context.get_dummy_value()

    return types.void(array, row, column), build


@numba.njit(cache=True, inline="always")
def radial(kind, parameter, fall, r):  # type: ignore[no-untyped-def]
    """w(r) and w'(r)/r of a group activation σ(d) = w(‖d‖) d."""
    if kind == GROUP_FIRM:
        if r <= parameter:
            return 1.0, 0.0
        peak = parameter * (1.0 + fall)
        if peak <= fall * r:
            return 0.0, 0.0
        return peak / r - fall, -peak / (r * r * r)
    if r >= parameter or r == 0:
        return (0.0 if r > 0 else 1.0), 0.0
    return 1.0 - r / parameter, -1.0 / (parameter * r)


@numba.njit(cache=True, fastmath=REORDER, nogil=True)
def forward(z, a, pointer, source, edge, kind, parameter, fall, inside, start, stop, out):  # type: ignore[no-untyped-def]
    """Rows start … stop − 1 of the sum; no other row is written, so several threads may share the work."""
    channels, line = z.shape[1], 64 // z.itemsize
    last = source.size - 1
    for i in range(start, stop):
        z_i, out_i = z[i], out[i]  # without views of the rows the loops over channels are not vectorised
        for c in range(channels):
            out_i[c] = 0
        for k in range(pointer[i], pointer[i + 1]):
            later = min(k + AHEAD, last)
            ahead = source[later]
            prefetch(a, edge[later], 0)
            for c in range(0, channels, line):
                prefetch(z, ahead, c)
            j = source[k]
            if i == j:
                continue
            z_j, weight = z[j], a[edge[k]]
            scale = weight if inside else z.dtype.type(1.0)
            if kind == CLIP:
                for c in range(channels):
                    d = scale * (z_i[c] - z_j[c])
                    clipped = parameter if d > parameter else (-parameter if d < -parameter else d)  # NaN stays NaN
                    out_i[c] += weight * clipped
            else:
                if kind == LINEAR:
                    factor = weight * scale * parameter
                else:
                    square = z.dtype.type(0.0)
                    for c in range(channels):
                        square += (scale * (z_i[c] - z_j[c])) ** 2
                    shrink, _ = radial(kind, parameter, fall, math.sqrt(square))
                    factor = z.dtype.type(weight * shrink * scale)
                for c in range(channels):
                    out_i[c] += factor * (z_i[c] - z_j[c])


@numba.njit(cache=True, fastmath=REORDER, inline="always")
def push(g, z_i, z_j, weight, kind, parameter, fall, inside, sign, grad):  # type: ignore[no-untyped-def]
    """Add sign · a s Jσ(s (z_i − z_j)) g to ``grad``; return what a group σ contributes to g · ∂(a σ)/∂a."""
    channels = z_i.size
    scale = weight if inside else z_i.dtype.type(1.0)
    total = z_i.dtype.type(0.0)
    factor = sign * weight * scale
    if kind == CLIP:
        edge = parameter / abs(scale) if scale != 0 else z_i.dtype.type(np.inf)
        for c in range(channels):
            slope = factor if abs(z_i[c] - z_j[c]) <= edge else z_i.dtype.type(0.0)
            grad[c] += slope * g[c]
    elif kind == LINEAR:
        factor *= parameter
        for c in range(channels):
            grad[c] += factor * g[c]
    else:
        square, along = z_i.dtype.type(0.0), z_i.dtype.type(0.0)
        for c in range(channels):
            d = scale * (z_i[c] - z_j[c])
            square += d * d
            along += d * g[c]
        shrink, bend = radial(kind, parameter, fall, math.sqrt(square))
        straight, across = z_i.dtype.type(factor * shrink), z_i.dtype.type(factor * scale * bend * along)
        for c in range(channels):
            grad[c] += straight * g[c] + across * (z_i[c] - z_j[c])
        total = z_i.dtype.type(shrink * along)
        if inside:
            total += z_i.dtype.type(shrink * along + bend * along * square)
    return total


@numba.njit(cache=True, fastmath=REORDER, nogil=True)
def backward(  # type: ignore[no-untyped-def]
    g, z, a, pointer, source, edge, out_pointer, out_target, out_edge, kind, parameter, fall, inside, weighted,
    start, stop, grad_z, grad_a,
):  # fmt: skip
    """Rows start … stop − 1 of the gradient by z, and the entries of that by a which belong to edges into them.

    The edges out of a node pull it, too: read from the list by source, nothing is ever added to another row.
    """
    channels, line = z.shape[1], 64 // z.itemsize
    last = source.size - 1
    one = z.dtype.type(1.0)
    for i in range(start, stop):
        z_i, g_i, grad_i = z[i], g[i], grad_z[i]
        for c in range(channels):
            grad_i[c] = 0
        for k in range(pointer[i], pointer[i + 1]):
            later = min(k + AHEAD, last)
            ahead = source[later]
            prefetch(a, edge[later], 0)
            for c in range(0, channels, line):
                prefetch(z, ahead, c)
            j = source[k]
            if i == j:
                continue
            z_j, weight = z[j], a[edge[k]]
            total = push(g_i, z_i, z_j, weight, kind, parameter, fall, inside, one, grad_i)
            if weighted:
                scale = weight if inside else one
                if kind == LINEAR:
                    for c in range(channels):
                        total += g_i[c] * (z_i[c] - z_j[c])
                    total *= parameter * scale
                    if inside:
                        total *= 2
                elif kind == CLIP:
                    twice = one + one if inside else one
                    for c in range(channels):
                        d = scale * (z_i[c] - z_j[c])
                        cut = parameter if d > 0 else -parameter
                        total += g_i[c] * (twice * d if abs(d) <= parameter else cut)
                grad_a[edge[k]] = total
        for k in range(out_pointer[i], out_pointer[i + 1]):
            later = min(k + AHEAD, last)
            ahead = out_target[later]
            prefetch(a, out_edge[later], 0)
            for c in range(0, channels, line):
                prefetch(z, ahead, c)
                prefetch(g, ahead, c)
            j = out_target[k]
            if i != j:
                push(g[j], z_i, z[j], a[out_edge[k]], kind, parameter, fall, inside, -one, grad_i)


@numba.njit(cache=True, nogil=True)
def starts(ends, num_nodes):  # type: ignore[no-untyped-def]
    """Where each node's rows begin in a list sorted by ``ends``, and the total."""
    pointer = np.zeros(num_nodes + 1, np.int64)
    for k in range(ends.size):
        pointer[ends[k] + 1] += 1
    for i in range(num_nodes):
        pointer[i + 1] += pointer[i]
    return pointer


@numba.njit(cache=True, nogil=True)
def sort(edges, num_nodes, like):  # type: ignore[no-untyped-def]
    """Both lists, lexicographic: three stable counting sorts, or one where the edges come sorted by target."""
    number, dtype = edges.shape[1], like.dtype
    pointer, out_pointer = starts(edges[1], num_nodes), starts(edges[0], num_nodes)
    source, edge = np.empty(number, dtype), np.empty(number, dtype)
    in_order = True
    for k in range(1, number):
        if edges[1, k] < edges[1, k - 1] or (edges[1, k] == edges[1, k - 1] and edges[0, k] < edges[0, k - 1]):
            in_order = False
            break
    if in_order:
        for k in range(number):
            source[k], edge[k] = edges[0, k], k
    else:
        by_source = np.empty(number, dtype)
        place = out_pointer.copy()
        for k in range(number):
            j = edges[0, k]
            by_source[place[j]] = k
            place[j] += 1
        place = pointer.copy()
        for k in range(number):
            e = by_source[k]
            i = edges[1, e]
            source[place[i]], edge[place[i]] = edges[0, e], e
            place[i] += 1
    out_target, out_edge = np.empty(number, dtype), np.empty(number, dtype)
    place = out_pointer.copy()
    for i in range(num_nodes):
        for k in range(pointer[i], pointer[i + 1]):
            j = source[k]
            out_target[place[j]], out_edge[place[j]] = i, edge[k]
            place[j] += 1
    return pointer, source, edge, out_pointer, out_target, out_edge


@numba.njit(cache=True, nogil=True)
def agrees(edges, pointer, source, edge):  # type: ignore[no-untyped-def]
    """Whether the list by target is one of these edges."""
    if edges.shape[1] != source.size:
        return False
    for i in range(pointer.size - 1):
        for k in range(pointer[i], pointer[i + 1]):
            if edges[1, edge[k]] != i or edges[0, edge[k]] != source[k]:
                return False
    return True
