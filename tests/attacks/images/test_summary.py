"""Worst cases over attacks, and curves over seeds."""

from __future__ import annotations

from typing import Any

import pytest

from contractive_gnn.attacks.images import ImageLine, curves, robust_accuracy


def line(index: int, survived: bool, **given: Any) -> ImageLine:
    fields: dict[str, Any] = {
        "network": "net",
        "model": "aaa",
        "image": str(index),
        "label": 0,
        "prediction": 0,
        "correct": True,
        "attack": "pgd",
        "norm": "l2",
        "epsilon": 0.1,
        "lost_to": None if survived else "pgd",
        "distance": None,
        "lipschitz": 1.0,
        "proved": True,
        "radius": 0.05 * index,
        "certified": False,
        "attacked": True,
        "batch_size": 4,
        "batch": 4,
        "seconds": 0.0,
        "forwards": 1.0,
        "commit": None,
        "uncommitted_changes": False,
        "versions": {},
        "device": "cpu",
    } | given
    settings = {"name": fields["attack"], "epsilon": fields["epsilon"], "norm": fields["norm"]}
    return ImageLine(index=index, survived=survived, settings=settings, **fields)


def test_an_image_counts_where_no_attack_wins() -> None:
    lines = [line(index, index != 0) for index in range(4)] + [
        line(index, index != 1, attack="square") for index in range(4)
    ]
    assert robust_accuracy(lines, norm="l2", epsilon=0.1) == 50.0
    assert robust_accuracy(lines[:4], norm="l2", epsilon=0.1) == 75.0
    assert robust_accuracy(lines, norm="l2", epsilon=0.0) == 100.0


def test_what_a_smaller_ball_lost_a_larger_one_has_lost() -> None:
    lines = [line(index, index != 0) for index in range(4)] + [
        line(index, index != 1, epsilon=0.2) for index in range(4)
    ]
    assert robust_accuracy(lines, norm="l2", epsilon=0.1) == 75.0
    assert robust_accuracy(lines, norm="l2", epsilon=0.2) == 50.0
    fewer = [one for one in lines if one.epsilon == 0.1 or one.index < 2]  # a larger ε on some images only
    assert robust_accuracy(fewer, norm="l2", epsilon=0.2) == 0.0


def test_incomplete_or_mixed_lines_are_no_number() -> None:
    lines = [line(index, True) for index in range(4)]
    with pytest.raises(ValueError, match=r"lines of \[3, 4\] images: finish the evaluation first"):
        robust_accuracy([*lines, *(line(index, True, attack="square") for index in range(3))], norm="l2", epsilon=0.1)
    with pytest.raises(ValueError, match="got 8 such lines, and 2 models"):
        robust_accuracy([*lines, *(line(index, True, model="bbb") for index in range(4))], norm="l2", epsilon=0.1)
    with pytest.raises(ValueError, match="got 0 such lines"):
        robust_accuracy(lines, norm="l2", epsilon=0.3)
    with pytest.raises(ValueError, match="got 0 such lines"):
        robust_accuracy(lines, norm="linf", epsilon=0.1)


def test_curves_of_two_seeds() -> None:
    lines = [line(index, index > 1) for index in range(4)] + [
        line(index, index > 2, model="bbb", correct=index > 0) for index in range(4)
    ]
    attacked, certified = curves(lines, epsilons=[0.0, 0.1])
    assert (attacked.label, attacked.kind, attacked.epsilons) == ("net", "attacked", (0.0, 0.1))
    assert attacked.values == ((100.0, 50.0), (75.0, 25.0))
    assert certified.kind == "certified"
    assert certified.values == ((75.0, 50.0), (75.0, 50.0))  # radii 0, 0.05, 0.1, 0.15
    fine = curves(lines, points=5)[1]
    assert fine.epsilons == (0.0, 0.025, 0.05, 0.07500000000000001, 0.1)
    assert [curve.kind for curve in curves([line(0, True, radius=None)])] == ["attacked"]
    assert [curve.kind for curve in curves([line(0, True, norm="linf")], norm="linf")] == ["attacked"]
    with pytest.raises(ValueError, match="attacked with different ε"):
        curves([line(0, True), line(0, True, model="bbb", epsilon=0.2)])


def test_two_images_under_one_index_are_no_number() -> None:
    lines = [line(index, True) for index in range(4)]
    with pytest.raises(ValueError, match="there are two images 3: give the lines of one set of images"):
        robust_accuracy([*lines, line(3, False, attack="square", image="another")], norm="l2", epsilon=0.1)
    with pytest.raises(ValueError, match="points must be at least 2, got 1"):
        curves(lines, points=1)
