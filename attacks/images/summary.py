"""What the lines of an evaluation come to: worst cases, and curves."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import torch

from contractive_gnn.attacks.images.lines import ImageLine, settings_digest
from contractive_gnn.certificates.curve import Curve, certified_accuracy
from contractive_gnn.checks import check_whole


def robust_accuracy(lines: Iterable[ImageLine], *, norm: str, epsilon: float) -> float:
    """Percent of the images that survived every attack up to ε: the worst case, image by image.

    A ball holds the smaller ones, so what an attack with a smaller ε changed is lost too. With ε = 0 it is the clean
    accuracy. Only images with a line at ε itself count.

    Args:
        lines: of one model.
        norm: ``"l2"`` or ``"linf"``.
        epsilon: ε ≥ 0.

    Raises:
        ValueError: there are no such lines, lines of several models or of two images under one index, or an attack at ε
            lacks images that another has.
    """
    chosen = [line for line in lines if line.norm == norm]
    pictures: dict[int, str] = {}
    for line in chosen:
        if pictures.setdefault(line.index, line.image) != line.image:
            raise ValueError(f"there are two images {line.index}: give the lines of one set of images")
    here = chosen if epsilon == 0 else [line for line in chosen if math.isclose(line.epsilon, epsilon, rel_tol=1e-9)]
    models = {line.model for line in chosen}
    if not here or len(models) != 1:
        raise ValueError(
            f"expected lines of one model in {norm} at ε = {epsilon:.6g}, got {len(here)} such lines, and "
            f"{len(models)} models"
        )
    images = {line.index for line in here}
    if epsilon == 0:
        return 100.0 * len({line.index for line in here if line.correct}) / len(images)
    by_attack: dict[str, set[int]] = {}
    for line in here:
        by_attack.setdefault(settings_digest(line.settings), set()).add(line.index)
    if any(found != images for found in by_attack.values()):
        raise ValueError(
            f"the attacks at ε = {epsilon:.6g} have lines of {sorted(map(len, by_attack.values()))} images: finish the "
            "evaluation first"
        )
    lost = {line.index for line in chosen if line.epsilon <= epsilon * (1 + 1e-9) and not line.survived}
    return 100.0 * len(images - lost) / len(images)


def curves(
    lines: Iterable[ImageLine], *, norm: str = "l2", epsilons: Sequence[float] | None = None, points: int = 101
) -> list[Curve]:
    """Attacked and certified accuracy of each network; models of one network are its seeds.

    Args:
        lines: of any number of networks.
        norm: of the attacks. Certified accuracy is in ℓ2, and is left out for ℓ∞.
        epsilons: where the certified accuracy is wanted; None for ``points`` of them up to the largest ε of an attack,
            and those of the attacks.
        points: how many, at least 2.

    Returns:
        for each network, in the order of the lines, the attacked and then, where its constant is known, the certified
        curve.

    Raises:
        ValueError: the models of a network do not have the same attacks, and see :func:`robust_accuracy`.
    """
    check_whole("points", points, least=2)
    by_network: dict[str, dict[str, list[ImageLine]]] = {}
    for line in lines:
        if line.norm == norm:
            by_network.setdefault(line.network, {}).setdefault(line.model, []).append(line)
    found = []
    for network, models in by_network.items():
        attacked = {model: tuple(sorted({0.0, *(line.epsilon for line in own)})) for model, own in models.items()}
        if len(set(attacked.values())) != 1:
            raise ValueError(f"the models of {network!r} were attacked with different ε: {sorted(attacked.values())}")
        grid = next(iter(attacked.values()))
        values = tuple(
            tuple(robust_accuracy(own, norm=norm, epsilon=epsilon) for epsilon in grid) for own in models.values()
        )
        found.append(Curve(network, "attacked", grid, values))
        if norm == "l2" and all(line.radius is not None for own in models.values() for line in own):
            fine = {grid[-1] * step / (points - 1) for step in range(points)} if epsilons is None else set(epsilons)
            wanted = tuple(sorted(fine | set(grid) if epsilons is None else fine))
            found.append(Curve(network, "certified", wanted, tuple(_certified(models, wanted))))
    return found


def _certified(models: Mapping[str, Sequence[ImageLine]], epsilons: Sequence[float]) -> Iterable[tuple[float, ...]]:
    """The certified accuracy of each model, over all images that have a line."""
    for own in models.values():
        images = {line.index: line for line in own}.values()
        radii = torch.tensor([float(line.radius or 0.0) for line in images], dtype=torch.float64)
        yield certified_accuracy(radii, torch.tensor([line.correct for line in images]), epsilons)
