"""A model against attacks on many images: a line for each, in a file that a stopped run goes on with."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import nullcontext
from io import FileIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from contractive_gnn.attacks.base import AttackError
from contractive_gnn.attacks.base.provenance import versions
from contractive_gnn.attacks.images.attack import ImageAttack, ImageAttackResult, check_batch
from contractive_gnn.attacks.images.lines import ImageLine, Key, image_digest, model_digest, read_lines, settings_digest
from contractive_gnn.attacks.images.victim import attacked, margins
from contractive_gnn.certificates.lipschitz import lipschitz_radius
from contractive_gnn.checks import check_flag, check_real, check_whole
from contractive_gnn.datasets.images import ImageData
from contractive_gnn.extras import needs
from contractive_gnn.lines import ResultsError, append_line, open_alone
from contractive_gnn.nn.images import ImageClassifier, pairwise_radius
from contractive_gnn.nn.lipschitz import certified as proved_constant
from contractive_gnn.nn.lipschitz import lipschitz as constant_of
from contractive_gnn.provenance import current_commit
from contractive_gnn.training.batches.place import place

#: units in the last place of the largest score that a margin may be wrong by: far more than is seen in practice
_UNITS = 64


class CertificateError(AttackError):
    """An image that a certificate holds was lost: the certificate, or the attack's own check, is wrong."""


def evaluate_images(
    model: nn.Module,
    data: ImageData | tuple[Tensor, Tensor],
    attacks: Sequence[ImageAttack],
    *,
    out: Path | str | None = None,
    network: str = "",
    lipschitz: float | None = None,
    batch_size: int = 250,
    skip_certified: bool = False,
    progress: bool = True,
) -> list[ImageLine]:
    r"""Attack images, and write down what became of each of them.

    The certified radius is ``margin/(√2 L)``, and that of :func:`contractive_gnn.nn.images.pairwise_radius`, which is
    never less, for an :class:`~contractive_gnn.nn.images.ImageClassifier`; the largest score is lowered by 64 units in
    its last place for the rounding (an allowance, not a proof). In ℓ∞ an image is certified at ε where it is in ℓ2 at
    ``ε √d``, d the number of its entries.

    **Certificates are checked.** An image that is certified at the attack's ε and lost to it ends the evaluation with
    :class:`CertificateError`, and is saved beside ``out``, where the constant is proved. A constant that is claimed
    (``lipschitz``) is not this library's to defend: there the line says so, ``certified`` and not ``survived``.

    **A stopped run goes on.** The lines of a batch are written at once. A run that finds lines of the same model,
    attack and images in ``out`` leaves those out; batches are the same as without them, so the numbers are too. Lines
    of other models or settings stay beside them. The same model and attack with another image at the same index are
    refused, and so are lines with another constant or network, and lines whose predictions this model does not make:
    not every argument of a model shows in its text. Images that were not attacked because they are certified are
    attacked where ``skip_certified`` is false.

    Args:
        model: ``[n, c, H, W]`` with entries in [0, 1] to scores ``[n, classes]``.
        data: images and labels: a pair of tensors on the model's device and in its dtype, or what
            :func:`contractive_gnn.datasets.images.load_images` returns.
        attacks: one after the other.
        out: a file of lines, ``….jsonl``; None for none.
        network: what to call the model in the lines.
        lipschitz: a constant in ℓ2 that others claim; None for that of
            :func:`contractive_gnn.nn.lipschitz.lipschitz`.
        batch_size: images that are attacked at a time.
        skip_certified: do not attack what is certified at the attack's ε; such lines say so.
        progress: show a bar.

    Returns:
        a line for each attack and image, in this order.

    Raises:
        CertificateError: see above.
        ResultsError: ``out`` cannot be read or written, is in use, or holds lines that are refused.
        TypeError: for data, attacks or options of another type.
        ValueError: for data that do not fit.

    Example:
        ``evaluate_images(net, (images, labels), [AutoAttack(norm="l2", epsilon=36 / 255)], out="net.jsonl")``
    """
    x, y = _tensors(model, data)
    if not isinstance(attacks, Sequence) or not all(isinstance(attack, ImageAttack) for attack in attacks):
        raise TypeError(
            f"attacks must be a list of ImageAttack, such as [PGD(norm='l2', epsilon=0.5)], got {attacks!r}"
        )
    check_whole("batch_size", batch_size, least=1)
    check_flag("skip_certified", skip_certified)
    check_flag("progress", progress)
    if lipschitz is not None:
        check_real("lipschitz", lipschitz, least=0)
        lipschitz = float(lipschitz)
    evaluation = _Evaluation(model, network, lipschitz, batch_size, skip_certified)
    path = None if out is None else Path(out)
    with (
        nullcontext() if path is None else open_alone(path) as file,
        _bar(len(attacks) * len(x), network, progress) as bar,
    ):
        done = {} if path is None else evaluation.done(path, attacks, x, y)
        batches = range(0, len(x), batch_size)
        for attack in attacks:
            settings = settings_digest(attack.settings())
            for first in batches:
                part = range(first, min(first + batch_size, len(x)))
                missing = [index for index in part if (evaluation.digest, settings, index) not in done]
                if missing:
                    new = evaluation.lines(attack, part, x[part.start : part.stop], y[part.start : part.stop], path)
                    fresh = [line for line in new if line.index in set(missing)]
                    _write(file, fresh)
                    done.update({line.key: line for line in fresh})
                bar.update(len(part))
    return [
        done[evaluation.digest, settings_digest(attack.settings()), index]
        for attack in attacks
        for index in range(len(x))
    ]


class _Evaluation:
    """What all batches of an evaluation share."""

    def __init__(
        self, model: nn.Module, network: str, claimed: float | None, batch_size: int, skip_certified: bool
    ) -> None:
        self.model = model
        self.network = network
        self.digest = model_digest(model)
        self.batch_size = batch_size
        self.skip_certified = skip_certified
        self.proved = claimed is None and proved_constant(model)
        self.lipschitz = constant_of(model) if self.proved else claimed
        self.head: tuple[Tensor, float] | None = None
        if self.proved and isinstance(model, ImageClassifier):
            self.head = model.head.operator.weight.detach(), model.body.lipschitz()
        self.commit, self.changes = current_commit()
        self.versions = dict(versions(("torchattacks",)))

    def lines(self, attack: ImageAttack, part: range, x: Tensor, y: Tensor, path: Path | None) -> list[ImageLine]:
        """Attack a batch."""
        start = time.perf_counter()
        with attacked(self.model, x) as victim:
            scores = victim.scores(x)
        y = y.long()
        if bool(((y < 0) | (y >= scores.size(1))).any()):
            raise ValueError(
                f"labels must lie in 0 … {scores.size(1) - 1}, got labels from {int(y.min())} to {int(y.max())}"
            )
        right = margins(scores, y) > 0
        radii = self.radii(scores)
        held = torch.zeros_like(right)
        if radii is not None:
            reach = attack.epsilon * (x[0].numel() ** 0.5 if attack.norm == "linf" else 1.0)
            held = right & (radii > reach * (1 + 1e-5))
        tried = right & ~held if self.skip_certified else torch.ones_like(right)
        chosen = tried.nonzero().flatten()
        result = attack(self.model, x[chosen], y[chosen])
        self._defend(attack, part, x, held, chosen, result, path)
        count = max(int(right.sum()), 1)
        seconds = (time.perf_counter() - start) / count
        places = {index: place for place, index in enumerate(chosen.tolist())}
        lines = []
        for offset, index in enumerate(part):
            place = places.get(offset)
            lost_to = None if place is None else result.lost_to[place]
            correct = bool(right[offset])
            lines.append(
                ImageLine(
                    network=self.network,
                    model=self.digest,
                    index=index,
                    image=image_digest(x[offset], int(y[offset])),
                    label=int(y[offset]),
                    prediction=int(scores[offset].argmax()),
                    correct=correct,
                    attack=attack.name,
                    norm=attack.norm,
                    epsilon=attack.epsilon,
                    settings=attack.settings(),
                    survived=correct if place is None else bool(result.survived[place]),
                    lost_to=lost_to,
                    distance=None if place is None or lost_to is None else float(result.distance[place]),
                    lipschitz=self.lipschitz,
                    proved=self.proved,
                    radius=None if radii is None else min(float(radii[offset]), 1e300),
                    certified=bool(held[offset]),
                    attacked=place is not None,
                    batch_size=self.batch_size,
                    batch=int(right.sum()),
                    seconds=seconds if correct else 0.0,
                    forwards=result.forwards / count if correct else 0.0,
                    commit=self.commit,
                    uncommitted_changes=self.changes,
                    versions=self.versions,
                    device=str(x.device),
                )
            )
        return lines

    def done(self, path: Path, attacks: Sequence[ImageAttack], x: Tensor, y: Tensor) -> dict[Key, ImageLine]:
        """The lines that are there already, of this model and these attacks.

        Raises:
            ResultsError: one is of another image, constant or network, or has a prediction that the model does not
                make.
        """
        wanted = {settings_digest(attack.settings()) for attack in attacks}
        digests = [image_digest(image, int(label)) for image, label in zip(x, y, strict=True)]
        done: dict[Key, ImageLine] = {}
        for line in read_lines(path):
            if line.model != self.digest or line.key[1] not in wanted or line.index >= len(digests):
                continue
            if line.image != digests[line.index]:
                raise ResultsError(
                    f"{path} holds {line.attack} on another image {line.index} than that of these data: choose another "
                    "file, or give the data that it was made with"
                )
            there, here = (line.network, line.lipschitz, line.proved), (self.network, self.lipschitz, self.proved)
            if there[0] != here[0] or there[2] != here[2] or not _alike(there[1], here[1]):
                raise ResultsError(
                    f"{path} holds {line.attack} on this model with (network, constant, whether it is proved) = "
                    f"{there}, here it is {here}: choose another file, or give what it was made with"
                )
            if line.attacked or self.skip_certified:
                known = done.setdefault(line.key, line)
                done[line.key] = line if line.attacked and not known.attacked else known
        self._check_predictions(path, {line.index: line.prediction for line in done.values()}, x)
        return done

    def _check_predictions(self, path: Path, predictions: dict[int, int], x: Tensor) -> None:
        """Whether the model predicts what lines of a model of the same text and weights say, up to rounding."""
        for first in range(0, len(x), self.batch_size):
            part = [index for index in range(first, min(first + self.batch_size, len(x))) if index in predictions]
            if not part:
                continue
            with attacked(self.model, x) as victim:
                scores = victim.scores(x[part]).double().cpu()
            told = torch.tensor([predictions[index] for index in part])
            best = scores.amax(dim=1)
            behind = best - scores.gather(1, told.clamp(max=scores.size(1) - 1)[:, None]).squeeze(1)
            if bool((behind > 1e-3 * scores.abs().amax(dim=1)).any()):
                raise ResultsError(
                    f"{path} holds lines of another model with this text and these weights, but other predictions, of "
                    f"image {part[int(behind.argmax())]} for instance: choose another file"
                )

    def radii(self, scores: Tensor) -> Tensor | None:
        """Certified radii in ℓ2, ``[n]``; None without a constant."""
        if self.lipschitz is None or not math.isfinite(self.lipschitz):
            return None
        rounding = _UNITS * torch.finfo(scores.dtype).eps * scores.double().abs().amax(dim=1)
        lowered = scores.double().scatter_add(1, scores.argmax(dim=1, keepdim=True), -rounding[:, None])
        if self.head is None:
            radii = lipschitz_radius(lowered, lipschitz=self.lipschitz)
        else:
            radii = pairwise_radius(lowered, self.head[0], lipschitz=self.head[1])
        return torch.where(lowered.argmax(dim=1) == scores.argmax(dim=1), radii, 0.0)

    def _defend(
        self,
        attack: ImageAttack,
        part: range,
        x: Tensor,
        held: Tensor,
        chosen: Tensor,
        result: ImageAttackResult,
        path: Path | None,
    ) -> None:
        """Raise where a certified image was lost, if the constant is proved; save that image."""
        broken = held[chosen] & ~result.survived
        if not self.proved or not bool(broken.any()):
            return
        place = int(broken.nonzero()[0])
        offset = int(chosen[place])
        saved = ""
        if path is not None:
            file = path.with_name(f"{path.stem}.broken.pt")
            torch.save({"image": x[offset].cpu(), "moved": result.images[place].cpu(), "index": part[offset]}, file)
            saved = f"; both images are in {file}"
        raise CertificateError(
            f"image {part[offset]} is certified at ε = {attack.epsilon:.6g} in {attack.norm} and {attack.name} changed "
            f"it by {float(result.distance[place]):.6g}: the constant {self.lipschitz} is not one{saved}"
        )


def _tensors(model: nn.Module, data: ImageData | tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Images and labels, checked; of a loaded set where the model is, and in its dtype."""
    device, dtype = place(model)
    if isinstance(data, ImageData):
        x, y = data.floats(dtype=dtype).to(device), data.labels.to(device)
    elif isinstance(data, tuple | list) and len(data) == 2:
        x, y = data
    else:
        raise TypeError(f"data must be a pair (images, labels) of tensors, or ImageData, got {type(data).__name__}")
    if isinstance(x, Tensor) and isinstance(y, Tensor) and len(x) != len(y):
        raise ValueError(f"data must be images and one label for each, got {len(x)} images and {len(y)} labels")
    check_batch(x, y)
    return x, y


def _alike(there: float | None, here: float | None) -> bool:
    """Whether two constants are one, to the rounding of another machine."""
    return there == here if there is None or here is None else math.isclose(there, here, rel_tol=1e-5)


def _write(file: FileIO | None, lines: Sequence[ImageLine]) -> None:
    """Append the lines at once, or do nothing without a file."""
    if file is not None and lines:
        append_line(file, "".join(line.to_line() for line in lines))


def _bar(total: int, network: str, progress: bool) -> Any:
    """A bar that counts images, each once for each attack; a context."""
    with needs("images", "a progress bar"):
        from tqdm import tqdm
    return tqdm(total=total, desc=network or "images", unit="image", disable=not progress)
