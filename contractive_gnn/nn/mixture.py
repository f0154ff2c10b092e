"""A model that reads edges, and a perceptron that it has taught, each with a fixed weight in the answer."""

from __future__ import annotations

import math
import warnings

import torch
from torch import Tensor, nn

from contractive_gnn.checks import check_real
from contractive_gnn.deprecated import renamed
from contractive_gnn.nn.baselines import MLPClassifier
from contractive_gnn.nn.batch import graph_by_graph
from contractive_gnn.nn.evaluation import evaluating
from contractive_gnn.nn.plain import altered, plain_type, reduced_precision
from contractive_gnn.nn.sparse import Linear
from contractive_gnn.nn.surrogate import HasGradientSurrogate, gradient_surrogate
from contractive_gnn.trainable import Taught, reset


@renamed(share="weight")
class MLPMixture(nn.Module, Taught, HasGradientSurrogate):
    r"""The class probabilities of a teacher and of its student, mixed so that edges decide no more than a part w.

    .. math:: P = w\,\mathrm{softmax}(z_{\text{teacher}}) + (1 - w)\,\mathrm{softmax}(z_{\text{student}})

    :func:`contractive_gnn.training.fit` fits the teacher, and then the student on its answers (Hinton, Vinyals and Dean
    2015). The student reads features alone, so for a fitted model and given features, whatever becomes of the edges:

    - P moves by at most w in total variation, and by at most w in each class;
    - where the student's two largest probabilities q₁ > q₂ have ``(1 − w)(q₁ − q₂) > w``, the prediction is the
      student's. For any other class c, ``P₁ − P_c ≥ −w + (1 − w)(q₁ − q_c) > 0``, since the teacher's probabilities
      differ by at least −1 (:meth:`certified_any_edges`). This needs ``w < ½``.

    A node at which the teacher's scores are not numbers (weights that overflow, say) gets the uniform distribution from
    it, so no weights are outside of this.

    Nothing is claimed for a model that is trained on attacked edges, or asked about attacked features. What a student
    knows of the nodes it was taught about may be memory: judge it on nodes that it has not seen, too.

    Args:
        teacher: a module with ``forward(x, edge_index, edge_weight=None)``.
        student: an :class:`MLPClassifier` with the same classes; no subclass, which might read edges.
        weight: w of the teacher, above 0 and below 1.

    Shapes:
        those of the teacher; output ``[n, out_channels]``, logarithms of the class probabilities.

    Raises:
        TypeError: a student that is no plain :class:`MLPClassifier`.
        ValueError: a weight outside of its range.
    """

    student: MLPClassifier

    def __init__(self, teacher: nn.Module, student: MLPClassifier, *, weight: float = 0.4) -> None:
        super().__init__()
        if plain_type(student) is not MLPClassifier:
            raise TypeError(f"the student must not read edges: expected an MLP, got {type(student).__name__}")
        check_real("weight", weight, above=0, below=1)
        self.teacher, self.student, self.weight = teacher, student, weight

    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        reset(self.teacher)
        self.student.reset_parameters()

    def forward(
        self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None, batch: Tensor | None = None
    ) -> Tensor:
        """Logarithms of the class probabilities; those of each graph by itself with ``batch`` ``[n]``."""
        if batch is not None:
            return graph_by_graph(self.forward, x, edge_index, edge_weight, batch)
        read = self.teacher(x, edge_index, edge_weight).log_softmax(dim=-1)
        lost = read.isnan().any(dim=-1, keepdim=True)
        read = torch.where(lost, -math.log(read.size(-1)), read)
        known = self.student(x, edge_index).log_softmax(dim=-1)
        read = read.to(torch.promote_types(read.dtype, known.dtype))  # log w is rounded as the student's part is
        return torch.logaddexp(read + math.log(self.weight), known + math.log1p(-self.weight))

    def certified_any_edges(self, x: Tensor, edge_index: Tensor) -> Tensor:
        r"""Nodes whose prediction in evaluation mode no change of the edges, or of their weights, can alter.

        With ``Δ = (1 − w)(q₁ − q₂) − w`` the exact logarithms of P₁ and any other P_c differ by ``G ≥ log(1 + Δ)`` (and
        by more where P_c is small). Those that :meth:`forward` computes with the precision u of the student's scores
        are off by at most ``Ku(1 + |log P|)`` each, ``K = classes + 16``, so the order holds where

        .. math:: \log(1 + Δ) (1 - Ku) > Ku\,(2 + 2 |\log P_1|), \qquad P_1 \ge (1 - w) q_1.

        In float32 that asks for a Δ of about 1e-5, in bfloat16 of about a half.

        Args:
            x: ``[n, in_channels]``, in the layout in which the predictions are asked for.
            edge_index: any; it is not looked at.

        Returns:
            bool ``[n]``.

        Raises:
            ValueError: a model that has been altered, or runs under autocast: nothing is proved about it.
        """
        why = self._unproved()
        if why:
            raise ValueError(f"nothing is proved about this model: {why}")
        with torch.no_grad(), evaluating(self.student):
            scores = self.student(x, edge_index)
        known, error = scores.double().softmax(dim=-1), (scores.size(-1) + 16) * torch.finfo(scores.dtype).eps
        if known.size(-1) == 1:
            return torch.ones_like(known[:, 0], dtype=torch.bool)
        first, second = known.topk(2, dim=-1).values.unbind(dim=-1)
        lead = (1 - self.weight) * (first - second) - self.weight
        size = -((1 - self.weight) * first).log()
        sure: Tensor = (lead > 0) & (lead.clamp(min=0).log1p() * (1 - error) > error * (2 + 2 * size))
        return sure

    @property
    def share(self) -> float:
        """Deprecated: :attr:`weight`."""
        warnings.warn("share is called weight now; write model.weight", DeprecationWarning, stacklevel=2)
        return self.weight

    def immune(self, x: Tensor, edge_index: Tensor) -> Tensor:
        """Deprecated: :meth:`certified_any_edges`."""
        warnings.warn(
            "immune is now certified_any_edges; write model.certified_any_edges",
            DeprecationWarning,
            stacklevel=2,
        )
        return self.certified_any_edges(x, edge_index)

    def _unproved(self) -> str:
        """Why the mixture that is proved is not the one that is computed."""
        if plain_type(self) is not MLPMixture:
            return f"{type(self).__name__} is a subclass of MLPMixture"
        if not 0 < self.weight < 1:
            return f"weight is {self.weight!r}, not above 0 and below 1"
        if plain_type(self.student) is not MLPClassifier:
            return f"the student is a {type(self.student).__name__}, no MLP"
        for name in ("encoder", "decoder"):
            if plain_type(getattr(self.student, name)) is not Linear:
                return f"the student's {name} is a {type(getattr(self.student, name)).__name__}"
        parts = altered(self, below=False) or altered(self.student)
        return parts or reduced_precision(list(self.student.parameters()))

    def gradient_surrogate(self) -> nn.Module:
        """The twin that an adaptive attack takes gradients through: with the teacher's, where it has one."""
        teacher = gradient_surrogate(self.teacher)
        if teacher is self.teacher:
            return self
        return MLPMixture(teacher, self.student, weight=self.weight).train(self.training)
