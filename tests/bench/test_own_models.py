"""Models of one's own in the benchmark: found in a file, built, fitted, attacked, in several processes."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn
from torch_geometric.nn import GCN
from typer.testing import CliRunner

from contractive_gnn.attacks import AttackResult
from contractive_gnn.bench import own_models
from contractive_gnn.bench.cli import app
from contractive_gnn.bench.own_models import ModelFileError, OwnModel
from contractive_gnn.bench.results import read_results

MINE = """
from torch import nn
from torch_geometric.nn import GCNConv


class Net(nn.Module):
    def __init__(self, in_channels, out_channels, hidden=8):
        super().__init__()
        self.first, self.last = GCNConv(in_channels, hidden), GCNConv(hidden, out_channels)

    def forward(self, x, edge_index, edge_weight=None):
        return self.last(self.first(x, edge_index, edge_weight).relu(), edge_index, edge_weight)


class Blind(Net):
    def forward(self, x, edge_index):
        return super().forward(x, edge_index)


def kipf(nfeat, nhid=8, nclass=7):
    return Net(nfeat, nclass, hidden=nhid)


def swallow(in_channels, out_channels, depth):
    return Net(in_channels, out_channels)


def nothing(in_channels, out_channels):
    return None


def broken(in_channels, out_channels):
    raise RuntimeError("on purpose")


ready = Net(3, 2)
"""
DENSE = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.linear = nn.Linear(in_channels, out_channels)

    def forward(self, features, adj):
        return self.linear(features) + adj @ self.linear(features)
"""
QUICK = ("--dataset", "csbm", "--seeds", "1", "--set", "training.epochs=3")


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file; what it makes known is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(own_models, "_own", {})
    path = tmp_path / "mine.py"
    path.write_text(MINE, "utf-8")
    return path


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})
    return result.exit_code, result.stdout, result.stderr


def test_a_file_is_measured_beside_a_registered_model_in_two_processes(mine: Path, tmp_path: Path) -> None:
    attacks = "clean,random:0.2,whitebox-pgd:5flips"
    code, out, err = run(
        "bench", *QUICK, "--models", "gcn", "--model", "mine.py:Net", "--attacks", attacks, "--jobs", "2",
        "--set", "mine.py:Net.model.hidden=6", "--set", "whitebox-pgd.attack.epochs=2", "--out", "run",
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert "mine.py:Net" in out
    results = read_results(tmp_path / "run" / "results.jsonl")
    assert {(r.model, r.attack) for r in results} == {
        (model, attack) for model in ("gcn", "mine.py:Net") for attack in ("clean", "random", "whitebox-pgd")
    }
    own = [r for r in results if r.model == "mine.py:Net"]
    assert all(r.hyperparameters["model"] == {"hidden": 6} for r in own)
    assert {tuple(r.hyperparameters["plugins"]) for r in own} == {("mine.py",)}
    assert all("plugins" not in r.hyperparameters for r in results if r.model == "gcn")
    command = json.loads((tmp_path / "run" / "commands.jsonl").read_text("utf-8"))["command"]
    assert "--models gcn,mine.py:Net" in command

    again, _, told = run(*command.split()[1:])
    assert (again, told) == (0, "6 of 6 numbers are in run already.\n")
    mine.write_text(MINE + "# changed\n", "utf-8")
    again, _, told = run(*command.split()[1:])
    assert (again, told) == (0, "3 of 6 numbers are in run already.\n")


def test_another_process_refuses_code_that_has_changed(mine: Path) -> None:
    own = OwnModel.parse("mine.py:Net")
    mine.write_text(MINE + "# changed\n", "utf-8")
    own_models._module.cache_clear()
    with pytest.raises(ModelFileError, match=r"mine\.py has changed since this run began; start it again"):
        own.build(3, 2)


def test_the_dense_adjacency_is_told_and_attacked(mine: Path, tmp_path: Path) -> None:
    (tmp_path / "dense.py").write_text(DENSE, "utf-8")
    code, out, err = run(
        "attack", "--dataset", "csbm", "--model", "dense.py:Net", "--attack", "whitebox-pgd:5flips", "--out", "a.npz",
        "--set", "training.epochs=3", "--set", "whitebox-pgd.attack.epochs=2",
    )  # fmt: skip
    assert code == 0, err
    assert "is given the adjacency matrix [n, n] as adj, without self-loops and not normalised" in err
    assert "dense.py:Net, trained on the clean graph and frozen" in out
    assert 0 < AttackResult.load("a.npz").n_flips <= 5


def test_without_edge_weight_there_is_poisoning_and_a_reason(mine: Path) -> None:
    code, _, _ = run("bench", *QUICK, "--model", "mine.py:Blind", "--attacks", "clean,random:0.1", "--out", "run")
    assert code == 0
    code, _, err = run("bench", *QUICK, "--model", "mine.py:Blind", "--attacks", "whitebox-pgd:0.1", "--out", "run")
    assert code == 2
    assert "the forward of mine.py:Blind takes no edge_weight" in err
    assert "attack it by poisoning or transfer" in err


def test_the_widths_are_given_by_the_names_that_people_use(mine: Path) -> None:
    kipf = OwnModel.parse("mine.py:kipf")
    assert kipf.hyperparameters() == ("nhid",)
    built = kipf.build(5, 3, nhid=4)
    assert built(torch.ones(2, 5), torch.tensor([[0, 1], [1, 0]])).shape == (2, 3)
    # by position, in_channels and hidden_channels would be taken for the two widths
    pyg = OwnModel.of(GCN)
    assert pyg.build(5, 3, hidden_channels=4, num_layers=2)(torch.ones(2, 5), torch.tensor([[0, 1], [1, 0]])).shape == (
        2,
        3,
    )


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        (
            "mine.py:Nett",
            r"Nett is not there; expected a class or .* Did you mean 'Net'\? There are: Blind, ",
        ),
        ("mine.py:ready", "ready is a module that is built already; expected a class or a function"),
        ("other.py:Net", "there is no file .*other.py; expected FILE.py:NAME"),
        ("mine.py:", "expected FILE.py:NAME, like mine.py:Net"),
        ("mine.py", "expected FILE.py:NAME, like mine.py:Net"),
        (
            "mine.py:swallow",
            r"swallow\(in_channels=32, out_channels=4\) was tried, and missing a required argument",
        ),
        ("mine.py:nothing", "gave a NoneType; expected a torch.nn.Module"),
        ("mine.py:broken", "was tried, and raised RuntimeError: on purpose"),
    ],
)
def test_what_was_tried_is_said(mine: Path, name: str, complaint: str) -> None:
    code, out, err = run("bench", *QUICK, "--models", name, "--attacks", "clean", "--out", "run")
    assert (code, out) == (2, "")
    with pytest.raises(ValueError, match=complaint):
        raise ValueError(err)


@pytest.mark.parametrize(
    ("code", "complaint"),
    [
        ("raise RuntimeError('on purpose')", "cannot be imported: RuntimeError: on purpose"),
        ("import there_is_no_such_module", "a model file stands alone: put what it needs into it"),
        ("def f(:", "cannot be imported: SyntaxError"),
    ],
)
def test_a_file_that_cannot_be_run(mine: Path, code: str, complaint: str) -> None:
    mine.write_text(code, "utf-8")
    with pytest.raises(ModelFileError, match=complaint):
        OwnModel.parse("mine.py:Net")


def test_two_files_of_one_name_are_not_one_model(mine: Path, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "mine.py").write_text(MINE + "# another\n", "utf-8")
    code, _, err = run("bench", *QUICK, "--models", "mine.py:Net,sub/mine.py:Net", "--attacks", "clean")
    assert code == 2
    assert "are both called 'mine.py:Net' in the results; rename one of the files" in err


def test_a_class_of_this_process() -> None:
    own = OwnModel.of(GCN)
    assert (own.name, len(own.digest)) == ("GCN", 12)
    assert OwnModel.of(nn.Linear).digest != own.digest
    with pytest.raises(ModelFileError, match="or a class or function"):
        OwnModel.of(nn.Linear(2, 2))  # type: ignore[arg-type]
    with pytest.raises(ModelFileError, match="a registered model is called 'gcn'"):
        own_models.use([OwnModel.of(GCN, name="gcn")])


def test_the_digest_of_a_model_of_this_process_is_of_all_that_decides_it() -> None:
    """One line of source makes several models here: results of one must not pass for those of another."""

    def made(width: int) -> OwnModel:
        return OwnModel.of(lambda i, o: nn.Linear(i + width, o))

    assert made(8).digest == made(8).digest
    assert made(8).digest != made(16).digest
    partial = [functools.partial(nn.Linear, bias=bias) for bias in (True, False, True)]
    one, other, same = (OwnModel.of(factory, name="linear").digest for factory in partial)
    assert one == same != other

    def defaults(width: int) -> OwnModel:
        def make(i: int, o: int, hidden: int = width) -> nn.Module:
            return nn.Linear(i, o + hidden)

        return OwnModel.of(make)

    assert defaults(1).digest != defaults(2).digest

    def derived(base: type) -> OwnModel:
        class Mine(base):  # type: ignore[misc]
            pass

        return OwnModel.of(Mine)

    assert derived(nn.Linear).digest == derived(nn.Linear).digest
    assert derived(nn.Linear).digest != derived(nn.Bilinear).digest


def test_the_digest_knows_the_globals_that_a_model_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    before = OwnModel.of(of_a_global_width).digest
    assert OwnModel.of(of_a_global_width).digest == before
    monkeypatch.setitem(globals(), "WIDTH", 5)
    assert OwnModel.of(of_a_global_width).digest != before


WIDTH = 4


def of_a_global_width(in_channels: int, out_channels: int) -> nn.Module:
    return nn.Sequential(nn.Linear(in_channels, WIDTH), nn.Linear(WIDTH, out_channels))
