"""What a model learns from: nodes with a class, or with class probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn

from contractive_gnn.inputs import InputError


class Lesson(NamedTuple):
    """Nodes to learn from: bool ``[n]``, and their classes, right where it holds.

    int64 labels ``[n]``, or class probabilities ``[n, classes]``.
    """

    mask: Tensor
    label: Tensor


class CrossEntropy:
    """The sum over lessons of their mean cross-entropy.

    Args:
        lessons: those without a node count for nothing.
        y: labels ``[n]``.
        known: bool ``[n]``, the nodes whose labels are read.
    """

    def __init__(self, lessons: Sequence[Lesson], y: Tensor, known: Tensor) -> None:
        self.lessons = [(mask.nonzero().squeeze(1), label[mask]) for mask, label in lessons if bool(mask.any())]
        self.y = y[known]

    def __call__(self, scores: Tensor, epoch: int) -> Tensor:
        """The loss of class scores ``[n, classes]``, a scalar.

        Raises:
            InputError: labels, or class probabilities, of other classes.
        """
        if epoch == 0:
            check_classes(self.y, scores)
            for _, label in self.lessons:
                check_lesson(label, scores)
        return sum(
            (nn.functional.cross_entropy(scores[nodes], label) for nodes, label in self.lessons), scores.new_zeros(())
        )


def check_classes(y: Tensor, scores: Tensor) -> None:
    """Raise InputError where a label is none of the classes that are scored."""
    largest, classes = int(y.max()), scores.size(1)
    if largest >= classes:
        raise InputError(f"y holds class {largest}, but the model scores {classes} classes, 0 to {classes - 1}")


def check_lesson(lesson: Tensor, scores: Tensor) -> None:
    """Class probabilities to learn from must be of the model's classes; labels are checked elsewhere."""
    if lesson.dim() == 2 and lesson.shape[1] != scores.shape[1]:
        raise InputError(f"the teacher has {lesson.shape[1]} classes, the model scores {scores.shape[1]}")
