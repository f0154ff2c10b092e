r"""What the steps of a scheme keep of a field, measured at each of them.

====================== ======================================================= =====================================
what                   measured, of a trajectory ``x_0, x_1, …``                how
====================== ======================================================= =====================================
``mass``               ``|Σx_k − Σx_0| / max(1, Σ|x_0|, Σ|x_k|)``              drift over all steps
``norm``               ``|‖x_k‖ − ‖x_0‖| / ‖x_0‖``                              drift over all steps
``energy``             ``|H(x_k) − H(x_0)| / max(1, |H(x_0)|)``                 drift over all steps
``volume``             ``|det M_k − 1|``                                        at each step
``symplectic``         ``‖M_kᵀ J M_k − J‖₂``                                    at each step
====================== ======================================================= =====================================

``M_k`` is the Jacobian of the step from ``x_k`` to ``x_{k+1}``, and J turns ``(q | p)`` to ``(p | −q)``. The Jacobian
of many steps of a chaotic orbit overflows, so volume and form are measured step by step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from contractive_gnn.checks import check_whole
from contractive_gnn.dynamics.base import OnGraph
from contractive_gnn.dynamics.field import VectorField
from contractive_gnn.integrators import Invariant, Scheme, integrate, trajectory

Step = Callable[[Tensor], Tensor]

CHUNK = 1000
"""So many steps are differentiated at a time."""


def violations(
    field: VectorField,
    x: Tensor,
    *,
    of: Iterable[Invariant],
    step: float,
    num_steps: int,
    scheme: str | Scheme,
    tolerance: float | None = None,
) -> dict[Invariant, float]:
    """The largest violation of each invariant along the trajectories of some states; see the module's table.

    Args:
        field: X, which does not depend on time; its ``invariant_axes`` are those of a sample, and the last ones.
        x: the states, each of them a sample of its own: ``[..., d]``, of a field on a grid ``[..., fields, N₁, …]``.
        of: the invariants; the field need not conserve them.
        step: h.
        num_steps: K ≥ 1.
        scheme: a name of :data:`contractive_gnn.integrators.SCHEMES`, or a scheme.
        tolerance: of implicit schemes, see :func:`contractive_gnn.integrators.trajectory`.

    Returns:
        the largest violation over all samples and steps, by invariant; ``inf`` where a state is not finite.

    Raises:
        NotImplementedError: where the energy is asked for, and the field does not say which it is.
        TypeError: for a field on a graph, whose rows are no samples of their own.
        ValueError: for a field that depends on time, where volume or form is asked for, one that does not say which
            axes a sample has, the form of a sample with several axes, and as
            :func:`~contractive_gnn.integrators.trajectory`.

    Example:
        >>> import torch
        >>> from contractive_gnn.dynamics import QuadraticEnergy, SeparableHamiltonian
        >>> spring = SeparableHamiltonian(QuadraticEnergy(torch.eye(1)), QuadraticEnergy(torch.eye(1))).double()
        >>> start = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
        >>> found = violations(spring, start, of=["volume"], step=0.1, num_steps=100, scheme="stormer-verlet")
        >>> found["volume"] < 1e-14
        True
        >>> found = violations(spring, start, of=["volume"], step=0.1, num_steps=100, scheme="euler")
        >>> round(found["volume"], 6)
        0.01
    """
    check_whole("num_steps", num_steps, least=1)
    if isinstance(field, OnGraph):
        raise TypeError(
            f"the last axis of the state is a sample here, and {field} moves all nodes of its graph as one: flatten "
            "the state in a VectorField of your own"
        )
    asked = list(dict.fromkeys(of))
    axes = sorted(field.invariant_axes or ())
    if not axes or axes != list(range(-len(axes), 0)) or x.dim() < len(axes):
        raise ValueError(
            f"a sample has the last axes of a state, and {field} sums over {field.invariant_axes} of a state of shape "
            f"{list(x.shape)}: set the field's invariant_axes, (-1,) for vectors"
        )
    if len(axes) > 1 and "symplectic" in asked:
        raise ValueError(f"the form is that of vectors (q | p), and a sample of {field} has {len(axes)} axes")
    shape, x = x.shape[-len(axes) :], x.flatten(-len(axes))
    worst: dict[Invariant, float] = dict.fromkeys(asked, 0.0)
    slack = max(1e-6, 100 * (tolerance or 0.0))  # an implicit step of many states is solved for all of them at once
    local = [name for name in asked if name in ("volume", "symplectic")]
    drifting = [name for name in asked if name not in local]

    def one(y: Tensor) -> Tensor:
        whole = torch.unflatten(y, -1, shape)
        end = integrate(field, whole, step=step, num_steps=1, scheme=scheme, tolerance=tolerance)
        return end.flatten(-len(shape))

    def note(name: Invariant, value: Tensor) -> None:
        largest = float(value.max()) if value.numel() else 0.0
        worst[name] = max(worst[name], math.inf if math.isnan(largest) else largest)

    def measure(states: list[Tensor], after: Tensor) -> None:
        """What is asked for of the steps that begin at these states; the last one ends at ``after``."""
        visited = torch.stack(states)
        if not bool(visited.isfinite().all() and after.isfinite().all()):
            worst.update(dict.fromkeys(asked, math.inf))
            return
        for name in drifting:
            note(name, drift(field, name, torch.cat([visited, after[None]]), x, shape))
        if local:
            reached = torch.cat([visited[1:], after[None]])
            if not torch.allclose(one(visited), reached, rtol=slack, atol=slack, equal_nan=True):
                raise ValueError(f"{field} depends on time: its steps cannot be differentiated many at once")
            matrices = sample_jacobians(one, visited)
            for name in local:
                note(name, volume_defect(matrices) if name == "volume" else symplectic_defect(matrices))

    states: list[Tensor] = []
    with torch.no_grad():
        start = torch.unflatten(x, -1, shape)
        for y in trajectory(field, start, step=step, num_steps=num_steps, scheme=scheme, tolerance=tolerance):
            y = y.flatten(-len(shape))
            if len(states) == CHUNK:
                measure(states, y)
                states = []
            states.append(y)
        if len(states) > 1:
            measure(states[:-1], states[-1])
    return worst


def drift(field: VectorField, of: Invariant, states: Tensor, start: Tensor, shape: tuple[int, ...] = (-1,)) -> Tensor:
    """How far mass, norm or energy of these states are from those of the start, relative; ``[...]``.

    Args:
        field: whose energy is meant.
        of: ``"mass"``, ``"norm"`` or ``"energy"``.
        states: ``[..., d]``, samples flattened.
        start: of a shape that broadcasts to it.
        shape: of a sample as the field takes it.

    Raises:
        ValueError: for another invariant: volume and form are of a map, not of a state.
    """
    if of == "mass":
        size = torch.maximum(states.abs().sum(dim=-1), start.abs().sum(dim=-1)).clamp(min=1.0)
        return (states.sum(dim=-1) - start.sum(dim=-1)).abs() / size
    if of == "norm":
        length = torch.linalg.vector_norm(start, dim=-1)
        change = (torch.linalg.vector_norm(states, dim=-1) - length).abs()
        return torch.where(change > 0, change / length, change)
    if of == "energy":
        before, after = (field.energy(torch.unflatten(z, -1, shape)) for z in (start, states))
        return (after - before).abs() / before.abs().clamp(min=1.0)
    raise ValueError(f"a state has a mass, a norm and an energy, got {of!r}")


def sample_jacobians(f: Step, x: Tensor) -> Tensor:
    """``Df`` at each sample, ``[..., d]`` to ``[..., d, d]``; f treats the samples apart and keeps shapes."""
    with torch.enable_grad():
        y = x.detach().requires_grad_()
        value = f(y)
        rows = [torch.autograd.grad(part.sum(), y, retain_graph=True)[0] for part in value.unbind(dim=-1)]
    return torch.stack(rows, dim=-2)


def volume_defect(matrix: Tensor) -> Tensor:
    """``|det M − 1|``, ``[..., d, d]`` to ``[...]``."""
    defect: Tensor = (torch.linalg.det(matrix) - 1.0).abs()
    return defect


def symplectic_defect(matrix: Tensor) -> Tensor:
    """``‖MᵀJM − J‖₂`` for a state ``(q | p)``, ``[..., 2d, 2d]`` to ``[...]``; ``inf`` where M is not finite.

    Raises:
        ValueError: for matrices that are not square, or of an odd size.
    """
    size = matrix.size(-1) if matrix.dim() > 1 else 0
    if matrix.dim() < 2 or matrix.size(-2) != size or size % 2:
        raise ValueError(f"a symplectic form needs square matrices of an even size, got shape {list(matrix.shape)}")
    defect = matrix.mT @ canonical(matrix, split=(size,)) - _form(matrix)
    finite = defect.isfinite().all(dim=-1).all(dim=-1)  # an SVD takes nothing else
    length = torch.linalg.matrix_norm(torch.where(finite[..., None, None], defect, 0.0), 2)
    return torch.where(finite, length, math.inf)


def canonical(matrix: Tensor, *, split: tuple[int, ...]) -> Tensor:
    """``JM``, J turning the last axis ``(q | p)`` of each state to ``(p | −q)``.

    Args:
        matrix: M, ``[..., n, m]``, its rows a state of n entries, flattened.
        split: the shape of the state.
    """
    rows = matrix.mT.reshape(*matrix.shape[:-2], matrix.size(-1), *split)
    q, p = rows.chunk(2, dim=-1)
    return torch.cat([p, -q], dim=-1).flatten(-len(split)).mT


def _form(matrix: Tensor) -> Tensor:
    size = matrix.size(-1)
    one = torch.eye(size, dtype=matrix.dtype, device=matrix.device)
    return canonical(one, split=(size,))
