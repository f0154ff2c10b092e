"""Plug-ins: what they register, what fails leaves behind, and what a change of their code measures anew."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest

from contractive_gnn import plugins
from contractive_gnn.attacks import ATTACKS
from contractive_gnn.bench.protocol import Override, Protocol
from contractive_gnn.bench.results import RESULTS, Result, ResultsFile, read_results
from contractive_gnn.bench.runner import GRAPHS, Failure, Message, execute, plan
from contractive_gnn.bench.spec import parse_attacks
from contractive_gnn.dynamics import DYNAMICS
from contractive_gnn.nn import MODELS, build
from contractive_gnn.nn.baselines import GCNClassifier
from contractive_gnn.plugins import PluginError
from contractive_gnn.registry import temporary

FLOW = """
from contractive_gnn.dynamics import Diffusion, register

@register({name!r})
def flow(channels, **options):
    return Diffusion(**options)
"""

ATTACK_AND_MODEL = """
import torch

from contractive_gnn.attacks import Attack, Perturbation, register
from contractive_gnn.nn import MLPClassifier
from contractive_gnn.nn import register as register_model


@register
class FirstPairs(Attack):
    name = "first-pairs"
    kind = "structure"
    scope = "global"
    knowledge = "random"

    def _perturb(self, data, n_flips, *, victim, targets):
        return Perturbation(edge_flips=torch.stack([torch.zeros(n_flips), 1 + torch.arange(n_flips)]).long())


@register_model("my-perceptron")
def perceptron(in_channels, out_channels, **options):
    return MLPClassifier(in_channels, out_channels, **{{"hidden": {hidden}, **options}})
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file of the only plug-in; what it registers is forgotten afterwards."""
    path = tmp_path / "mine.py"
    monkeypatch.setenv(plugins.VARIABLE, str(path))
    with fresh():
        yield path


@contextlib.contextmanager
def fresh() -> Iterator[None]:
    """As a new process would find it."""
    with temporary(), patch.dict(plugins._loaded, clear=True):
        yield


def protocol(models: str, attacks: str) -> Protocol:
    plugins.load_plugins()
    return Protocol(
        dataset="csbm",
        models=tuple(models.split(",")),
        attacks=parse_attacks(attacks, dataset="csbm"),
        seeds=(0,),
        overrides=(Override.parse("training.epochs=3"),),
    )


def run(benchmark: Protocol, out: Path, *, processes: int = 1) -> list[Message]:
    with ResultsFile(out / RESULTS) as results:
        return list(execute(plan(benchmark, out=out, finished=results.finished), results, processes=processes))


def cells(messages: list[Message]) -> set[tuple[str, str]]:
    assert not [message for message in messages if isinstance(message, Failure)]
    return {(message.model, message.attack) for message in messages if isinstance(message, Result)}


def test_what_fails_half_way_registers_nothing_and_can_be_mended(plugin: Path) -> None:
    before = list(DYNAMICS)
    plugin.write_text(FLOW.format(name="half-flow") + "raise RuntimeError('on purpose')\n", "utf-8")
    for _ in range(2):
        with pytest.raises(PluginError, match=r"mine\.py cannot be imported: RuntimeError: on purpose"):
            plugins.load_plugins()
        assert list(DYNAMICS) == before
    plugin.write_text(FLOW.format(name="half-flow"), "utf-8")
    plugins.load_plugins()
    assert list(DYNAMICS) == [*before, "half-flow"]


def test_a_model_hides_no_plug_in(plugin: Path) -> None:
    plugin.write_text(FLOW.format(name="gcn"), "utf-8")
    with pytest.raises(PluginError, match=r"mine\.py cannot be imported: ValueError: gcn is a model's name"):
        plugins.load_plugins()
    assert "gcn" not in DYNAMICS
    assert isinstance(build("gcn", 3, 2), GCNClassifier)


def test_a_failure_takes_attacks_and_models_back_as_well(plugin: Path) -> None:
    before = list(MODELS), list(ATTACKS)
    plugin.write_text(ATTACK_AND_MODEL.format(hidden=4) + "import sys; sys.exit('on purpose')\n", "utf-8")
    with pytest.raises(PluginError, match=r"mine\.py cannot be imported: SystemExit: on purpose"):
        plugins.load_plugins()
    assert (list(MODELS), list(ATTACKS)) == before


@pytest.mark.parametrize(
    ("code", "complaint"),
    [
        ("from contractive_gnn.nn import register\nregister('gcn')(print)", "the model 'gcn' is registered already"),
        (
            "from contractive_gnn.nn import register\nregister('diffusion')(print)",
            "a dynamics is called 'diffusion' already",
        ),
        ("from contractive_gnn.nn import register\nregister('My Model')", "lower-case words joined by hyphens"),
    ],
)
def test_a_model_takes_no_name_that_there_is(plugin: Path, code: str, complaint: str) -> None:
    plugin.write_text(code, "utf-8")
    with pytest.raises(PluginError, match=complaint):
        plugins.load_plugins()


def test_attacks_and_models_of_a_plug_in_run_in_several_processes(plugin: Path, tmp_path: Path) -> None:
    plugin.write_text(ATTACK_AND_MODEL.format(hidden=4), "utf-8")
    benchmark = protocol("my-perceptron,gcn", "clean,first-pairs:3flips")
    messages = run(benchmark, tmp_path / "out", processes=2)
    assert len(cells(messages)) == 4


def test_another_process_runs_no_other_code_than_this_one(plugin: Path) -> None:
    plugin.write_text(ATTACK_AND_MODEL.format(hidden=4), "utf-8")
    with fresh():
        plugins.load_plugins()
        expected = plugins.loaded()
        assert expected == {str(plugin): plugins.versions()["mine.py"]}
    with fresh():
        plugins.load_plugins(expected)
        assert "my-perceptron" in MODELS
    with fresh():
        plugins.load_plugins({})
        assert "my-perceptron" not in MODELS
    plugin.write_text(ATTACK_AND_MODEL.format(hidden=5), "utf-8")
    with fresh(), pytest.raises(PluginError, match=r"mine.py has changed since this run began; start it again"):
        plugins.load_plugins(expected)


def test_a_changed_plug_in_is_measured_anew_and_nothing_else(plugin: Path, tmp_path: Path) -> None:
    plugin.write_text(ATTACK_AND_MODEL.format(hidden=4), "utf-8")
    asked = "my-perceptron,gcn", "clean,random:3flips,first-pairs:3flips"
    with fresh():
        assert len(cells(run(protocol(*asked), tmp_path))) == 6
        assert run(protocol(*asked), tmp_path) == []
    plugin.write_text(ATTACK_AND_MODEL.format(hidden=5), "utf-8")  # as long as before, in the same second
    anew = {("my-perceptron", attack) for attack in ("clean", "random", "first-pairs")} | {("gcn", "first-pairs")}
    with fresh():
        assert cells(run(protocol(*asked), tmp_path)) == anew
    assert len(list((tmp_path / GRAPHS).glob("csbm-first-pairs-*.npz"))) == 2
    told = [result.hyperparameters.get("plugins") for result in read_results(tmp_path / RESULTS)]
    assert [set(plugin or {}) for plugin in told] == [{"mine.py"}] * 3 + [set()] * 3 + [{"mine.py"}] * 3 + [set()]


def test_a_part_of_a_model_counts_and_so_does_what_registers_nothing(plugin: Path) -> None:
    plugin.write_text(ATTACK_AND_MODEL.format(hidden=4), "utf-8")
    with fresh():
        plain = protocol("gcn", "clean")
        assert "plugins" not in plain.model_identity("gcn")
        teacher = Override("gcn", "training", "teacher", {"name": "my-perceptron", "model": {}, "training": {}})
        taught = Protocol("csbm", ("gcn",), (), (0,), overrides=(teacher,))
        assert set(taught.model_identity("gcn")["plugins"]) == {"mine.py"}
    plugin.write_text("import torch\n", "utf-8")
    with fresh():
        silent = protocol("gcn", "clean")
        assert set(silent.model_identity("gcn")["plugins"]) == {"mine.py"}


def test_the_code_of_a_module_is_that_of_its_package(
    plugin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "plug_in_package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "flow.py").write_text("from .constants import NAME\n" + FLOW.replace("{name!r}", "NAME"), "utf-8")
    (package / "constants.py").write_text("NAME = 'my-flow'\n", "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(plugins.VARIABLE, "plug_in_package.flow")
    digests = set()
    for line in ("", "# changed\n"):
        (package / "constants.py").write_text("NAME = 'my-flow'\n" + line, "utf-8")
        with fresh():
            plugins.load_plugins()
            assert plugins.digests(["my-flow"]) == plugins.versions()
            assert plugins.digests(["diffusion"]) == {}
            digests.add(plugins.versions()["plug_in_package.flow"])
        for module in [name for name in sys.modules if name.startswith("plug_in_package")]:
            del sys.modules[module]
    assert len(digests) == 2
