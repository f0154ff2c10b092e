"""The scores of a model on a graph, and what they are worth."""

from __future__ import annotations

import copy
import inspect

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from contractive_gnn.inputs import InputError, check_known, checked, node_mask
from contractive_gnn.nn.batch import graphs_meet
from contractive_gnn.nn.caches import reading_anew
from contractive_gnn.nn.evaluation import evaluating
from contractive_gnn.nn.sparse import compress
from contractive_gnn.trainable import TrainsItself, declared
from contractive_gnn.training.lessons import check_classes


def predict(model: nn.Module, data: Data) -> Tensor:
    """Class scores of the model in evaluation mode, ``[n, classes]``, without a gradient.

    They are the model's own numbers, not probabilities: ``predict(model, data).argmax(dim=-1)`` are the classes
    ``[n]``, and ``.softmax(dim=-1)`` the probabilities of a model that was trained by cross-entropy, as by ``fit``.

    Args:
        model: ``forward(x, edge_index, edge_weight=None) -> [n, classes]``; the third argument is needed only where the
            graph has weights. Its mode is put back. A layer of PyG with ``cached=True`` reads this graph too, not
            the one that it keeps.
        data: a graph with ``x``, ``edge_index`` and, if it has any, ``edge_weight``.

    Raises:
        InputError: a graph that :mod:`contractive_gnn.inputs` refuses, or one that does not fit the model.
        FloatingPointError: scores that are not finite.
    """
    return finite(model, evaluated(model, checked(data, labels=False)))


def answers(teacher: nn.Module, data: Data) -> Tensor:
    """The class probabilities ``[n, classes]`` that a student is to learn.

    Raises:
        ValueError: if they are not all finite.
    """
    probability = evaluated(teacher, checked(data, labels=False)).softmax(dim=-1)
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
    return accuracy_and_loss(evaluated(model, data), data.y, chosen)[0]


def accuracy_and_loss(scores: Tensor, y: Tensor, nodes: Tensor) -> tuple[float, float]:
    """Accuracy in percent and mean cross-entropy on some nodes, by their mask or indices."""
    scores, y = scores[nodes], y[nodes]
    check_classes(y, scores)
    # A score that is not a number is a wrong answer, not class 0.
    right = (scores.argmax(dim=-1) == y) & scores.isfinite().all(dim=-1)
    accuracy = 100.0 * float(right.float().mean())
    return accuracy, float(nn.functional.cross_entropy(scores, y))


def evaluated(model: nn.Module, data: Data) -> Tensor:
    """The scores ``[n, classes]`` in evaluation mode on a checked graph, without a gradient."""
    check_reads(model, data)
    with evaluating(model), reading_anew(model), torch.no_grad():
        return class_scores(model, compressed(data))


def class_scores(model: nn.Module, data: Data) -> Tensor:
    """The model's scores on a checked graph, with its weights, and its graphs by themselves, if it has any.

    A model that takes no ``batch`` is one of neighbourhoods, which no other graph of a batch can reach.

    Raises:
        InputError: features of another width, or an answer of another shape.
    """
    named = {} if data.get("edge_weight") is None else {"edge_weight": data.edge_weight}
    named.update(_batch(model, data))
    try:
        scores = model(data.x, data.edge_index, **named)
    except RuntimeError as error:
        widths = (vars(part).get("in_channels") for part in model.modules())
        width = next((width for width in widths if isinstance(width, int)), None)
        if width in (None, data.x.shape[1]):
            raise
        raise InputError(
            f"x has {data.x.shape[1]} features, {type(model).__name__} was built for {width}: {error}"
        ) from error
    if not (
        isinstance(scores, Tensor) and scores.dim() == 2 and scores.size(0) == data.x.shape[0] and scores.size(1) > 0
    ):
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


def finite(model: nn.Module, scores: Tensor) -> Tensor:
    """The scores; raises FloatingPointError where one is no number."""
    lost = int((~scores.isfinite()).any(dim=-1).sum())
    if lost:
        raise FloatingPointError(f"{type(model).__name__}'s scores of {lost} of {len(scores)} nodes are not finite")
    return scores


def compressed(data: Data) -> Data:
    """A shallow copy with x compressed, once: a model may keep what it finds out about this very tensor."""
    data = copy.copy(data)
    data.x = compress(data.x)
    return data


def check_reads(model: nn.Module, data: Data) -> None:
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
    trains_itself = [type(part).__name__ for part in model.modules() if declared(part, TrainsItself) is not None]
    if trains_itself:
        raise InputError(f"the graph has edge weights, and {trains_itself[0]} trains on unweighted graphs only")
    if "edge_weight" not in taken and not any(argument.kind is argument.VAR_KEYWORD for argument in taken.values()):
        raise InputError(
            f"the graph has edge weights, and {name}.forward({', '.join(taken)}) takes no edge_weight; expected "
            "forward(x, edge_index, edge_weight=None), or a graph without weights (del data.edge_weight)"
        )
