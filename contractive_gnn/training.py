"""Fit a model on one graph, with the best epoch chosen on the validation nodes."""

from __future__ import annotations

import copy
import inspect
import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from contractive_gnn.checks import check_real, check_whole
from contractive_gnn.inputs import InputError, check_known, checked, node_mask
from contractive_gnn.nn.batch import graphs_meet
from contractive_gnn.nn.caches import forget_graph, reading_anew
from contractive_gnn.nn.modes import evaluating
from contractive_gnn.nn.sparse import compress
from contractive_gnn.seeding import seeded


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
    *,
    seed: int = 0,
    epochs: int = 200,
    lr: float | Mapping[str, float] = 0.01,
    weight_decay: float | Mapping[str, float] = 5e-4,
    patience: int | None = None,
    select: Literal["accuracy", "loss"] = "accuracy",
    self_training: float | None = None,
    teacher: nn.Module | None = None,
    on_epoch: Callable[[int, float], None] | None = None,
) -> FitResult:
    """Draw the parameters anew under ``seed`` and train them with Adam on ``data.train_mask``.

    Full-batch cross-entropy. The weights of the best validation epoch are restored at the end. A model that defines
    ``fit_data(data, *, seed)`` trains itself. One that has ``members``, a ``ModuleList`` of M, is fitted member by
    member, each as if it were alone, with the same options: member k under the seed ``M · seed + k``.

    With ``self_training`` the fit is done twice. The nodes outside ``train_mask`` that the first fit is sure of serve
    the second one as labelled: their mean cross-entropy is added to that of the training nodes. Structure attacks spend
    their edges at the labelled nodes, where they spoil the training; the other labels are not spoiled with them. Of
    the nodes outside ``train_mask`` only the features are read (and the validation labels, to choose the epoch).

    A model may have ``settings`` to choose from, which ``use(setting)`` sets and the ``state_dict`` holds: each is
    fitted, and the one that ``select`` prefers is kept. A model may know the classes otherwise than by its own first
    fit: ``communities(data)``, class probabilities ``[n, classes]`` or None. Whichever of the two knows more of the
    validation nodes serves the second fit. Where those are the communities, a labelled node that they put elsewhere
    than its label is left out: its label may be right, but its place in the graph is not. A model that
    has ``calibrate(data, probability)`` is told before the second fit what that one learns from: class probabilities
    ``[n, classes]``, at the labelled nodes their labels. Before the first fit it is given None, to forget them.

    With a ``teacher`` the model learns its answers (Hinton, Vinyals and Dean 2015; from a graph network to a
    perceptron, Zhang et al., ICLR 2022): the mean cross-entropy to its class probabilities at the nodes outside
    ``train_mask`` is added to that of the training nodes.

    Of a model with ``members`` each is fitted by itself; of one with a ``teacher`` and a ``student`` the teacher, and
    then the student on its answers, without ``self_training``. Part k of K has the seed ``K * seed + k``.

    Args:
        model: a module with ``forward(x, edge_index, edge_weight=None)`` and ``reset_parameters()``.
        data: one graph with ``x``, ``edge_index``, ``y``, ``train_mask``, ``val_mask`` and, if it has any,
            ``edge_weight``, which the model then must take.
        seed: at least 0, of the parameters and of dropout; the global random state is left as it was. Of several
            threads one fits at a time, so that each gets the numbers of its seed.
        epochs: the most epochs to run; with 0 the parameters are drawn, and stay.
        lr: learning rate, at least 0, one for all or one for each of the roles of ``model.parameter_groups()``.
        weight_decay: at least 0, likewise.
        patience: stop after this many epochs without a better one, at least 1; None runs them all.
        select: ``"accuracy"`` keeps the epoch of the best validation accuracy (of equals, the least loss);
            ``"loss"`` the one of the least validation loss.
        self_training: the least probability, in [0, 1), at which a prediction is taken for a label; None fits once.
        teacher: a fitted model; None learns from the labels alone.
        on_epoch: called with the epoch and its validation accuracy in percent; from epoch 0 again for every fit,
            setting and member.

    Raises:
        InputError: for a graph that :mod:`contractive_gnn.inputs` refuses, a mask that is missing, empty or selects
            nodes without a label, or a graph that does not fit the model.
        TypeError: see :func:`check_options`.
        ValueError: for an option out of its range, if a role of ``lr`` is not one of the model's, ``self_training`` and
            ``teacher`` are both given, or either for a model that trains itself, or if the teacher's scores are not
            finite, or for a ``teacher`` beside the model's own.
        FloatingPointError: if the training loss is not finite.
    """
    if torch.is_inference_mode_enabled():
        raise RuntimeError("fit needs gradients: call it outside of torch.inference_mode()")
    data = trainable(data)
    start = time.perf_counter()
    check_options(
        model,
        seed=seed,
        epochs=epochs,
        lr=lr,
        weight_decay=weight_decay,
        patience=patience,
        select=select,
        self_training=self_training,
        teacher=teacher,
    )
    _check_reads(model, data)
    parts = _parts(model, self_training, teacher)
    if parts:
        compressed = _compressed(data)
        epochs_of = [
            fit(
                part,
                data if hasattr(part, "fit_data") else compressed,
                seed=len(parts) * seed + k,
                epochs=epochs,
                lr=lr,
                weight_decay=weight_decay,
                patience=patience,
                select=select,
                self_training=own_training,
                teacher=own_teacher,
                on_epoch=on_epoch,
            ).epochs
            for k, (part, own_training, own_teacher) in enumerate(parts)
        ]
        model.eval()
        accuracy, loss = _score(_predict(model, compressed), data.y, data.val_mask)
        return FitResult(accuracy, loss, -1, sum(epochs_of), time.perf_counter() - start)
    with seeded(seed), torch.enable_grad():
        fit_data = getattr(model, "fit_data", None)
        if fit_data is not None:
            fit_data(data, seed=seed)
            model.eval()
            accuracy, loss = _score(_predict(model, data), data.y, data.val_mask)
            return FitResult(accuracy, loss, -1, 0, time.perf_counter() - start)
        data = _compressed(data)
        labelled, known = _Labelled(data.train_mask, data.y), data.train_mask

        def attempt(*sources: _Labelled) -> FitResult:
            torch.manual_seed(seed)
            return _fit(model, data, sources, epochs, lr, weight_decay, patience, select, on_epoch, start)

        calibrate = getattr(model, "calibrate", None)
        if calibrate is not None:
            calibrate(data, None)
        lessons = [labelled]
        if teacher is not None:
            lessons.append(_Labelled(~known, answers(teacher, data)))
        fitted = _choose(model, lambda: attempt(*lessons), select)
        if self_training is None:
            return fitted
        probability = _finite(model, _predict(model, data)).softmax(dim=-1)
        communities = getattr(model, "communities", None)
        taught = None if communities is None else communities(data)
        if taught is not None and _score(taught, data.y, data.val_mask)[0] > fitted.val_accuracy:
            placed = known & (taught.argmax(dim=-1) == data.y)
            if bool(placed.any()):
                probability, labelled = taught, _Labelled(placed, data.y)
        if calibrate is not None:
            told = probability.clone()
            told[labelled.mask] = nn.functional.one_hot(data.y[labelled.mask], told.size(-1)).to(told)
            calibrate(data, told)
        sure, label = probability.max(dim=-1)
        guessed = _Labelled((sure >= self_training) & ~known, label)
        again = attempt(labelled, guessed)
        return replace(again, epochs=fitted.epochs + again.epochs)


_LARGEST = 1e30
"""Of a rate: Adam divides it, and torch's own numbers end at 3e38."""


def check_options(
    model: nn.Module,
    *,
    seed: int = 0,
    epochs: int = 200,
    lr: float | Mapping[str, float] = 0.01,
    weight_decay: float | Mapping[str, float] = 5e-4,
    patience: int | None = None,
    select: str = "accuracy",
    self_training: float | None = None,
    teacher: nn.Module | None = None,
) -> None:
    """Raise where the model, or one of its parts, cannot be trained with these options of :func:`fit`.

    Raises:
        TypeError: one is of another type.
        ValueError: one is out of its range, or does not go with the model or with another one.
    """
    check_whole("seed", seed, least=0, below=2**63)
    check_whole("epochs", epochs, least=0)
    for rate in lr.values() if isinstance(lr, Mapping) else [lr]:
        check_real("lr", rate, least=0)
        check_real("lr", rate, most=_LARGEST)
    for decay in weight_decay.values() if isinstance(weight_decay, Mapping) else [weight_decay]:
        check_real("weight_decay", decay, least=0)
        check_real("weight_decay", decay, most=_LARGEST)
    if patience is not None:
        check_whole("patience", patience, least=1)
    if select not in ("accuracy", "loss"):
        raise ValueError(f"select must be 'accuracy' or 'loss', got {select!r}")
    if self_training is not None:
        check_real("self_training", self_training, least=0, below=1)
        if teacher is not None:
            raise ValueError("give self_training or a teacher, not both: fit the teacher with self_training")
    _check_parts(model, lr, weight_decay, self_training, teacher)


def _check_parts(
    model: nn.Module,
    lr: float | Mapping[str, float],
    weight_decay: float | Mapping[str, float],
    self_training: float | None,
    teacher: nn.Module | None,
) -> None:
    """Raise ValueError where the model, or one of its parts, cannot be trained with these."""
    if parts := _parts(model, self_training, teacher):
        for part, own_training, own_teacher in parts:
            _check_parts(part, lr, weight_decay, own_training, own_teacher)
    elif not hasattr(model, "fit_data"):
        if not hasattr(model, "reset_parameters"):
            raise ValueError(
                f"{type(model).__name__} has no reset_parameters(), and fit draws the parameters anew under its seed: "
                "add that method, or give the model itself and not a wrapper of it"
            )
        _parameter_groups(model, lr, weight_decay)
    elif self_training is not None or teacher is not None:
        what = "self_training" if teacher is None else "teacher"
        raise ValueError(f"{what} is for models that fit trains; {type(model).__name__} trains itself")


def _parts(
    model: nn.Module, self_training: float | None, teacher: nn.Module | None
) -> list[tuple[nn.Module, float | None, nn.Module | None]]:
    """What is fitted by itself, in this order, each with its own self-training and teacher; empty for most models.

    Raises:
        ValueError: a teacher for a model with one of its own.
    """
    members, own, student = (getattr(model, name, None) for name in ("members", "teacher", "student"))
    if isinstance(members, nn.ModuleList):
        return [(member, self_training, teacher) for member in members]
    if not (isinstance(own, nn.Module) and isinstance(student, nn.Module)):
        return []
    if teacher is not None:
        raise ValueError(f"{type(model).__name__} has a teacher of its own; fit it without another")
    return [(own, self_training, None), (student, None, own)]


def _compressed(data: Data) -> Data:
    """A shallow copy with x compressed, once: a model may keep what it finds out about this very tensor."""
    data = copy.copy(data)
    data.x = compress(data.x)
    return data


class _Labelled(NamedTuple):
    """Nodes to learn from: bool ``[n]``, and their classes, right where it holds.

    int64 labels ``[n]``, or class probabilities ``[n, classes]``.
    """

    mask: Tensor
    label: Tensor


def _choose(model: nn.Module, attempt: Callable[[], FitResult], select: str) -> FitResult:
    """Fit the model in each of its settings, if it has any, and keep the best of them."""
    best: tuple[tuple[float, float], FitResult, dict[str, Tensor]] | None = None
    epochs = 0
    for setting in getattr(model, "settings", ()):
        model.use(setting)  # type: ignore[operator]
        fitted = attempt()
        epochs += fitted.epochs
        key = _key(fitted.val_accuracy, fitted.val_loss, select)
        if best is None or key > best[0]:
            best = key, fitted, copy.deepcopy(model.state_dict())
    if best is None:
        return attempt()
    _, fitted, state = best
    model.load_state_dict(state)
    return replace(fitted, epochs=epochs)


def _key(accuracy: float, loss: float, select: str) -> tuple[float, float]:
    """The larger, the better; least of all what is no number."""
    if math.isnan(loss):
        return -math.inf, -math.inf
    return (accuracy, -loss) if select == "accuracy" else (-loss, accuracy)


def _fit(
    model: nn.Module,
    data: Data,
    sources: Sequence[_Labelled],
    epochs: int,
    lr: float | Mapping[str, float],
    weight_decay: float | Mapping[str, float],
    patience: int | None,
    select: str,
    on_epoch: Callable[[int, float], None] | None,
    start: float,
) -> FitResult:
    model.reset_parameters()  # type: ignore[operator]
    forget_graph(model)
    taught = [(mask.nonzero().squeeze(1), label[mask]) for mask, label in sources if bool(mask.any())]
    chosen_on = data.val_mask.nonzero().squeeze(1)
    optimizer = torch.optim.Adam(_parameter_groups(model, lr, weight_decay))
    best_key, best_epoch, best_state = (-math.inf, -math.inf), -1, copy.deepcopy(model.state_dict())
    accuracy = loss = math.nan
    epoch = -1
    for epoch in range(epochs):
        model.train()
        optimizer.zero_grad()
        logits = _scores(model, data)
        if epoch == 0:
            check_classes(data.y[data.train_mask | data.val_mask], logits)
            for _, lesson in taught:
                check_lesson(lesson, logits)
        objective = sum(
            (nn.functional.cross_entropy(logits[nodes], labels) for nodes, labels in taught), logits.new_zeros(())
        )
        if not torch.isfinite(objective):
            largest = float((data.x if data.x.layout == torch.strided else data.x.values()).abs().max())
            todo = "lower the learning rate or the step"
            if epoch == 0:  # no step was taken yet
                todo = f"the entries of x are as large as {largest:g}: scale the features"
            raise FloatingPointError(f"the training loss is {float(objective.detach())} at epoch {epoch}; {todo}")
        objective.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        model.eval()
        with torch.no_grad():
            accuracy, loss = _score(_scores(model, data), data.y, chosen_on)
        key = _key(accuracy, loss, select)
        if key > best_key:
            best_key, best_epoch, best_state = key, epoch, copy.deepcopy(model.state_dict())
        if on_epoch is not None:
            on_epoch(epoch, accuracy)
        if patience is not None and epoch - best_epoch >= patience:
            break
    if best_epoch < 0 <= epoch:
        raise FloatingPointError(
            f"the validation loss was not finite at any of {epoch + 1} epochs; lower the learning rate or the step"
        )
    model.load_state_dict(best_state)
    model.eval()
    if epoch < 0:
        with torch.no_grad():
            best_key = _key(*_score(_scores(model, data), data.y, chosen_on), select)
    accuracy, loss = best_key if select == "accuracy" else best_key[::-1]
    return FitResult(accuracy, -loss, best_epoch, epoch + 1, time.perf_counter() - start)


def trainable(data: Data) -> Data:
    """A checked graph whose training and validation nodes have labels; warns where they are judged by, too.

    Raises:
        InputError: a graph that :mod:`contractive_gnn.inputs` refuses, or a mask that is missing, empty or selects
            nodes without a label.
    """
    data = checked(data)
    for mask in ("train_mask", "val_mask"):
        if data.get(mask) is None:
            raise InputError(f"data.{mask} must select at least one node; load the graph with a split")
        check_known(data.y, data[mask], name=f"data.{mask}")
    for mask in ("val_mask", "test_mask"):
        if data.get(mask) is not None and (seen := int((data[mask] & data.train_mask).sum())):
            warnings.warn(
                f"{seen} nodes of data.{mask} are in data.train_mask too: an accuracy on them is one of memory",
                stacklevel=3,
            )
    return data


def predict(model: nn.Module, data: Data) -> Tensor:
    """Class scores of the model in evaluation mode, ``[n, classes]``, without a gradient.

    Args:
        model: ``forward(x, edge_index, edge_weight=None) -> [n, classes]``; the third argument is needed only where the
            graph has weights. Its mode is put back. A layer of PyG with ``cached=True`` reads this graph too, not
            the one that it keeps.
        data: a graph with ``x``, ``edge_index`` and, if it has any, ``edge_weight``.

    Raises:
        InputError: a graph that :mod:`contractive_gnn.inputs` refuses, or one that does not fit the model.
        FloatingPointError: scores that are not finite.
    """
    return _finite(model, _predict(model, checked(data, labels=False)))


def answers(teacher: nn.Module, data: Data) -> Tensor:
    """The class probabilities ``[n, classes]`` that a student is to learn.

    Raises:
        ValueError: if they are not all finite.
    """
    probability = _predict(teacher, checked(data, labels=False)).softmax(dim=-1)
    if not bool(probability.isfinite().all()):
        raise ValueError("the teacher's scores are not all finite; fit it first")
    return probability


def evaluate(model: nn.Module, data: Data, mask: Tensor) -> float:
    """Accuracy in percent on the nodes of ``mask``; a score that is not a number is a wrong answer.

    Args:
        model: see :func:`predict`.
        data: a graph with ``x``, ``edge_index``, ``y`` and, if it has any, ``edge_weight``.
        mask: bool ``[n]``, or the indices of the nodes; of each the label must be known.

    Raises:
        InputError: a graph or a mask that :mod:`contractive_gnn.inputs` refuses, or that does not fit the model.
    """
    data = checked(data)
    chosen = node_mask(mask, data.num_nodes)
    check_known(data.y, chosen)
    return _score(_predict(model, data), data.y, chosen)[0]


def _predict(model: nn.Module, data: Data) -> Tensor:
    """The scores in evaluation mode on a checked graph."""
    _check_reads(model, data)
    with evaluating(model), reading_anew(model), torch.no_grad():
        return _scores(model, _compressed(data))


def _scores(model: nn.Module, data: Data) -> Tensor:
    """The model's scores on a checked graph, with its weights, and its graphs by themselves, if it has any.

    A model that takes no ``batch`` is one of neighbourhoods, which no other graph of a batch can reach.
    """
    named = {} if data.get("edge_weight") is None else {"edge_weight": data.edge_weight}
    named.update(_batch(model, data))
    try:
        scores = model(data.x, data.edge_index, **named)
    except RuntimeError as error:
        width = next((c for part in model.modules() if isinstance(c := getattr(part, "in_channels", None), int)), None)
        if width in (None, data.x.shape[1]):
            raise
        raise InputError(
            f"x has {data.x.shape[1]} features, {type(model).__name__} was built for {width}: {error}"
        ) from error
    if not isinstance(scores, Tensor) or scores.dim() != 2 or scores.size(0) != data.x.shape[0]:
        given = f"shape {list(scores.shape)}" if isinstance(scores, Tensor) else f"a {type(scores).__name__}"
        raise InputError(
            f"{type(model).__name__} returned {given}; expected class scores [{data.x.shape[0]}, classes] from "
            "forward(x, edge_index, edge_weight=None)"
        )
    return scores


def _batch(model: nn.Module, data: Data) -> dict[str, Tensor]:
    """The argument ``batch``, where there is more than one graph and the model can be told.

    Raises:
        InputError: a part of it must be told, and its ``forward`` cannot hand that on.
    """
    batch = data.get("batch")
    if batch is None or not bool((batch != batch[:1]).any()):
        return {}
    taken = inspect.signature(model.forward).parameters
    if "batch" in taken or any(argument.kind is argument.VAR_KEYWORD for argument in taken.values()):
        return {"batch": batch}
    if mixing := graphs_meet(model):
        name = type(model).__name__
        raise InputError(
            f"data is a batch of graphs, and what {mixing} in {name} says of one depends on the others unless it is "
            f"told: give {name}.forward an argument batch and hand it on, or ask about one graph at a time"
        )
    return {}


def _finite(model: nn.Module, scores: Tensor) -> Tensor:
    lost = int((~scores.isfinite()).any(dim=-1).sum())
    if lost:
        raise FloatingPointError(f"{type(model).__name__}'s scores of {lost} of {len(scores)} nodes are not finite")
    return scores


def _check_reads(model: nn.Module, data: Data) -> None:
    """Raise InputError where the model would not read a checked graph, or not all of it."""
    own = next((parameter for parameter in model.parameters() if parameter.is_floating_point()), None)
    name = type(model).__name__
    if own is not None and own.device != data.x.device:
        raise InputError(f"x is on {data.x.device}, {name} on {own.device}; move one of them (data.to, model.to)")
    if own is not None and own.dtype != data.x.dtype and not torch.is_autocast_enabled(data.x.device.type):
        raise InputError(f"x is {data.x.dtype}, {name} {own.dtype}; convert one of them (x.to, model.to)")
    signature = inspect.signature(model.forward)
    taken = signature.parameters
    try:
        signature.bind(data.x, data.edge_index)
    except TypeError as error:
        raise InputError(
            f"{name}.forward({', '.join(taken)}) cannot be called with x and edge_index ({error}); expected "
            "forward(x, edge_index, edge_weight=None): wrap the model in a module with this forward"
        ) from error
    if data.get("edge_weight") is None:
        return
    trains_itself = [type(part).__name__ for part in model.modules() if hasattr(part, "fit_data")]
    if trains_itself:
        raise InputError(f"the graph has edge weights, and {trains_itself[0]} trains on unweighted graphs only")
    if "edge_weight" not in taken and not any(argument.kind is argument.VAR_KEYWORD for argument in taken.values()):
        raise InputError(
            f"the graph has edge weights, and {name}.forward({', '.join(taken)}) takes no edge_weight; expected "
            "forward(x, edge_index, edge_weight=None), or a graph without weights (del data.edge_weight)"
        )


def check_classes(y: Tensor, logits: Tensor) -> None:
    """Raise InputError where a label is none of the classes that are scored."""
    largest, classes = int(y.max()), logits.size(1)
    if largest >= classes:
        raise InputError(f"y holds class {largest}, but the model scores {classes} classes, 0 to {classes - 1}")


def check_lesson(lesson: Tensor, logits: Tensor) -> None:
    """Class probabilities to learn from must be of the model's classes; labels are checked elsewhere."""
    if lesson.dim() == 2 and lesson.shape[1] != logits.shape[1]:
        raise InputError(f"the teacher has {lesson.shape[1]} classes, the model scores {logits.shape[1]}")


def _score(logits: Tensor, y: Tensor, mask: Tensor) -> tuple[float, float]:
    logits, y = logits[mask], y[mask]
    check_classes(y, logits)
    # A score that is not a number is a wrong answer, not class 0.
    right = (logits.argmax(dim=-1) == y) & logits.isfinite().all(dim=-1)
    accuracy = 100.0 * float(right.float().mean())
    return accuracy, float(nn.functional.cross_entropy(logits, y))


def _parameter_groups(
    model: nn.Module, lr: float | Mapping[str, float], weight_decay: float | Mapping[str, float]
) -> list[dict[str, object]]:
    if not isinstance(lr, Mapping) and not isinstance(weight_decay, Mapping):
        return [{"params": list(model.parameters()), "lr": lr, "weight_decay": weight_decay}]
    if not hasattr(model, "parameter_groups"):
        raise ValueError(
            f"{type(model).__name__} has no roles of parameters: give lr and weight_decay as one number each"
        )
    groups = model.parameter_groups()  # type: ignore[operator]
    for name, values in (("lr", lr), ("weight_decay", weight_decay)):
        if isinstance(values, Mapping) and set(values) != set(groups):
            raise ValueError(f"{name} must name the roles {sorted(groups)}, got {sorted(values)}")

    def of(values: float | Mapping[str, float], role: str) -> float:
        return values[role] if isinstance(values, Mapping) else values

    return [
        {"params": parameters, "lr": of(lr, role), "weight_decay": of(weight_decay, role)}
        for role, parameters in groups.items()
        if parameters
    ]
