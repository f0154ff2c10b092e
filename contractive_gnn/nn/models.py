"""The models by name, as the benchmark builds them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, TypeVar

from torch import nn

from contractive_gnn import former
from contractive_gnn.checks import check_whole, check_widths
from contractive_gnn.deprecated import renamed
from contractive_gnn.dynamics import DYNAMICS, Dynamics, registry
from contractive_gnn.names import unknown
from contractive_gnn.nn.baselines import APPNPClassifier, GATClassifier, GCNClassifier, MLPClassifier
from contractive_gnn.nn.conservative import mass_diffusion, volume_coupling, wave
from contractive_gnn.nn.csgnn import CSGNN
from contractive_gnn.nn.deeprobust import DEEPROBUST_MODELS
from contractive_gnn.nn.ensemble import PROVABLE_MEMBERS, ROBUST_MEMBERS, Ensemble
from contractive_gnn.nn.flow import FlowConv, FlowGNN, gradient_flow, linf_diffusion
from contractive_gnn.nn.gnnguard import GNNGuard
from contractive_gnn.nn.mixture import MLPMixture
from contractive_gnn.nn.similarity import robust, robust_provable
from contractive_gnn.nn.smoothing import RUNG, ElasticGNN
from contractive_gnn.registry import Registry


def ensemble(in_channels: int, out_channels: int, *, members: Sequence[Mapping[str, Any]]) -> Ensemble:
    """An :class:`Ensemble` of models by name.

    Args:
        in_channels: number of features.
        out_channels: number of classes.
        members: of each the name and the hyperparameters, ``{"name": MODEL, "model": {…}}``.

    Raises:
        ValueError: without members, or for one of another form or an unknown name.
        TypeError: if a hyperparameter is not one of the member's.
    """
    return Ensemble(_named("each member", member, in_channels, out_channels) for member in members)


@renamed(share="weight")
def mixture(
    in_channels: int,
    out_channels: int,
    *,
    teacher: Mapping[str, Any],
    student: Mapping[str, Any] | None = None,
    weight: float = 0.4,
) -> MLPMixture:
    """A :class:`MLPMixture` around a model by name.

    Args:
        in_channels: number of features.
        out_channels: number of classes.
        teacher: its name and hyperparameters, ``{"name": MODEL, "model": {…}}``.
        student: hyperparameters of the :class:`MLPClassifier`; by default those of ``robust-distilled``.
        weight: see :class:`MLPMixture`.

    Raises:
        ValueError: for a teacher of another form or an unknown name, or a weight outside of (0, 1).
        TypeError: if a hyperparameter is not one of the model's.
    """
    settings = {"dropout": 0.25, "row_norm": 4.0} if student is None else student
    pupil = MLPClassifier(in_channels, out_channels, **settings)
    read = _named("the teacher", teacher, in_channels, out_channels)
    return MLPMixture(read, pupil, weight=weight)


def _named(what: str, model: Mapping[str, Any], in_channels: int, out_channels: int) -> nn.Module:
    if not (isinstance(model, Mapping) and {"name"} <= set(model) <= {"name", "model"}):
        raise ValueError(f"expected for {what} {{'name': MODEL, 'model': {{…}}}}, got {model!r}")
    return build(model["name"], in_channels, out_channels, **model.get("model", {}))


Factory = Callable[..., nn.Module]
"""``factory(in_channels, out_channels, **hyperparameters) -> Module``; a class with such a constructor is one."""

MODELS: Registry[Factory] = Registry("model")

_OURS: Mapping[str, Factory] = {
    "mlp": MLPClassifier,
    "gcn": GCNClassifier,
    "gat": GATClassifier,
    "appnp": APPNPClassifier,
    "csgnn": CSGNN,
    "csgnn-noadj": partial(CSGNN, adjacency="fixed"),
    "ecsgnn": partial(CSGNN, adjacency="unconstrained"),
    "csgnn-published": partial(
        CSGNN,
        num_layers=3,
        adjacency="published",
        alpha=-1.0,
        adjacency_step=None,
        activation="tanh",
        threshold=None,
        condition="printed",
        placement="inside",
        normalization="none",
        mu=0.0,
        learn_weight=True,
    ),
    "gradient-flow": gradient_flow,
    "linf-diffusion": linf_diffusion,
    "mass-diffusion": mass_diffusion,
    "wave": wave,
    "volume-coupling": volume_coupling,
    "robust": robust,
    "robust-provable": robust_provable,
    "robust-distilled": MLPClassifier,  # its preset names robust as the teacher
    "ensemble": ensemble,
    "robust-ensemble": partial(ensemble, members=ROBUST_MEMBERS),
    "robust-provable-ensemble": partial(ensemble, members=PROVABLE_MEMBERS),
    "mixture": mixture,
    "robust-mixture": partial(mixture, teacher={"name": "robust-ensemble"}),
    "rung": RUNG,
    "elastic-gnn": ElasticGNN,
    "gnnguard": GNNGuard,
    **DEEPROBUST_MODELS,
}
for _name, _factory in _OURS.items():
    MODELS.register(_name)(_factory)
DYNAMICS.give_way_to(MODELS)  # :func:`build` asks for a model first


_Model = TypeVar("_Model", bound=Factory)


def register(name: str) -> Callable[[_Model], _Model]:
    """Register a class or a function ``(in_channels, out_channels, **hyperparameters) -> Module`` under a name.

    The module has ``forward(x, edge_index, edge_weight=None)``; what else it may declare about its training is in
    :mod:`contractive_gnn.trainable`.

    Args:
        name: lower-case words joined by hyphens.

    Raises:
        ValueError: if the name is, or was, that of another model or of a dynamics, or has other characters.
    """
    if name in DYNAMICS:
        raise ValueError(f"a dynamics is called {name!r} already; choose another name")
    if (now := former.MODELS.get(name)) is not None:
        raise ValueError(f"{name!r} is what the model {now!r} was called before; choose another name")
    return MODELS.register(name)


def model_names() -> list[str]:
    """Every name that :func:`build` takes: :data:`MODELS`, and the registered flows of node features."""
    return [*MODELS, *(name for name in DYNAMICS if name not in MODELS and _on_features(name))]


def _on_features(name: str) -> bool:
    factory = DYNAMICS[name]
    if isinstance(factory, type) and issubclass(factory, Dynamics):
        return factory.on_features
    try:
        return registry.build(name, 2).on_features
    except Exception:
        return True  # it may want other channels; whoever asks for it is told


@renamed(hidden="hidden_channels", num_steps="num_layers")
def flow_gnn(
    in_channels: int,
    out_channels: int,
    *,
    dynamics: str,
    hidden_channels: int = 64,
    num_layers: int = 8,
    step: float | None = None,
    constrained: bool = True,
    scheme: str = "euler",
    dropout: float = 0.5,
    space: Literal["hidden", "class"] = "hidden",
    **hyperparameters: Any,
) -> FlowGNN:
    """A registered dynamics as a model: :class:`FlowGNN` around a :class:`FlowConv` of it.

    Args:
        in_channels: number of features.
        out_channels: number of classes.
        dynamics: a name of :data:`contractive_gnn.dynamics.DYNAMICS`.
        hidden_channels: see :class:`FlowGNN`.
        num_layers: see :class:`FlowConv`.
        step: see :class:`FlowConv`.
        constrained: see :class:`FlowConv`; an expansive field needs ``constrained=False`` and a step.
        scheme: see :class:`FlowConv`.
        dropout: see :class:`FlowGNN`.
        space: see :class:`FlowGNN`.
        **hyperparameters: the dynamics' own.
    """
    check_widths(in_channels, out_channels=out_channels, hidden_channels=hidden_channels)
    check_whole("num_layers", num_layers, least=1)
    field = registry.build(dynamics, hidden_channels if space == "hidden" else out_channels, **hyperparameters)
    if not field.on_features:
        raise ValueError(f"{dynamics!r} is a flow of matrices; a model needs a flow of node features")
    conv = FlowConv(field, num_steps=num_layers, step=step, constrained=constrained, scheme=scheme)
    return FlowGNN(in_channels, out_channels, conv, hidden_channels=hidden_channels, dropout=dropout, space=space)


def build(name: str, in_channels: int, out_channels: int, **hyperparameters: Any) -> nn.Module:
    """Build a model by its name, or by that of a registered dynamics (:func:`flow_gnn`).

    Args:
        name: one of :func:`model_names`, or, for one release more, what a model was called before.
        in_channels: number of features.
        out_channels: number of classes.
        **hyperparameters: the model's own keyword arguments.

    Raises:
        ValueError: if the name is unknown.
        TypeError: if a hyperparameter is not one of the model's.
    """
    if name not in MODELS:
        name = former.current_model(name)
    if name in MODELS:
        return MODELS[name](in_channels, out_channels, **hyperparameters)
    if name in DYNAMICS:
        return flow_gnn(in_channels, out_channels, dynamics=name, **hyperparameters)
    raise ValueError(unknown("model", [name], model_names()))
