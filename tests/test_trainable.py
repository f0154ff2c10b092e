"""What a model may declare about its training, and how its parameters are drawn."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils import parametrizations
from torch_geometric.data import Data
from torch_geometric.nn import GCNConv

from contractive_gnn import datasets, nn, training
from contractive_gnn.bench.adapter import AdapterError, adapted
from contractive_gnn.nn.plain import plain_type
from contractive_gnn.trainable import (
    Calibrated,
    HasCommunities,
    HasMembers,
    HasModes,
    HasRoles,
    Taught,
    TrainsItself,
    declared,
    declares,
    reset,
)

CONTRACTS = (TrainsItself, HasMembers, Taught, HasModes, HasRoles, Calibrated, HasCommunities)


@pytest.fixture(scope="module")
def data() -> Data:
    return datasets.contextual_sbm(80, classes=3, features=8, average_degree=6, seed=0, split_seed=0)


class Net(torch.nn.Module):
    """As many people write it: layers, and no reset_parameters of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = GCNConv(8, 16)
        self.head = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.BatchNorm1d(16), torch.nn.Linear(16, 3))

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.head(self.conv(x, edge_index))  # type: ignore[no-any-return]


def parameters(model: torch.nn.Module) -> list[Tensor]:
    return [tensor.clone() for tensor in model.state_dict().values()]


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(*pair) for pair in zip(one, other, strict=True))


def test_a_model_without_reset_parameters_is_drawn_part_by_part(data: Data) -> None:
    found = []
    for noise in (1, 2):
        torch.manual_seed(noise)
        model = Net()
        training.fit(model, data, epochs=20, seed=3)
        found.append(parameters(model))
    assert same(*found)
    training.fit(model, data, epochs=20, seed=4)
    assert not same(found[1], parameters(model))
    assert training.fit(Net(), data, epochs=60).val_accuracy > 60  # one in three would be chance


def test_what_nobody_draws_is_refused_and_named(data: Data) -> None:
    class Shift(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.by = torch.nn.Parameter(torch.zeros(3))

        def forward(self, x: Tensor) -> Tensor:
            return x + self.by

    own, deep, none = Net(), Net(), torch.nn.ReLU()
    own.bias = torch.nn.Parameter(torch.zeros(3))
    deep.head.append(Shift())
    for model, says in (
        (own, r"Net has no reset_parameters\(\), and fit draws"),
        (deep, r"Net has no reset_parameters\(\), nor has its part head\.3 \(Shift\), and fit draws"),
        (none, r"ReLU has no reset_parameters\(\), and"),
        (torch.nn.DataParallel(nn.build("robust", 8, 3)), r"its part module \(SimilarityFlowGNN\) declares a training"),
        (torch.nn.DataParallel(nn.build("csgnn", 8, 3)), r"not a wrapper of it"),
    ):
        with pytest.raises(ValueError, match=says):
            training.check_options(model)
        with pytest.raises(ValueError, match=says):
            reset(model)


def test_a_wrapper_of_a_model_that_declares_nothing_trains_like_that_model(data: Data) -> None:
    plain, wrapped = nn.build("gcn", 8, 3), torch.nn.DataParallel(nn.build("gcn", 8, 3))
    for model in (plain, wrapped):
        training.fit(model, data, epochs=5)
    assert same(parameters(plain), parameters(wrapped))


def test_a_model_that_is_frozen_altogether_is_refused(data: Data) -> None:
    model = GCNConv(data.num_features, 4).requires_grad_(False)
    with pytest.raises(ValueError, match="GCNConv has no parameter that learns: all are frozen"):
        training.fit(model, data, epochs=1)


def test_frozen_parts_stay_as_they_are(data: Data) -> None:
    model = Net()
    model.conv.requires_grad_(False)
    before, head = parameters(model.conv), parameters(model.head)
    training.fit(model, data, epochs=5)
    assert same(before, parameters(model.conv))
    assert not same(head, parameters(model.head))


def test_a_parameter_that_a_part_does_not_draw_is_refused(data: Data) -> None:
    model = Net()
    parametrizations.weight_norm(model.head[2])  # torch's reset_parameters draws a product that nobody keeps
    before = parameters(model.head[2])
    with pytest.raises(ValueError, match=r"reset_parameters\(\) of head\.2 \(ParametrizedLinear\) does not draw all"):
        training.fit(model, data, epochs=1)
    assert same(before, parameters(model.head[2]))


def test_the_models_of_the_library_declare_what_they_have() -> None:
    expected: dict[str, set[type]] = {
        "gcn": set(),
        "mlp": set(),
        "csgnn": {HasRoles},
        "robust": {HasModes, Calibrated, HasCommunities},
        "robust-ensemble": {HasMembers},
        "robust-mixture": {Taught},
    }
    for name, contracts in expected.items():
        model = nn.build(name, 8, 3)
        assert {contract for contract in CONTRACTS if isinstance(model, contract)} == contracts, name
    assert declares(nn.MODELS["rgcn"], TrainsItself)
    assert not declares(nn.MODELS["gcn"], TrainsItself)
    assert not declares(None, TrainsItself)


def test_a_class_that_declares_must_define() -> None:
    class Moody(nn.GCNClassifier, HasModes):
        modes = ("calm", "wild")

    with pytest.raises(TypeError, match=r"abstract method.*use"):
        Moody(8, 3)  # type: ignore[abstract]


class Formerly(nn.GCNClassifier):
    """It has the names, and inherits nothing."""

    def __init__(self, *channels: int) -> None:
        super().__init__(*channels)
        self.called: list[Any] = []


class Fits(Formerly):
    def fit_data(self, data: Data, *, seed: int) -> None:
        self.called.append(seed)


class Sets(Formerly):
    settings = ("one", "two")

    def use(self, setting: str) -> None:
        self.called.append(setting)


class Groups(Formerly):
    def parameter_groups(self) -> dict[str, list[torch.nn.Parameter]]:
        self.called.append("groups")
        return {"all": list(self.parameters())}


class Calibrates(Formerly):
    def calibrate(self, data: Data, probability: Tensor | None) -> None:
        self.called.append(probability)


class Knows(Formerly):
    def communities(self, data: Data) -> Tensor | None:
        self.called.append("asked")
        return None


class Several(Formerly):
    def __init__(self, *channels: int) -> None:
        super().__init__(*channels)
        self.members = torch.nn.ModuleList([Fits(*channels), Fits(*channels)])


class Teaches(Formerly):
    def __init__(self, *channels: int) -> None:
        super().__init__(*channels)
        self.teacher, self.student = Fits(*channels), nn.MLPClassifier(*channels)


@pytest.mark.parametrize(
    ("kind", "contract", "called", "options"),
    [
        (Fits, TrainsItself, [7], {}),
        (Sets, HasModes, ["one", "two"], {}),
        (Groups, HasRoles, ["groups", "groups"], {"lr": {"all": 0.1}}),
        (Calibrates, Calibrated, [None], {}),
        (Knows, HasCommunities, ["asked"], {"self_training": 0.5}),
    ],
)
def test_a_name_alone_is_followed_for_one_release_more_and_said(
    data: Data, kind: type[Formerly], contract: type, called: list[Any], options: dict[str, Any]
) -> None:
    model = kind(8, 3)
    with pytest.warns(
        DeprecationWarning, match=rf"{kind.__name__} has .*does not inherit .*trainable\.{contract.__name__}"
    ):
        training.fit(model, data, epochs=1, seed=7, **options)
    assert model.called == called


def test_members_and_a_teacher_by_name_alone_are_fitted_too(data: Data) -> None:
    several, teaches = Several(8, 3), Teaches(8, 3)
    with pytest.warns(DeprecationWarning, match="Several has members"):
        training.fit(several, data, seed=3)
    assert [seed for member in several.members for seed in member.called] == [6, 7]
    with pytest.warns(DeprecationWarning, match="Teaches has teacher and student"):
        assert training.fit(teaches, data, epochs=2, seed=3).epochs == 2
    assert teaches.teacher.called == [6]


def test_a_name_that_holds_something_else_is_none_of_them(data: Data) -> None:
    model = nn.GCNClassifier(8, 3)
    model.members, model.teacher, model.student, model.settings = ["Ann", "Bob"], "Ann", "Bob", {"a": 1}  # type: ignore[assignment]
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        training.fit(model, data, epochs=1)


def test_what_is_declared_is_taken_without_a_warning(data: Data) -> None:
    class Declares(Sets, HasModes):
        modes = ("three",)

    model = Declares(8, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        training.fit(model, data, epochs=1)
    assert model.called == ["three"]


def test_what_is_declared_is_not_lost_behind_an_adapter() -> None:
    class Once(torch.nn.Module, TrainsItself):
        def fit_data(self, data: Data, *, seed: int) -> None:
            raise AssertionError("not called here")

        def forward(self, x: Tensor, adj: Tensor) -> Tensor:
            return adj @ x

    with pytest.raises(AdapterError, match="Once inherits TrainsItself, which stays unread"):
        adapted(Once(), Once)


def test_a_compiled_model_is_trained_as_the_model_in_it(data: Data) -> None:
    model = nn.build("csgnn", 8, 3, num_layers=2)
    compiled = torch.compile(model, backend="eager")
    assert declared(compiled, HasRoles) is model
    assert declared(compiled, HasModes) is None


def test_a_parametrised_model_that_declares_something_is_still_known_by_its_class() -> None:
    class Declared(torch.nn.Linear, HasRoles):
        def parameter_groups(self) -> dict[str, list[torch.nn.Parameter]]:
            return {"all": list(self.parameters())}

    model = Declared(2, 2)
    parametrizations.weight_norm(model)
    assert type(model) is not Declared
    assert plain_type(model) is Declared
