"""The compiled loops over every node's neighbours, for the CPU. Imports numba: nothing imports it before it is needed.

numba keeps the machine code on disk, next to this file or in its cache folder. For that the loops are functions of this
module, or made inside one and closed over a number alone: those made inside a function that refer to each other are
compiled anew in each process. None holds Python's lock while it runs.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Final

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from contractive_gnn.compiled.row_threads import LINE, by_items, by_rows, empty

LINEAR, CLIP, GROUP_FIRM, GROUP_MCP = range(4)
AHEAD: Final = 8
"""So many edges before its turn a neighbour's row is asked for: the rows come from all over the memory."""
NEAR: Final = 1 << 20
"""So many bytes of rows are near enough without being asked for."""
REORDER: Final = {"reassoc", "contract", "nsz"}
"""The sums over channels may be reordered, or they would run one entry at a time."""


@intrinsic
def prefetch(typing_context, array, row, line):  # type: ignore[no-untyped-def]
    """Ask for a cache line of ``array[row]``, counted from 0, and do not wait for it."""

    def build(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        kind = signature.args[0]
        value = context.make_array(kind)(context, builder, arguments[0])
        index, offset = (context.cast(builder, arguments[i], signature.args[i], types.intp) for i in (1, 2))
        position = [index, *(context.get_constant(types.intp, 0) for _ in range(1, kind.ndim))]
        pointer = cgutils.get_item_pointer(context, builder, kind, value, position, wraparound=False)
        byte, word = ir.IntType(8).as_pointer(), ir.IntType(32)
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(ir.VoidType(), [byte, word, word, word]), "llvm.prefetch.p0i8"
        )
        address = builder.gep(builder.bitcast(pointer, byte), [builder.mul(offset, offset.type(LINE))])
        builder.call(function, [address, word(0), word(3), word(1)])  # read, keep, data
        return context.get_dummy_value()

    return types.void(array, row, line), build


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


@numba.njit(cache=True, nogil=True)
def arrange(edge_weight, pointer, neighbour, place):  # type: ignore[no-untyped-def]
    """``edge_weight[place]``, but 0 where there is no such edge (−1), and at self-loops."""
    arranged = np.zeros(place.size, edge_weight.dtype)
    for i in range(pointer.size - 1):
        for k in range(pointer[i], pointer[i + 1]):
            if place[k] >= 0 and neighbour[k] != i:
                arranged[k] = edge_weight[place[k]]
    return arranged


@numba.njit(cache=True, nogil=True)
def present(here, there, pointer, like):  # type: ignore[no-untyped-def]
    """Which entries have a weight other than 0, and where each node's begin among them."""
    entries, starts, number = np.empty(here.size, like.dtype), np.zeros_like(pointer), 0
    for i in range(pointer.size - 1):
        for k in range(pointer[i], pointer[i + 1]):
            entries[number] = k
            number += here[k] != 0 or there[k] != 0
        starts[i + 1] = number
    return entries[:number], starts


@numba.njit(cache=True, fastmath=REORDER, inline="always")
def push(g_i, g_j, x_i, x_j, here, there, s, kind, parameter, fall, grad):  # type: ignore[no-untyped-def]
    """Subtract ``s Jσ(s (x_i − x_j)) (p_ij g_i − p_ji g_j)`` from ``grad``, p_ij being ``here`` and p_ji ``there``."""
    channels = x_i.size
    if kind == CLIP:
        edge = parameter / abs(s) if s != 0 else x_i.dtype.type(np.inf)
        for c in range(channels):
            slope = s if abs(x_i[c] - x_j[c]) <= edge else x_i.dtype.type(0.0)
            grad[c] -= slope * (here * g_i[c] - there * g_j[c])
    elif kind == LINEAR:
        here, there = here * s * parameter, there * s * parameter
        for c in range(channels):
            grad[c] -= here * g_i[c] - there * g_j[c]
    else:
        square, along = x_i.dtype.type(0.0), x_i.dtype.type(0.0)
        for c in range(channels):
            d = x_i[c] - x_j[c]
            square += d * d
            along += d * (here * g_i[c] - there * g_j[c])
        shrink, bend = radial(kind, parameter, fall, abs(s) * math.sqrt(square))
        across = x_i.dtype.type(s * s * s * bend * along)
        here, there = x_i.dtype.type(here * s * shrink), x_i.dtype.type(there * s * shrink)
        for c in range(channels):
            grad[c] -= here * g_i[c] - there * g_j[c] + across * (x_i[c] - x_j[c])


@numba.njit(cache=True, fastmath=REORDER, inline="always")
def slopes(g_i, x_i, x_j, s, kind, parameter, fall):  # type: ignore[no-untyped-def]
    """``⟨g_i, σ(s d)⟩`` and ``⟨g_i, Jσ(s d) d⟩``, d = x_i − x_j: the derivatives by the two weights of an edge."""
    value, slope = x_i.dtype.type(0.0), x_i.dtype.type(0.0)
    if kind == CLIP:
        for c in range(x_i.size):
            d = s * (x_i[c] - x_j[c])
            cut = parameter if d > 0 else -parameter
            inner = abs(d) <= parameter
            value += g_i[c] * (d if inner else cut)
            slope += g_i[c] * (x_i[c] - x_j[c] if inner else x_i.dtype.type(0.0))
        return value, slope
    square, along = x_i.dtype.type(0.0), x_i.dtype.type(0.0)
    for c in range(x_i.size):
        d = x_i[c] - x_j[c]
        square += d * d
        along += d * g_i[c]
    if kind == LINEAR:
        return parameter * s * along, parameter * along
    shrink, bend = radial(kind, parameter, fall, abs(s) * math.sqrt(square))
    return x_i.dtype.type(s * shrink * along), x_i.dtype.type((shrink + bend * s * s * square) * along)


@numba.njit(cache=True, fastmath=REORDER, inline="always")
def pair_slopes(g_i, g_j, x_i, x_j, channels, kind, parameter, fall):  # type: ignore[no-untyped-def]
    """``⟨g_i, σ(d)⟩`` and ``⟨g_j, σ(d)⟩``, d = x_i − x_j."""
    at_i, at_j, square = x_i.dtype.type(0.0), x_i.dtype.type(0.0), x_i.dtype.type(0.0)
    if kind == CLIP:
        for c in range(channels):
            d = x_i[c] - x_j[c]
            cut = parameter if d > 0 else -parameter
            value = d if abs(d) <= parameter else cut
            at_i += g_i[c] * value
            at_j += g_j[c] * value
        return at_i, at_j
    for c in range(channels):
        d = x_i[c] - x_j[c]
        square += d * d
        at_i += g_i[c] * d
        at_j += g_j[c] * d
    if kind == LINEAR:
        return parameter * at_i, parameter * at_j
    shrink, _ = radial(kind, parameter, fall, math.sqrt(square))
    return x_i.dtype.type(shrink * at_i), x_i.dtype.type(shrink * at_j)


@cache
def steps(kind):  # type: ignore[no-untyped-def]
    """The loops ``forward``, ``backward`` and ``weigh`` for one kind of σ, a constant of their machine code.

    So is whether an argument is None: b, x⁰, and in ``backward`` the gradients by x⁰, p and b that are not wanted.
    """

    @numba.njit(cache=True, error_model="numpy", fastmath=REORDER, nogil=True)
    def forward(  # type: ignore[no-untyped-def]
        x, anchor, edge_weight, scale, pointer, neighbour, parameter, fall, keep, pull, start, stop, out
    ):
        """Rows start … stop − 1 of the step; no other row is written, so several threads may share the work."""
        channels = x.shape[1]
        lines = -(-channels * x.itemsize // LINE)
        last = neighbour.size - 1
        one = x.dtype.type(1.0)
        for i in range(start, stop):
            x_i, out_i = x[i], out[i]  # without views of the rows the loops are not vectorised
            if anchor is None:
                for c in range(channels):
                    out_i[c] = keep * x_i[c]
            else:
                anchor_i = anchor[i]
                for c in range(channels):
                    out_i[c] = keep * x_i[c] + pull * anchor_i[c]
            for k in range(pointer[i], pointer[i + 1]):
                ahead = neighbour[min(k + AHEAD, last)]
                for line in range(lines):
                    prefetch(x, ahead, line)
                weight = edge_weight[k]
                if weight == 0:
                    continue
                x_j = x[neighbour[k]]
                s = one if scale is None else scale[k]
                if kind == CLIP:
                    for c in range(channels):
                        d = s * (x_i[c] - x_j[c])
                        clipped = parameter if d > parameter else (-parameter if d < -parameter else d)  # NaN stays NaN
                        out_i[c] -= weight * clipped
                else:
                    if kind == LINEAR:
                        factor = weight * s * parameter
                    else:
                        square = x.dtype.type(0.0)
                        for c in range(channels):
                            square += (x_i[c] - x_j[c]) ** 2
                        shrink, _ = radial(kind, parameter, fall, abs(s) * math.sqrt(square))
                        factor = x.dtype.type(weight * shrink * s)
                    for c in range(channels):
                        out_i[c] -= factor * (x_i[c] - x_j[c])

    @numba.njit(cache=True, error_model="numpy", fastmath=REORDER, nogil=True)
    def backward(  # type: ignore[no-untyped-def]
        g, x, here, there, scale_here, scale_there, pointer, neighbour, parameter, fall, keep, pull,
        start, stop, grad, by_anchor, by_weight, by_scale,
    ):  # fmt: skip
        """Rows start … stop − 1 of the gradient by x; those by the anchor and the weights are added to.

        The edges out of a node pull at its gradient, too: they stand in the same entry as those into it, so nothing is
        ever added to another row.
        """
        channels = x.shape[1]
        lines = -(-channels * x.itemsize // LINE)
        last = neighbour.size - 1
        one, none = x.dtype.type(1.0), x.dtype.type(0.0)
        for i in range(start, stop):
            x_i, g_i, grad_i = x[i], g[i], grad[i]
            for c in range(channels):
                grad_i[c] = keep * g_i[c]
            if by_anchor is not None:
                anchor_i = by_anchor[i]
                for c in range(channels):
                    anchor_i[c] += pull * g_i[c]
            for k in range(pointer[i], pointer[i + 1]):
                ahead = neighbour[min(k + AHEAD, last)]
                for line in range(lines):
                    prefetch(x, ahead, line)
                    prefetch(g, ahead, line)
                j = neighbour[k]
                s, t = (one, one) if scale_here is None else (scale_here[k], scale_there[k])
                if here[k] != 0 or there[k] != 0:  # x[j] stands where it is used: a name for it would be counted
                    if s == t:
                        push(g_i, g[j], x_i, x[j], here[k], there[k], s, kind, parameter, fall, grad_i)
                    else:
                        push(g_i, g[j], x_i, x[j], here[k], none, s, kind, parameter, fall, grad_i)
                        push(g_i, g[j], x_i, x[j], none, there[k], t, kind, parameter, fall, grad_i)
                if by_weight is not None:  # at a self-loop 0
                    value, slope = slopes(g_i, x_i, x[j], s, kind, parameter, fall)
                    by_weight[k] -= value
                    if by_scale is not None:
                        by_scale[k] -= here[k] * slope

    @numba.njit(cache=True, error_model="numpy", fastmath=REORDER, nogil=True)
    def weigh(g, x, first, second, parameter, fall, start, stop, here, there):  # type: ignore[no-untyped-def]
        """Add ``⟨g_i, σ(x_i − x_j)⟩`` and ``⟨g_j, σ(x_i − x_j)⟩`` of the pairs start … stop − 1, b = 1."""
        lines = -(-x.shape[1] * x.itemsize // LINE)
        last = second.size - 1
        far = x.size * x.itemsize > NEAR
        for k in range(start, stop):
            i, j = first[k], second[k]
            if far:
                ahead = second[min(k + AHEAD, last)]
                for line in range(lines):
                    prefetch(x, ahead, line)
                    prefetch(g, ahead, line)
            if x.shape[1] == 64:  # a number that the compiler knows: the loop is unrolled
                at_i, at_j = pair_slopes(g[i], g[j], x[i], x[j], 64, kind, parameter, fall)
            else:
                at_i, at_j = pair_slopes(g[i], g[j], x[i], x[j], x.shape[1], kind, parameter, fall)
            here[k] += at_i
            there[k] += at_j

    return forward, backward, weigh


@numba.njit(cache=True, nogil=True)
def pairs(pointer, neighbour, edge, back):  # type: ignore[no-untyped-def]
    """The entries whose neighbour is not before their node: every edge belongs to one of them.

    Returns:
        node, neighbour, edge and way back of each, and for every entry the number of its pair.
    """
    number = 0
    first, pair, of_edge = np.empty_like(neighbour), np.empty_like(neighbour), np.empty_like(neighbour)
    place = np.empty_like(neighbour)
    for i in range(pointer.size - 1):
        for k in range(pointer[i], pointer[i + 1]):
            if neighbour[k] >= i:
                first[number], place[number] = i, k
                pair[k] = number
                if edge[k] >= 0:
                    of_edge[edge[k]] = number
                if back[k] >= 0:
                    of_edge[back[k]] = number
                number += 1
            else:
                pair[k] = of_edge[edge[k] if edge[k] >= 0 else back[k]]
    place = place[:number]
    return first[:number], neighbour[place], edge[place], back[place], pair


@numba.njit(cache=True, nogil=True)
def scatter(values, place, out):  # type: ignore[no-untyped-def]
    """``out[place] = values`` where there is such an edge."""
    for k in range(place.size):
        if place[k] >= 0:
            out[place[k]] = values[k]


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
def by_node(near, far, far_pointer, near_pointer, like):  # type: ignore[no-untyped-def]
    """The edges sorted by ``near`` and then ``far``: two stable counting sorts."""
    by_far, order = np.empty(near.size, like.dtype), np.empty(near.size, like.dtype)
    place = far_pointer.copy()
    for k in range(near.size):
        by_far[place[far[k]]] = k
        place[far[k]] += 1
    place = near_pointer.copy()
    for k in by_far:
        order[place[near[k]]] = k
        place[near[k]] += 1
    return order


@numba.njit(cache=True, nogil=True)
def merge(edges, into, out_of, in_pointer, out_pointer, neighbour, edge, back):  # type: ignore[no-untyped-def]
    """Pair the edges j → i with those i → j, node by node; without arrays to write to, only count."""
    n, entries = in_pointer.size - 1, 0
    pointer = np.zeros(n + 1, np.int64)
    write = edge.size > 0
    for i in range(n):
        k, m = in_pointer[i], out_pointer[i]
        while k < in_pointer[i + 1] or m < out_pointer[i + 1]:
            source = edges[0, into[k]] if k < in_pointer[i + 1] else n
            target = edges[1, out_of[m]] if m < out_pointer[i + 1] else n
            if write:
                neighbour[entries] = min(source, target)
                edge[entries] = into[k] if source <= target else -1
                back[entries] = out_of[m] if target <= source else -1
            k += source <= target
            m += target <= source
            entries += 1
        pointer[i + 1] = entries
    return pointer


@numba.njit(cache=True, nogil=True)
def sort(edges, num_nodes, like):  # type: ignore[no-untyped-def]
    """Pointer, neighbour, edge and back of an ``EdgeOrder``."""
    in_pointer, out_pointer = starts(edges[1], num_nodes), starts(edges[0], num_nodes)
    into = by_node(edges[1], edges[0], out_pointer, in_pointer, like)
    out_of = by_node(edges[0], edges[1], in_pointer, out_pointer, like)
    nothing = np.empty(0, like.dtype)
    pointer = merge(edges, into, out_of, in_pointer, out_pointer, nothing, nothing, nothing)
    entries = pointer[num_nodes]
    neighbour, edge, back = np.empty(entries, like.dtype), np.empty(entries, like.dtype), np.empty(entries, like.dtype)
    merge(edges, into, out_of, in_pointer, out_pointer, neighbour, edge, back)
    return pointer, neighbour, edge, back


@numba.njit(cache=True, nogil=True)
def agrees(edges, pointer, neighbour, edge):  # type: ignore[no-untyped-def]
    """Whether the list is one of these edges."""
    listed = 0
    for i in range(pointer.size - 1):
        for k in range(pointer[i], pointer[i + 1]):
            e = edge[k]
            if e >= 0:
                if e >= edges.shape[1] or edges[1, e] != i or edges[0, e] != neighbour[k]:
                    return False
                listed += 1
    return listed == edges.shape[1]


@numba.njit(cache=True, error_model="numpy", nogil=True)
def over_degrees(weight, source, target, num_nodes, epsilon):  # type: ignore[no-untyped-def]
    """``a_ij/(ε + Σ_k a_ik)`` of every edge j → i, and what they were divided by, in double precision."""
    degree, found = np.full(num_nodes, epsilon), np.empty_like(weight)
    for e in range(weight.size):
        if source[e] != target[e]:
            degree[target[e]] += weight[e]
    for e in range(weight.size):
        found[e] = weight[e] / degree[target[e]]
    return found, degree


@numba.njit(cache=True, error_model="numpy", nogil=True)
def over_degrees_backward(g, weight, source, target, degree):  # type: ignore[no-untyped-def]
    """The gradient by the weights from that by :func:`over_degrees`."""
    found, shares = np.empty_like(weight), np.zeros_like(degree)
    for e in range(weight.size):
        shares[target[e]] += g[e] * weight[e]
    for e in range(weight.size):
        d = degree[target[e]]
        share = shares[target[e]] / d if source[e] != target[e] else 0.0
        found[e] = (g[e] - share) / d
    return found


def by_neighbour(edge_weight, scale, order, *places, absent):  # type: ignore[no-untyped-def]
    """Weights p and b by neighbour, once for each of ``places``, and the pointer and the neighbours they belong to.

    Entries at which no edge pulls, p = 0, are left out unless they are asked for (``absent``): no row is fetched.
    """
    pointer, neighbour = order[:2]
    arranged = [
        None if given is None else arrange(given, pointer, neighbour, place)
        for given in (edge_weight, scale)
        for place in places
    ]
    if not absent:
        entries, pointer = present(arranged[0], arranged[len(places) - 1], pointer, neighbour)
        *arranged, neighbour = (None if array is None else array[entries] for array in (*arranged, neighbour))
    return *arranged, pointer, neighbour


def flow(x, edge_weight, scale, anchor, order, constants, *, num_steps, every):  # type: ignore[no-untyped-def]
    """The last of K states, and of those before it every so many-th, ``[⌈K/every⌉ − 1, n, c]``. No anchor stands for x.

    Args:
        x: ``[n, c]``.
        edge_weight: p, ``[E]``.
        scale: b, ``[E]``, or None for ones.
        anchor: x⁰, ``[n, c]``, or None.
        order: pointer, neighbour, edge and back of an ``EdgeOrder``.
        constants: kind of σ, its parameter, the slope of its fall, k and m.
        num_steps: K.
        every: which states are kept for the gradient, from 1 to K, for none of them.
    """
    kind, parameter, fall, keep, pull = constants
    number = x.dtype.type
    anchored = None if pull == 0 else x if anchor is None else anchor
    arrays = by_neighbour(edge_weight, scale, order, order[2], absent=False)  # type: ignore[no-untyped-call]
    pointer = arrays[-2]
    forward, _, _ = steps(kind)
    between = empty((-(-num_steps // every) - 1, *x.shape), x.dtype)
    pages = [empty(x.shape, x.dtype) for _ in range(min(2, every - 1))]
    end = empty(x.shape, x.dtype)
    for step in range(1, num_steps + 1):
        if step == num_steps:
            new = end
        elif step % every:
            new = pages[step % every % len(pages)]
        else:
            new = between[step // every - 1]
        by_rows(forward, (x, anchored, *arrays, *map(number, (parameter, fall, keep, pull))), pointer, new)
        x = new
    return end, between


def flow_backward(  # type: ignore[no-untyped-def]
    g, x, between, edge_weight, scale, anchor, order, constants, *, num_steps, every, by_weights
):
    """The gradients by x, x⁰, p and b; of size 0 where there is none. That by x holds that by x⁰ if it is x.

    States that were not kept are found again from the last kept one before them.

    Args:
        g: the gradient by the last state, ``[n, c]``.
        x: as in :func:`flow`.
        between: the states that it kept.
        edge_weight: as there.
        scale: as there.
        anchor: as there.
        order: as there.
        constants: as there.
        num_steps: as there.
        every: as there.
        by_weights: whether the gradients by p and b are wanted.
    """
    kind, parameter, fall, keep, pull = constants
    _, _, edge, back = order
    gradient, number, own_anchor = g, g.dtype.type, anchor is None
    scaled = by_weights and scale is not None  # else the gradient by p has a loop of its own, over pairs
    arrays = by_neighbour(edge_weight, scale, order, edge, back, absent=scaled)  # type: ignore[no-untyped-call]
    here, _, scale_here, _, pointer, neighbour = arrays
    forward, backward, weigh = steps(kind)
    anchored = None if pull == 0 else x if own_anchor else anchor
    again = anchored, here, scale_here, pointer, neighbour, *map(number, (parameter, fall, keep, pull))
    summed = pull != 0 and (num_steps > 1 or not own_anchor)
    by_anchor = empty(g.shape, g.dtype) if summed else None
    if by_anchor is not None:
        by_anchor.fill(0)
    by_weight = np.zeros(edge.size, number) if scaled else None
    by_scale = np.zeros(edge.size, number) if scaled else None
    by_pair = None if scaled or not by_weights else pairs(*order)
    pair_sums = None if by_pair is None else np.zeros((2, by_pair[0].size), number)
    pages = [empty(g.shape, g.dtype) for _ in range(min(2, num_steps))]
    lost = [empty(g.shape, g.dtype) for _ in range(every - 1)]
    for start in reversed(range(0, num_steps, every)):
        states = [between[start // every - 1] if start else x]
        for page in lost[: num_steps - start - 1]:
            by_rows(forward, (states[-1], *again), pointer, page)
            states.append(page)
        for step in reversed(range(len(states))):
            rates, sums = (keep, pull), by_anchor
            if own_anchor and start + step == 0:
                rates, sums = (keep + pull, 0.0), None
            new = pages[(start + step) % len(pages)]
            inputs = (gradient, states[step], *arrays, *map(number, (parameter, fall, *rates)))
            by_rows(backward, inputs, pointer, new, sums, by_weight, by_scale)
            if by_pair is not None and pair_sums is not None:
                inputs = gradient, states[step], *by_pair[:2], number(parameter), number(fall)
                by_items(weigh, inputs, by_pair[0].size, *pair_sums, channels=g.shape[1])
            gradient = new
    if own_anchor and by_anchor is not None:
        gradient += by_anchor
        by_anchor = None
    found = []
    for sums in (by_weight, by_scale):
        found.append(np.zeros(0 if sums is None else edge_weight.size, number))
        if sums is not None:
            scatter(sums, edge, found[-1])
    if by_pair is not None and pair_sums is not None:
        found[0] = np.empty(edge_weight.size, number)
        scatter(-pair_sums[0], by_pair[2], found[0])
        scatter(pair_sums[1], by_pair[3], found[0])  # σ is odd
    at_anchor = np.zeros((0, g.shape[1]), number) if by_anchor is None else by_anchor
    return gradient, at_anchor, *found
