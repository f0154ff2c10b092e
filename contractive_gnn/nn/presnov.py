r"""Steps of gradient fields and of sphere-preserving ones in turn: a network that approximates every flow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from contractive_gnn.checks import check_real, check_whole
from contractive_gnn.dynamics import GradientField, PerceptronEnergy, SkewField, TriangularMatrix
from contractive_gnn.integrators import Scheme, solver
from contractive_gnn.nn.flow import Flow
from contractive_gnn.norms import number
from contractive_gnn.operators.singular import largest_singular_value

Half = Literal["gradient", "sphere"]


class GradientStep(Flow):
    r"""One Euler step along a gradient field, ``x + h∇U(x)``, of a length at which it is invertible.

    The step is the gradient of ``‖x‖²/2 + hU``. It is cut down to ``h ≤ −share/l``, with l a lower bound of the
    eigenvalues of ``∇²U``: then this potential is strongly convex, and the step a diffeomorphism of the whole space
    that keeps the orientation.

    Args:
        field: ``∇U`` or ``−∇U``.
        step: h > 0.
        share: of the longest invertible step, in (0, 1); None takes h as it is, and promises nothing.

    Shapes:
        those of the field.

    Raises:
        TypeError: for a field that is no gradient of an energy.
        ValueError: for numbers out of their range; (called) where nothing is known of the Hessian and ``share`` is
            given.
    """

    field: GradientField

    def __init__(self, field: GradientField, *, step: float, share: float | None = None) -> None:
        if not isinstance(field, GradientField):
            raise TypeError(f"field must be a GradientField, got {type(field).__name__}")
        if share is not None:
            check_real("share", share, above=0, below=1)
        super().__init__(field, num_steps=1, step=step, constrained=False)
        self.share = share

    def step_size(self) -> Tensor | float:
        """The step that is taken."""
        assert self.step is not None
        if self.share is None:
            return self.step
        longest = self.field.invertible_step()
        if not isinstance(longest, Tensor) and longest == 0:
            raise ValueError(f"nothing is known of the Hessian of {self.field.potential}: no step is proved invertible")
        limit = self.share * longest
        return limit.clamp(max=self.step) if isinstance(limit, Tensor) else min(limit, self.step)

    def invertible(self) -> bool:
        """Whether the present step is proved to be a diffeomorphism that keeps the orientation."""
        return self.field.certified and number(self.step_size()) < number(self.field.invertible_step())


class SphereStep(Flow):
    r"""One step along a field tangent to the spheres around the origin, by a scheme that keeps the norm.

    **Implicit midpoint** ``x⁺ = x + hX((x + x⁺)/2)`` on the ball of radius R, where X is L-Lipschitz
    (:meth:`field_lipschitz`): for ``hL < 2`` the step is a homeomorphism that maps each sphere of radius up to R onto
    itself and keeps the orientation. Proof: the midpoint solves ``m − (h/2)X(m) = x``, and ``⟨X(m), m⟩ = 0`` gives
    ``‖m‖ ≤ ‖x‖``. So no solution leaves the ball while h grows from 0: there is one, by degree, and one alone, since
    the equation contracts. The step of ``−h`` is the inverse, for the same reason, and the determinant is
    ``det(I + (h/2)DX)/det(I − (h/2)DX) > 0``. Of a projected step nothing of the kind is proved.

    Args:
        field: ``(B(x) − B(x)ᵀ)x``.
        step: h > 0.
        scheme: ``"sphere-projection"``, ``"implicit-midpoint"``, or an object that keeps the norm.

    Shapes:
        ``[..., d]``.

    Raises:
        TypeError: for a field that is no :class:`~contractive_gnn.dynamics.SkewField`.
        ValueError: for a step out of range, and a scheme that does not keep the norm.
    """

    field: SkewField

    def __init__(self, field: SkewField, *, step: float, scheme: str | Scheme = "sphere-projection") -> None:
        if not isinstance(field, SkewField):
            raise TypeError(f"field must be a SkewField, got {type(field).__name__}")
        if "norm" not in solver(scheme).keeps(field):
            raise ValueError(
                f"{solver(scheme).name} does not keep the norm of the sphere half; take 'sphere-projection' or "
                "'implicit-midpoint'"
            )
        super().__init__(field, num_steps=1, step=step, constrained=False, scheme=scheme)

    def field_lipschitz(self, radius: float) -> float:
        """``‖S(0)‖ + 2R L_S``, a Lipschitz constant of ``X(x) = S(x)x`` on the ball of radius R.

        ``‖S(x)x − S(y)y‖ ≤ ‖S(x)‖‖x − y‖ + ‖S(x) − S(y)‖‖y‖``. The singular values of a skew matrix come in pairs, so
        ``‖S‖ ≤ ‖S‖_F/√2``. With L_B the constant of B in the Frobenius norm ``L_S = √2 L_B``, and ``L_B`` where B has
        entries above the diagonal alone.

        Args:
            radius: R, at least 0.

        Raises:
            TypeError: for a radius that is no number.
            ValueError: for one that is negative or not finite.
        """
        check_real("radius", radius, least=0)
        matrix = self.field.matrix
        like = next(iter((*matrix.parameters(), *matrix.buffers())))
        at_origin = matrix(like.new_zeros(matrix.dim))
        turned = largest_singular_value(at_origin - at_origin.mT)
        slope = number(matrix.lipschitz()) * (1.0 if isinstance(matrix, TriangularMatrix) else math.sqrt(2))
        return number(turned) + 2 * radius * slope

    def invertible(self, radius: float) -> bool:
        """Whether the step is proved to be a homeomorphism of the ball of this radius that keeps the orientation.

        Args:
            radius: of the ball around the origin, at least 0.

        Raises:
            TypeError: for a radius that is no number.
            ValueError: for one that is negative or not finite.
        """
        constant = self.field_lipschitz(radius)
        proved = self.scheme == "implicit-midpoint" and self.field.certified
        # the constant of B is a product that was rounded
        return proved and number(self.step_size()) * constant < 2 * (1 - 1e-6)


class PresnovNet(nn.Module):
    r"""Gradient steps and sphere-preserving steps in turn.

    .. math::
        x \leftarrow x + h\,K^T\bigl(\alpha \odot \sigma(Kx + b)\bigr), \qquad
        x \leftarrow \text{a step of } \dot x = \bigl(B(x) - B(x)^T\bigr)\,x \text{ that keeps } \|x\|_2

    Every smooth field is a gradient and a field tangent to the spheres around the origin
    (:func:`~contractive_gnn.dynamics.presnov_halves`; Presnov 2002), and a splitting follows their sum (Celledoni et
    al., *Dynamical systems-based neural networks*, SISC 2023). So these networks are dense, uniformly on compact sets,
    among the flow maps of smooth fields, that is, among the orientation-preserving diffeomorphisms; for p < ∞ and d ≥ 2
    they are dense in L^p among all maps. Gradient steps alone are dense there too, but they make a rotation out of
    commutators. ``docs/theory.md``, section 9, has the proofs.

    Args:
        dim: d ≥ 2.
        width: neurons of each field.
        num_blocks: how often ``halves`` is gone through.
        halves: the steps of a block, in order: ``("gradient", "sphere")``, or one of the two, once or several times.
        time: of all blocks together; a step has length ``h = time/num_blocks``.
        activation: σ of every field, elementwise, an :class:`~contractive_gnn.activations.Activation` or its name.
        scheme: of the sphere half: one that keeps the norm, ``"sphere-projection"``, ``"implicit-midpoint"``, or an
            object.
        share: cut every gradient step down to this share of the longest that is proved invertible, see
            :class:`GradientStep`; None leaves the steps as they are.

    Shapes:
        ``[..., dim]`` to ``[..., dim]``.

    Raises:
        TypeError: for sizes that are no whole numbers.
        ValueError: for numbers out of their range, an unknown half, none, and a scheme that does not keep the norm.

    Example:
        >>> import torch
        >>> net = PresnovNet(2, width=8, num_blocks=4).double()
        >>> x = torch.randn(5, 2, dtype=torch.float64)
        >>> net(x).shape
        torch.Size([5, 2])
        >>> turn = PresnovNet(2, width=8, num_blocks=4, halves=("sphere",)).double()
        >>> bool(((turn(x).norm(dim=1) / x.norm(dim=1) - 1).abs() < 1e-14).all())
        True
    """

    def __init__(
        self,
        dim: int,
        *,
        width: int = 16,
        num_blocks: int = 4,
        halves: Sequence[Half] = ("gradient", "sphere"),
        time: float = 2.0,
        activation: str = "tanh",
        scheme: str | Scheme = "sphere-projection",
        share: float | None = None,
    ) -> None:
        super().__init__()
        check_whole("dim", dim, least=2)
        check_whole("num_blocks", num_blocks, least=1)
        check_real("time", time, above=0)
        if isinstance(halves, str) or not halves or any(half not in ("gradient", "sphere") for half in halves):
            raise ValueError(f"halves must be a sequence of 'gradient' and 'sphere', got {halves!r}")
        step = time / num_blocks

        def flow(half: Half) -> Flow:
            if half == "gradient":
                return GradientStep(GradientField(PerceptronEnergy(dim, width, activation)), step=step, share=share)
            return SphereStep(SkewField(TriangularMatrix(dim, width, activation)), step=step, scheme=scheme)

        self.dim = dim
        self.halves: tuple[Half, ...] = tuple(halves) * num_blocks
        self.flows = nn.ModuleList(flow(half) for half in self.halves)

    def forward(self, x: Tensor) -> Tensor:
        """The state after all steps."""
        return self.stations(x)[-1]

    def stations(self, x: Tensor) -> list[Tensor]:
        """The state before the first step, and after each.

        Raises:
            ValueError: for states of another length.
        """
        if x.dim() == 0 or x.size(-1) != self.dim:
            raise ValueError(f"expected states of shape [..., {self.dim}], got {list(x.shape)}")
        states = [x]
        for flow in self.flows:
            states.append(flow(states[-1]))
        return states

    def gradient_steps(self) -> list[GradientStep]:
        """Those of the gradient half, in order."""
        return [flow for flow in self.flows if isinstance(flow, GradientStep)]

    def contraction_share(self) -> float:
        """The largest ``−h l`` of a gradient step, l a lower bound of the eigenvalues of ``∇²U``; 0 without one.

        Below 1 every gradient step is proved to be a diffeomorphism that keeps the orientation.
        """
        return max(
            (number(flow.step_size()) / number(flow.field.invertible_step()) for flow in self.gradient_steps()),
            default=0.0,
        )

    def invertible(self, radius: float) -> bool:
        """Whether it is proved to be a homeomorphism of this ball onto its image, which keeps the orientation.

        Every step must be one on a ball that its states do not leave: the gradient steps by ``share``, the others by
        implicit midpoint with short steps (:class:`SphereStep`). ``‖x + h∇U(x)‖`` is at most
        ``q‖x‖ + h‖∇U(0)‖``, q the constant of the step.

        Args:
            radius: of the ball around the origin, at least 0.

        Raises:
            TypeError: for a radius that is no number.
            ValueError: for one that is negative or not finite.
        """
        check_real("radius", radius, least=0)
        for flow in self.flows:
            if isinstance(flow, GradientStep):
                if not flow.invertible():
                    return False
                h = flow.step_size()
                origin = next(flow.parameters()).new_zeros(self.dim)
                radius = number(flow.field.lipschitz(h)) * radius + number((h * flow.field(origin)).norm())
            elif not (isinstance(flow, SphereStep) and math.isfinite(radius) and flow.invertible(radius)):
                return False
        return True

    def reset_parameters(self) -> None:
        """Draw all fields anew."""
        for flow in self.flows:
            assert isinstance(flow, Flow)
            flow.reset_parameters()

    def extra_repr(self) -> str:
        """Show the steps."""
        return f"dim={self.dim}, halves={self.halves}"
