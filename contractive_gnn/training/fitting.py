"""Fit a model on one graph, with the best epoch chosen on the validation nodes."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch_geometric.data import Data

from contractive_gnn.checks import check_flag, check_whole
from contractive_gnn.nn.caches import forget_graph
from contractive_gnn.partition import Method, reorder
from contractive_gnn.seeding import seeded
from contractive_gnn.trainable import (
    Calibrated,
    HasCommunities,
    HasMembers,
    HasModes,
    Taught,
    TrainsItself,
    declared,
    drawn,
)
from contractive_gnn.training.batches.progress import Progress
from contractive_gnn.training.lessons import CrossEntropy, Lesson
from contractive_gnn.training.loop import Judgement, check_differentiates, parameter_groups, train
from contractive_gnn.training.options import FitOptions, GivenOptions, options_of
from contractive_gnn.training.prediction import (
    accuracy_and_loss,
    answers,
    check_reads,
    class_scores,
    compressed,
    evaluated,
    finite,
)
from contractive_gnn.training.split import trainable

if TYPE_CHECKING:
    from typing_extensions import Unpack

OnEpoch = Callable[[int, float], None]


@dataclass(frozen=True)
class FitResult:
    """What a fit did.

    Attributes:
        val_accuracy: accuracy on the validation nodes at the epoch that was kept, in percent.
        val_loss: mean cross-entropy there.
        best_epoch: that epoch, from 0 (-1 for a model that trains itself, or whose parts are fitted).
        epochs: how many were run in all (0 for a model that trains itself).
        seconds: wall time.
    """

    val_accuracy: float
    val_loss: float
    best_epoch: int
    epochs: int
    seconds: float


def fit(
    model: nn.Module,
    data: Data,
    options: FitOptions | None = None,
    *,
    seed: int = 0,
    on_epoch: OnEpoch | None = None,
    progress: bool = False,
    **given: Unpack[GivenOptions],
) -> FitResult:
    """Draw the parameters anew under ``seed`` and train them with Adam on ``data.train_mask``.

    Full-batch cross-entropy. The weights of the best validation epoch are restored at the end. What a model may declare
    about its training, and what is then done, is in :mod:`contractive_gnn.trainable`: whether it trains itself, has
    members, a teacher of its own, modes, roles of parameters, …

    With ``self_training`` the fit is done twice. The nodes outside ``train_mask`` that the first fit is sure of serve
    the second one as labelled: their mean cross-entropy is added to that of the training nodes. Structure attacks spend
    their edges at the labelled nodes, where they spoil the training; the other labels are not spoiled with them. Of
    the nodes outside ``train_mask`` only the features are read (and the validation labels, to choose the epoch).

    A model with modes is fitted in each, and the mode that ``select`` prefers is kept. Where a model knows the classes
    otherwise than by its own first fit (``communities``), whichever of the two knows more of the validation nodes
    serves the second fit. Where those are the communities, a labelled node that they put elsewhere than its label is
    left out: its label may be right, but its place in the graph is not. A model to calibrate is told before the second
    fit what that one learns from: class probabilities ``[n, classes]``, at the labelled nodes their labels. Before the
    first fit it is given None, to forget them.

    With a ``teacher`` the model learns its answers (Hinton, Vinyals and Dean 2015; from a graph network to a
    perceptron, Zhang et al., ICLR 2022): the mean cross-entropy to its class probabilities at the nodes outside
    ``train_mask`` is added to that of the training nodes.

    Of a model with members each is fitted by itself, with the same options; of one with a teacher and a student of its
    own the teacher, and then the student on its answers, without ``self_training``. Part k of K has the seed
    ``K * seed + k``.

    Args:
        model: a module with ``forward(x, edge_index, edge_weight=None)``. Its parameters are drawn by its
            ``reset_parameters()``; where it has none, by those of its parts.
        data: one graph with ``x``, ``edge_index``, ``y``, ``train_mask``, ``val_mask`` and, if it has any,
            ``edge_weight``, which the model then must take.
        options: see :class:`FitOptions`; or give them one by one, ``fit(model, data, epochs=50, lr=0.1)``.
        seed: at least 0, of the parameters and of dropout; the global random state is left as it was. Of several
            threads one fits at a time, so that each gets the numbers of its seed.
        on_epoch: called with the epoch and its validation accuracy in percent; from epoch 0 again for every fit,
            mode and member.
        progress: whether a bar over all epochs is shown, with the time that is left if none ends early.
        **given: options by name.

    Raises:
        InputError: for a graph that :mod:`contractive_gnn.inputs` refuses, a mask that is missing, empty or selects
            nodes without a label, or a graph that does not fit the model.
        TypeError: see :func:`check_options`.
        ValueError: for an option out of its range, if a role of ``lr`` is not one of the model's, ``self_training`` and
            ``teacher`` are both given, or either or an ``order`` for a model that trains itself, or an ``order`` for a
            model or a teacher with a row for each node, or if the teacher's scores are not finite, or for a
            ``teacher`` beside the model's own.
        FloatingPointError: if the training loss is not finite.
        RuntimeError: within ``torch.inference_mode()``.
    """
    check_differentiates("fit")
    data = trainable(data)
    start = time.perf_counter()
    check_whole("seed", seed, least=0, below=2**63)
    options = options_of(FitOptions, options, given)
    _check_model(model, options)
    check_reads(model, data)
    check_flag("progress", progress)
    if progress:
        return _fit_with_bar(model, data, options, seed=seed, on_epoch=on_epoch)
    if options.order is None:
        return _fit_as_it_is(model, data, options, seed=seed, on_epoch=on_epoch, start=start)
    data, options = _reordered((model, options.teacher), data, options.order), replace(options, order=None)
    try:
        return _fit_as_it_is(model, data, options, seed=seed, on_epoch=on_epoch, start=start)
    finally:
        forget_graph(model)  # a layer with cached=True has seen the nodes in another order than its caller knows


def _fit_as_it_is(
    model: nn.Module, data: Data, options: FitOptions, *, seed: int, on_epoch: OnEpoch | None, start: float
) -> FitResult:
    """:func:`fit` on a checked graph in its own order."""
    if parts := _parts(model, options):
        epochs = _fit_parts(parts, data, seed=seed, on_epoch=on_epoch)
        model.eval()
        scores = evaluated(model, compressed(data))
        return _result(scores, data, epochs=epochs, start=start)
    with seeded(seed), torch.enable_grad():
        itself = declared(model, TrainsItself)
        if itself is not None:
            itself.fit_data(data, seed=seed)
            model.eval()
            return _result(evaluated(model, data), data, epochs=0, start=start)
        fitted = _fit_twice(model, compressed(data), options, seed=seed, on_epoch=on_epoch)
    return replace(fitted, seconds=time.perf_counter() - start)


def _result(scores: Tensor, data: Data, *, epochs: int, start: float) -> FitResult:
    """Of a model that other fits have fitted."""
    accuracy, loss = accuracy_and_loss(scores, data.y, data.val_mask)
    return FitResult(accuracy, loss, -1, epochs, time.perf_counter() - start)


def check_options(model: nn.Module, options: FitOptions | None = None, *, seed: int = 0, **given: Any) -> None:
    """Raise where the model, or one of its parts, cannot be trained with these options of :func:`fit`.

    Args:
        model: to be trained.
        options: in one piece.
        seed: of the training.
        **given: options by name.

    Raises:
        TypeError: one is of another type, or there is no such option.
        ValueError: one is out of its range, or does not go with the model or with another one.
    """
    check_whole("seed", seed, least=0, below=2**63)
    _check_model(model, options_of(FitOptions, options, given))


def _check_model(model: nn.Module, options: FitOptions) -> None:
    """Raise ValueError where the model, or one of its parts, cannot be trained with these."""
    if parts := _parts(model, options):
        for part, own in parts:
            _check_model(part, own)
    elif declared(model, TrainsItself) is None:
        drawn(model)
        parameter_groups(model, options.lr, options.weight_decay)
    elif given := [name for name, value in fit_alone(options).items() if value is not None]:
        raise ValueError(f"{given[0]} is for models that fit trains; {type(model).__name__} trains itself")


def fit_alone(options: FitOptions) -> dict[str, object]:
    """The options that neither a model that trains itself nor several processes read."""
    return {"self_training": options.self_training, "teacher": options.teacher, "order": options.order}


def _fit_with_bar(
    model: nn.Module, data: Data, options: FitOptions, *, seed: int, on_epoch: OnEpoch | None
) -> FitResult:
    """:func:`fit` under a bar."""
    bar = Progress(shown=True, steps=_most_epochs(model, options), done=0)

    def told(epoch: int, accuracy: float) -> None:
        bar.step()
        bar.epoch({"validation accuracy": accuracy})
        if on_epoch is not None:
            on_epoch(epoch, accuracy)

    try:
        return fit(model, data, options, seed=seed, on_epoch=told)
    finally:
        bar.close()


def _most_epochs(model: nn.Module, options: FitOptions) -> int:
    """Of all fits, if none ends early."""
    if parts := _parts(model, options):
        return sum(_most_epochs(part, own) for part, own in parts)
    if declared(model, TrainsItself) is not None:
        return 0
    several = declared(model, HasModes)
    fits = max(1, 0 if several is None else len(several.modes)) + (options.self_training is not None)
    return fits * options.epochs


def _reordered(models: Sequence[nn.Module | None], data: Data, order: Method) -> Data:
    """The graph with its nodes in another order, of which no model may know: neither who learns nor who teaches."""
    n = data.x.shape[0]
    for model in models:
        if model is None:
            continue
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            if not is_lazy(tensor) and tensor.dim() and tensor.shape[0] == n:
                raise ValueError(
                    f"{type(model).__name__}.{name} has a row for each of the {n} nodes, and order={order!r} moves "
                    "them; leave order out"
                )
    return reorder(data, order)


def _parts(model: nn.Module, options: FitOptions) -> list[tuple[nn.Module, FitOptions]]:
    """What is fitted by itself, in this order, each with its options; empty for most models.

    Raises:
        ValueError: a teacher for a model with one of its own.
    """
    ensemble = declared(model, HasMembers)
    if ensemble is not None:
        return [(member, options) for member in ensemble.members]
    pair = declared(model, Taught)
    if pair is None:
        return []
    if options.teacher is not None:
        raise ValueError(f"{type(model).__name__} has a teacher of its own; fit it without another")
    return [(pair.teacher, options), (pair.student, replace(options, self_training=None, teacher=pair.teacher))]


def _fit_parts(
    parts: Sequence[tuple[nn.Module, FitOptions]], data: Data, *, seed: int, on_epoch: OnEpoch | None
) -> int:
    """Fit each by itself; how many epochs were run in all."""
    epochs, shared = 0, compressed(data)
    for k, (part, options) in enumerate(parts):
        given = shared if declared(part, TrainsItself) is None else data
        epochs += fit(part, given, options, seed=len(parts) * seed + k, on_epoch=on_epoch).epochs
    return epochs


def _fit_twice(model: nn.Module, data: Data, options: FitOptions, *, seed: int, on_epoch: OnEpoch | None) -> FitResult:
    """Fit it on the labels or on a teacher's answers, and then, with ``self_training``, on its own."""
    calibrated = declared(model, Calibrated)
    if calibrated is not None:
        calibrated.calibrate(data, None)
    labelled, known = Lesson(data.train_mask, data.y), data.train_mask
    lessons = [labelled]
    if options.teacher is not None:
        lessons.append(Lesson(~known, answers(options.teacher, data)))
    fitted = _fit_in_each_mode(model, data, options, lessons, seed=seed, on_epoch=on_epoch)
    if options.self_training is None:
        return fitted
    probability = finite(model, evaluated(model, data)).softmax(dim=-1)
    structured = declared(model, HasCommunities)
    taught = None if structured is None else structured.communities(data)
    if taught is not None and accuracy_and_loss(taught, data.y, data.val_mask)[0] > fitted.val_accuracy:
        placed = known & (taught.argmax(dim=-1) == data.y)
        if bool(placed.any()):
            probability, labelled = taught, Lesson(placed, data.y)
    if calibrated is not None:
        told = probability.clone()
        told[labelled.mask] = nn.functional.one_hot(data.y[labelled.mask], told.size(-1)).to(told)
        calibrated.calibrate(data, told)
    sure, label = probability.max(dim=-1)
    guessed = Lesson((sure >= options.self_training) & ~known, label)
    again = _fit_once(model, data, options, [labelled, guessed], seed=seed, on_epoch=on_epoch)
    return replace(again, epochs=fitted.epochs + again.epochs)


def _fit_in_each_mode(
    model: nn.Module,
    data: Data,
    options: FitOptions,
    lessons: Sequence[Lesson],
    *,
    seed: int,
    on_epoch: OnEpoch | None,
) -> FitResult:
    """Fit the model in each of its modes, if it has any, and keep the best of them."""
    several = declared(model, HasModes)
    if several is None or not several.modes:
        return _fit_once(model, data, options, lessons, seed=seed, on_epoch=on_epoch)
    best: tuple[tuple[float, float], FitResult, dict[str, Tensor]] | None = None
    epochs = 0
    for mode in several.modes:
        several.use(mode)
        fitted = _fit_once(model, data, options, lessons, seed=seed, on_epoch=on_epoch)
        epochs += fitted.epochs
        key = judged(fitted.val_accuracy, fitted.val_loss, options).key
        if best is None or key > best[0]:
            best = key, fitted, copy.deepcopy(model.state_dict())
    assert best is not None
    _, fitted, state = best
    model.load_state_dict(state)
    return replace(fitted, epochs=epochs)


def _fit_once(
    model: nn.Module,
    data: Data,
    options: FitOptions,
    lessons: Sequence[Lesson],
    *,
    seed: int,
    on_epoch: OnEpoch | None,
) -> FitResult:
    """One run of the loop, from new parameters."""
    start, chosen_on = time.perf_counter(), data.val_mask.nonzero().squeeze(1)

    def judge(loss: Tensor) -> Judgement:
        return judged(*accuracy_and_loss(class_scores(model, data), data.y, chosen_on), options)

    kept = train(
        model,
        data,
        options,
        seed=seed,
        objective=CrossEntropy(lessons, data.y, data.train_mask | data.val_mask),
        judge=judge,
        on_epoch=None if on_epoch is None else lambda epoch, accuracy, loss: on_epoch(epoch, accuracy),
    )
    return FitResult(*kept.judgement.figures, kept.epoch, kept.epochs, time.perf_counter() - start)


def judged(accuracy: float, loss: float, options: FitOptions) -> Judgement:
    """What an epoch of that accuracy and loss on the validation nodes is worth under the option ``select``."""
    key = (accuracy, -loss) if options.select == "accuracy" else (-loss, accuracy)
    return Judgement.of(*key, figures=(accuracy, loss))
