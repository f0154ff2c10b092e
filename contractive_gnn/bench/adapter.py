"""A model of your own in the form that training and attacks call: ``forward(x, edge_index, edge_weight=None)``.

A model may be written for another form. Which one it is, is read from the class attribute ``adapter``, or else from the
names of the parameters of its ``forward``:

==================== ========================== ==================================================================
``adapter``          read from                  what it is given
==================== ========================== ==================================================================
``edges``            ``(x, edge_index, …)``     features ``[n, d]``, int64 ``[2, E]``, and weights ``[E]`` where it
                                                has an argument ``edge_weight``
``dense``            ``(x, adj)``, ``(adj, x)`` the adjacency matrix A ``[n, n]``, without self-loops, not normalised
``dense-normalized`` nothing: declare it        D̃^(−1/2) (A + I) D̃^(−1/2), D̃ the row sums of A + I
``data``             ``(data)``                 a ``Data`` with ``x``, ``edge_index`` and, if there are any,
                                                ``edge_weight``
==================== ========================== ==================================================================

A model that answers with a tuple or a dict says which of its parts are the class scores: ``scores = 0`` or
``scores = "logits"``, a class attribute too. Nothing is guessed there.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal, cast, get_args

import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.utils import to_edge_index

from contractive_gnn.certificates.smoothed import declares_training
from contractive_gnn.trainable import drawn, inherited

Form = Literal["edges", "dense", "dense-normalized", "data"]

_ADJACENCY: Final = ("adj", "adjacency", "adj_matrix", "adjacency_matrix")
_FEATURES: Final = ("x", "features", "feature", "feat", "h", "inputs", "input")
_DATA: Final = ("data", "graph", "batch")
#: a dense adjacency in float32 then takes 3.6 GB
_MOST_NODES: Final = 30_000


class AdapterError(ValueError):
    """A model whose form cannot be told; the text says what was given, what was expected and what to do."""


class Adapted(nn.Module):
    """A model behind ``forward(x, edge_index, edge_weight=None) -> [n, classes]``.

    Args:
        model: of one of the forms of this module.
        anew: makes such a model with new parameters: what :meth:`reset_parameters` takes them from, where the model has
            no method of that name.

    Raises:
        AdapterError: a ``forward`` of no form that is known, an ``adapter`` or ``scores`` that means nothing, or a
            model that declares something about its training (:mod:`contractive_gnn.trainable`).
    """

    def __init__(self, model: nn.Module, anew: Callable[[], nn.Module]) -> None:
        super().__init__()
        if contracts := inherited(model):
            raise AdapterError(
                f"{type(model).__name__} inherits {', '.join(contracts)}, which stays unread behind an adapter: give "
                "it forward(x, edge_index, edge_weight=None) and reset_parameters(), or let it inherit nothing of that"
            )
        self.model = model
        self.form, self.reason = _form(model)
        self.anew = anew
        self.answers: int | str | None = getattr(model, "scores", None)
        if not (self.answers is None or isinstance(self.answers, int | str)) or isinstance(self.answers, bool):
            raise AdapterError(
                f"{type(model).__name__}.scores is {self.answers!r}; expected the place of the class scores in what "
                "forward returns: a whole number for a tuple, a key for a dict"
            )

    @property
    def takes_edge_weight(self) -> bool:
        """Whether weights of the edges can reach the model."""
        return self.form != "edges" or takes_edge_weight(self.model)

    def reset_parameters(self) -> None:
        """Draw the parameters anew: by the model's own method, or by making another such model."""
        if callable(own := getattr(self.model, "reset_parameters", None)):
            own()
        else:
            self.model.load_state_dict(self.anew().state_dict())

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        """Class scores ``[n, classes]``.

        Args:
            x: features ``[n, d]``.
            edge_index: int64 ``[2, E]``, or a sparse ``[n, n]`` matrix.
            edge_weight: ``[E]``, or None for ones.

        Raises:
            AdapterError: weights for a model that takes none, or an answer without class scores.
        """
        if edge_index.layout != torch.strided:
            edge_index, edge_weight = to_edge_index(edge_index)
        if self.form == "edges":
            if edge_weight is None:
                answer = self.model(x, edge_index)
            elif self.takes_edge_weight:
                answer = self.model(x, edge_index, edge_weight=edge_weight)
            else:
                raise AdapterError(without_weights(type(self.model).__name__))
        elif self.form == "data":
            given = {} if edge_weight is None else {"edge_weight": edge_weight}
            answer = self.model(Data(x=x, edge_index=edge_index, **given))
        else:
            matrix = _dense(x, edge_index, edge_weight)
            if self.form == "dense-normalized":
                matrix = _normalized(matrix)
            features_first = _parameters(self.model)[0].name not in _ADJACENCY
            answer = self.model(x, matrix) if features_first else self.model(matrix, x)
        return self._chosen(answer)

    def _chosen(self, answer: Any) -> Tensor:
        name = type(self.model).__name__
        if self.answers is None:
            return cast(Tensor, answer)  # what is none is refused by whoever asked
        try:
            chosen = answer[self.answers]
        except (KeyError, IndexError, TypeError) as error:
            raise AdapterError(
                f"{name}.forward returned {described(answer)}, and {name}.scores = {self.answers!r} is no part of it"
            ) from error
        return cast(Tensor, chosen)


def adapted(model: nn.Module, anew: Callable[[], nn.Module]) -> nn.Module:
    """The model itself, where training and attacks can call it as it is; or behind an :class:`Adapted`.

    Args:
        model: any.
        anew: see :class:`Adapted`.

    Raises:
        AdapterError: see :class:`Adapted`.
    """
    names = [p.name for p in _parameters(model)]
    asks = any(hasattr(model, attribute) for attribute in ("adapter", "scores"))
    if not asks and names[1:3] == ["edge_index", "edge_weight"] and _draws_itself(model):
        return model
    return Adapted(model, anew)


def _draws_itself(model: nn.Module) -> bool:
    """Whether training can draw its parameters anew, or asks the model for something else."""
    if declares_training(model):
        return True
    try:
        drawn(model)
    except ValueError:
        return False
    return True


def takes_edge_weight(model: nn.Module) -> bool:
    """Whether ``forward`` has an argument ``edge_weight``, or takes any."""
    if isinstance(model, Adapted):
        return model.takes_edge_weight
    taken = inspect.signature(model.forward).parameters
    return "edge_weight" in taken or any(p.kind is p.VAR_KEYWORD for p in taken.values())


def without_weights(name: str) -> str:
    """What a ``forward`` without ``edge_weight`` means for attacks, in a sentence."""
    return (
        f"the forward of {name} takes no edge_weight, and a white-box attack follows the gradient with respect to the "
        "weights of the edges: attack it by poisoning or transfer (random, dice, metattack-live, nettack, pgd), or add "
        "edge_weight=None to its forward and hand it to every layer"
    )


def check_scores(model: nn.Module, data: Data, classes: int) -> None:
    """Ask the model once, in evaluation mode, and look at the form of its answer.

    Args:
        model: of :func:`adapted`.
        data: the clean graph.
        classes: how many it was built for.

    Raises:
        AdapterError: an answer that is not class scores ``[n, classes]``.
    """
    training = model.training
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            answer = model.eval()(data.x, data.edge_index)
    finally:
        model.train(training)
    own = model.model if isinstance(model, Adapted) else model
    expected = f"class scores [{data.num_nodes}, {classes}]"
    if isinstance(answer, Tensor) and list(answer.shape) == [data.num_nodes, classes]:
        return
    todo = ""
    if isinstance(answer, Mapping) or (isinstance(answer, Sequence) and not isinstance(answer, str)):
        example = repr(next(iter(answer), "logits")) if isinstance(answer, Mapping) else "0"
        todo = f"; say which part they are with a class attribute, like scores = {example}"
    elif isinstance(answer, Tensor) and answer.dim() == 2 and answer.shape[0] == data.num_nodes:
        todo = f"; it was built for {classes} classes: hand out_channels on to the last layer"
    raise AdapterError(f"{type(own).__name__}.forward returned {described(answer)}; expected {expected}{todo}")


def described(answer: Any) -> str:
    """What an answer is, with the shapes of its tensors."""
    if isinstance(answer, Tensor):
        return f"a tensor {list(answer.shape)}"
    if isinstance(answer, Mapping):
        return "a dict {" + ", ".join(f"{key!r}: {described(value)}" for key, value in answer.items()) + "}"
    if isinstance(answer, tuple | list):
        return f"a {type(answer).__name__} of " + ", ".join(map(described, answer))
    return f"a {type(answer).__name__}"


def _parameters(model: nn.Module) -> list[inspect.Parameter]:
    """The parameters of ``forward`` that can be given by position."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [p for p in inspect.signature(model.forward).parameters.values() if p.kind in kinds]


def _form(model: nn.Module) -> tuple[Form, str]:
    """The form of a model, and why: empty where it is declared or the usual one."""
    name, declared = type(model).__name__, getattr(model, "adapter", None)
    every = inspect.signature(model.forward).parameters.values()
    shown = f"{name}.forward({', '.join(str(p) for p in every)})"
    taken = _parameters(model)
    names = [p.name for p in taken]
    if declared is not None:
        if declared not in get_args(Form):
            raise AdapterError(f"{name}.adapter is {declared!r}; expected one of {', '.join(get_args(Form))}")
        form, reason = cast(Form, declared), ""
    elif len(names) >= 2 and names[1] == "edge_index":
        form, reason = "edges", ""
    elif len(names) >= 2 and _is_dense(names):
        form = "dense"
        reason = (
            f"{shown} is given the adjacency matrix [n, n] as {names[1] if names[1] in _ADJACENCY else names[0]}, "
            "without self-loops and not normalised; where it wants the normalised one with self-loops, declare "
            'adapter = "dense-normalized"'
        )
    elif names and names[0] in _DATA and all(p.default is not p.empty for p in taken[1:]):
        form, reason = "data", f"{shown} is given a Data with x, edge_index and edge_weight"
    else:
        raise AdapterError(
            f"{shown} is of no form that is known; expected forward(x, edge_index, edge_weight=None), or a class "
            f"attribute adapter that is one of {', '.join(map(repr, get_args(Form)))}"
        )
    least = 1 if form == "data" else 2
    wanted = [p.name for p in taken[least:] if p.default is p.empty]
    wanted += [p.name for p in every if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
    if wanted or len(names) < least:
        what = f"also needs {', '.join(wanted)}" if wanted else f"takes {len(names)} argument(s) by position"
        raise AdapterError(f"{shown} {what}; the adapter {form!r} calls it with {least}: give the others defaults")
    return form, reason


def _is_dense(names: Sequence[str]) -> bool:
    first, second = names[:2]
    return (second in _ADJACENCY) or (first in _ADJACENCY and second in _FEATURES)


def _dense(x: Tensor, edge_index: Tensor, edge_weight: Tensor | None) -> Tensor:
    """A ``[n, n]``, differentiable in the weights."""
    n = int(x.shape[0])
    if n > _MOST_NODES:
        raise AdapterError(f"an adjacency matrix of {n} nodes is too large; expected at most {_MOST_NODES} nodes")
    weight = x.new_ones(edge_index.shape[1]) if edge_weight is None else edge_weight
    # row i holds the edges into node i, so that A @ x sums over them, as message passing does
    return weight.new_zeros(n, n).index_put((edge_index[1], edge_index[0]), weight, accumulate=True)


def _normalized(matrix: Tensor) -> Tensor:
    looped = matrix + torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
    scale = looped.sum(dim=1).rsqrt()
    return scale[:, None] * looped * scale
