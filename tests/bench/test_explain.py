from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from typer.testing import CliRunner

import contractive_gnn as cg
from contractive_gnn.attacks.base import Budget
from contractive_gnn.bench.cli import app
from contractive_gnn.bench.edge_weights import edge_weights
from contractive_gnn.bench.explain import explain
from contractive_gnn.certificates import radii
from contractive_gnn.nn import MLPClassifier, MLPMixture, linf_diffusion


@pytest.fixture(scope="module")
def data() -> Data:
    return cg.contextual_sbm(80, seed=1)


@pytest.fixture(scope="module")
def model(data: Data) -> nn.Module:
    built = linf_diffusion(data.num_features, int(data.y.max()) + 1, hidden_channels=8, num_layers=4)
    cg.fit(built, data, epochs=30)
    return built


class Echo(nn.Module):
    """The mean of the labels around, as far as a graph alone can tell: what it says is known by hand."""

    def __init__(self, y: Tensor) -> None:
        super().__init__()
        self.hot = nn.functional.one_hot(y).float()

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        return torch.zeros(len(x), self.hot.shape[1]).index_add(0, edge_index[1], self.hot[edge_index[0]])


def path() -> Data:
    """0 – 1 – 2, and 3 – 4; classes 0 0 0 1 1."""
    edges = torch.tensor([[0, 1, 1, 2, 3, 4], [1, 0, 2, 1, 4, 3]])
    mask = torch.ones(5, dtype=torch.bool)
    y = torch.tensor([0, 0, 0, 1, 1])
    return Data(x=torch.eye(5), edge_index=edges, y=y, train_mask=mask, val_mask=mask, test_mask=mask)


def test_the_numbers_are_those_of_the_model() -> None:
    found = explain(Echo(path().y), path(), 1)
    assert (found.label, found.before.prediction, found.before.margin) == (0, 0, 2.0)
    assert (found.before.degree, found.before.alike, found.before.kept) == (2, 2, None)
    assert found.after is None
    assert not found.changed
    assert found.verdict == "Node 1 (class 0): Echo says 0."
    assert found.before.probability == pytest.approx(float(torch.tensor([2.0, 0.0]).softmax(0)[0]))
    assert "not a FlowGNN" in found.before.radius.reason


def test_before_and_after_an_attacked_graph() -> None:
    clean = path()
    attacked = cg.attack(None, clean, "random", flips=6, seed=0)
    found = explain(Echo(clean.y), clean, 1, attack=attacked)
    others = attacked.data.edge_index[1, attacked.data.edge_index[0] == 1]
    wrong = int((clean.y[others] == 1).sum())
    assert found.after is not None
    assert found.after.margin == (len(others) - wrong) - wrong
    assert (found.after.degree, found.after.alike) == (len(others), len(others) - wrong)
    assert found.n_flips == attacked.n_flips
    near = {flip.edge for flip in found.flips if 1 in flip.edge}
    assert near == {(int(u), int(v)) for u, v in attacked.edge_flips.t().tolist() if 1 in (u, v)}
    assert all(flip.labels == (int(clean.y[flip.edge[0]]), int(clean.y[flip.edge[1]])) for flip in found.flips)


def test_a_named_attack_aims_at_the_node(data: Data) -> None:
    model = cg.build("gcn", data.num_features, int(data.y.max()) + 1)
    cg.fit(model, data, epochs=30)
    found = explain(model, data, 7, attack="prbcd", flips=12, epochs=30)
    assert found.after is not None
    assert found.after.margin < found.before.margin - 0.1
    assert sum(7 in flip.edge for flip in found.flips) >= 6
    assert 0 < found.n_flips <= 12


def test_the_radius_is_that_of_the_certificate(model: nn.Module, data: Data) -> None:
    held = radii(model, data.x, data.edge_index, most=3)
    assert len(set(held.tolist())) > 1  # or the test could not fail
    for radius in set(held.tolist()):
        node = int((held == radius).nonzero()[0])
        found = explain(model, data, node, largest_radius=3).before.radius
        assert (found.flips, found.reason) == (radius, "")
    assert str(explain(model, data, int(held.argmax()), largest_radius=0).before.radius).endswith("or more")


def test_a_mixture_is_certified_against_any_edges(data: Data) -> None:
    classes = int(data.y.max()) + 1
    student = MLPClassifier(data.num_features, classes)
    cg.fit(student, data, epochs=60)
    mixture = MLPMixture(cg.build("gcn", data.num_features, classes), student, weight=0.3).eval()
    sure = mixture.certified_any_edges(data.x, data.edge_index)
    assert 0 < int(sure.sum()) < len(sure)
    words = {True: "any edges", False: "none proved"}
    for answer, word in words.items():
        node = int((sure == answer).nonzero()[0])
        assert str(explain(mixture, data, node).before.radius) == word


@pytest.mark.parametrize("name", ["csgnn", "robust"])
def test_weights_of_its_own_are_shown(name: str, data: Data) -> None:
    model = cg.build(name, data.num_features, int(data.y.max()) + 1).eval()
    own = edge_weights(model, data.x, data.edge_index)
    assert own is not None
    assert len(own.weight) == data.edge_index.shape[1] // 2
    found = explain(model, data, 3)
    at = [weight for edge, weight in own.weight.items() if 3 in edge]
    assert found.before.kept == pytest.approx(sum(at) / len(at))
    assert own.meaning in found._repr_html_()
    fixed = cg.CSGNN(data.num_features, 3, adjacency="fixed", alpha=-0.1)
    assert edge_weights(fixed, data.x, data.edge_index) is None


def test_the_weights_of_csgnn_are_those_that_its_last_layer_reads(data: Data) -> None:
    model = cg.CSGNN(data.num_features, 3, num_layers=3).eval()
    own = edge_weights(model, data.x, data.edge_index)
    assert own is not None
    read: list[Tensor] = []
    last = model.layers()[-1]
    last.register_forward_pre_hook(lambda layer, given: read.append(given[1].dense()))
    with torch.no_grad():
        model(data.x, data.edge_index)
    assert all(abs(float(read[0][v, u]) - weight) < 1e-6 for (u, v), weight in own.weight.items())
    assert max(abs(weight - 1) for weight in own.weight.values()) > 1e-3  # it has moved


def test_features_that_were_flipped_are_counted(data: Data) -> None:
    binary = data.clone()
    binary.x = (data.x > 0).float()
    model = Echo(binary.y)
    attacked = cg.attack(None, binary, "flip-features", fraction=0.2, seed=0)
    found = explain(model, binary, 4, attack=attacked)
    assert found.n_features[0] == int((attacked.feature_flips[0] == 4).sum())
    assert found.n_flips == attacked.n_flips
    assert "Feature entries changed" in str(found)


def test_a_retrained_model_answers_after_a_poisoning() -> None:
    clean = path()
    attacked = cg.attack(None, clean, "random", flips=1, seed=0)
    contrary = Echo(1 - clean.y)
    found = explain(Echo(clean.y), clean, 1, attack=attacked, retrained=contrary)
    assert found.changed
    assert found.verdict.endswith(": fooled.")


def test_the_verdict_knows_what_was_wrong_before() -> None:
    clean = path()
    attacked = cg.attack(None, clean, "random", flips=1, seed=0)
    right, wrong = Echo(clean.y), Echo(1 - clean.y)
    outcomes = {
        (first is right, then is right): explain(first, clean, 1, attack=attacked, retrained=then).outcome
        for first in (right, wrong)
        for then in (right, wrong)
    }
    assert outcomes == {
        (True, True): "held",
        (True, False): "fooled",
        (False, False): "wrong before and after",
        (False, True): "right after it",
    }


class Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.loads += [value or "" for key, value in attributes if key in ("src", "href")]
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.usefixtures("drawing_library")
def test_it_is_saved_as_a_page_and_pictures_and_shown_in_a_notebook(tmp_path: Path) -> None:
    clean = path()
    found = explain(Echo(clean.y), clean, 1, attack=cg.attack(None, clean, "random", flips=4, seed=0))
    written = found.save(tmp_path / "new")
    assert [file.name for file in written] == ["node-1.html", "node-1.svg", "node-1.png"]
    page, svg, png = written
    assert png.read_bytes().startswith(b"\x89PNG")
    assert svg.read_text().startswith("<svg")
    text, shown = page.read_text(encoding="utf-8"), found._repr_html_()
    parser = Page()
    parser.feed(text)
    assert parser.open == parser.loads == []
    for told in (*re.split(r": (?=fooled|held|wrong|right)", found.verdict), "certified against", "<svg"):
        assert told in text
        assert told in shown
    assert "<script" not in shown


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [400, 1280])
def test_the_page_in_a_browser(browser: Any, tmp_path: Path, width: int, dark: bool) -> None:
    clean = path()
    found = explain(Echo(clean.y), clean, 1, attack=cg.attack(None, clean, "random", flips=4, seed=0))
    (tmp_path / "page.html").write_text(found.page(), encoding="utf-8")
    browser.open(tmp_path / "page.html", width=width, dark=dark)
    assert browser.run("document.documentElement.scrollWidth") <= width
    places = "[...document.querySelectorAll('.panels svg')].map((s) => s.getBoundingClientRect().top)"
    before, after = browser.run(places)
    assert (after > before) == (width == 400)  # under one another on a phone
    paper = "getComputedStyle(document.body).backgroundColor"
    assert browser.run(paper) == ("rgb(20, 23, 26)" if dark else "rgb(255, 255, 255)")
    browser.click("#theme")
    assert browser.run(paper) == ("rgb(255, 255, 255)" if dark else "rgb(20, 23, 26)")
    assert browser.errors == []


class TestWhatIsRefused:
    def test_a_node_that_is_not_there(self) -> None:
        with pytest.raises(ValueError, match="node is 5, and the graph has the nodes 0 to 4"):
            explain(Echo(path().y), path(), 5)
        with pytest.raises(ValueError, match="node must be at least 0"):
            explain(Echo(path().y), path(), -1)

    def test_a_budget_without_a_name(self) -> None:
        with pytest.raises(ValueError, match="a budget is for an attack by name, like attack='prbcd'; got attack=None"):
            explain(Echo(path().y), path(), 1, flips=3)
        attacked = cg.attack(None, path(), "random", flips=1)
        with pytest.raises(ValueError, match=r"a budget is for an attack by name.*got attack=AttackResult"):
            explain(Echo(path().y), path(), 1, attack=attacked, flips=3)
        with pytest.raises(ValueError, match="epochs is for an attack by name"):
            explain(Echo(path().y), path(), 1, epochs=3)

    def test_a_name_without_a_budget(self) -> None:
        with pytest.raises(ValueError, match="a budget is exactly one of flips, fraction"):
            explain(Echo(path().y), path(), 1, attack="random")

    def test_another_graph(self, data: Data) -> None:
        attacked = cg.attack(None, data, "random", flips=1)
        with pytest.raises(ValueError, match="give the graph that was attacked"):
            explain(Echo(path().y), path(), 1, attack=attacked)

    def test_another_kind_of_attack(self) -> None:
        with pytest.raises(TypeError, match="attack must be a name, an AttackResult or None, got Budget"):
            explain(Echo(path().y), path(), 1, attack=Budget(flips=1))  # type: ignore[arg-type]

    def test_a_retrained_model_without_an_attack(self) -> None:
        with pytest.raises(ValueError, match="give an attack too, or leave it out"):
            explain(Echo(path().y), path(), 1, retrained=Echo(path().y))


QUICK = ("--dataset", "csbm", "--model", "gcn", "--set", "training.epochs=3")


def run(*arguments: str | Path) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["explain", *map(str, arguments)], env={"COLUMNS": "200"})
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.usefixtures("drawing_library")
@pytest.mark.parametrize("attack", ["clean", "random:0.2", "prbcd:4flips"])
def test_the_command_writes_a_page_and_pictures(tmp_path: Path, attack: str) -> None:
    code, shown, err = run("--node", "17", *QUICK, "--attack", attack, "--out", tmp_path)
    assert code == 0, err
    assert shown.startswith("Node 17 (class ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["node-17.html", "node-17.png", "node-17.svg"]
    assert (" after " in shown.splitlines()[0]) == (attack != "clean")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--node", "1000"), "--node 1000: csbm has the nodes 0 to 999"),
        (("--node", "-1"), "--node: expected at least 0, got -1"),
        (("--node", "3", "--attack", "prbcd"), "lacks a budget"),
        (("--node", "3", "--attack", "clean,random:0.1"), "expected one attack, got clean, random:0.1@poisoning"),
        (("--node", "3", "--model", "gcn,mlp"), "expected one model, got gcn, mlp"),
        (("--node", "3", "--hops", "0"), "--hops: expected at least 1, got 0"),
    ],
)
def test_mistakes_are_answered_in_one_line(tmp_path: Path, arguments: tuple[str, ...], complaint: str) -> None:
    code, shown, err = run(*QUICK, "--out", tmp_path, *arguments)
    assert (code, shown) == (2, "")
    assert complaint in err
