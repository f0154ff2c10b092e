"""The parts of the campaign on CIFAR-10 that are wrong in silence where they are wrong."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn


@pytest.fixture
def scripts(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scripts import each other by their bare names."""
    monkeypatch.syspath_prepend(str(repository / "docs" / "experiments"))
    for name in ("appending", "authors_networks", "cifar10", "cifar10_gpu", "pages", "peer_networks"):
        monkeypatch.delitem(sys.modules, name, raising=False)


@pytest.fixture
def pages(scripts: None) -> ModuleType:
    import pages

    return pages


@pytest.fixture
def peers(scripts: None) -> ModuleType:
    pytest.importorskip("deel.torchlip", reason="deel-torchlip is compared with where it is installed")
    pytest.importorskip("orthogonium", reason="orthogonium is compared with where it is installed")
    import peer_networks

    return peer_networks


def test_a_table_replaces_the_one_before_and_nothing_else(pages: ModuleType, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("above\n<!-- a -->\nold\n<!-- end of a -->\nbelow\n", encoding="utf-8")
    for text in ("first", pages.markdown(["x"], [["1"]])):
        pages.write_between(page, "a", text)
    assert page.read_text("utf-8") == ("above\n<!-- a -->\n\n| x |\n| --- |\n| 1 |\n\n<!-- end of a -->\nbelow\n")
    with pytest.raises(ValueError, match="has no lines '<!-- b -->'"):
        pages.write_between(page, "b", "text")


COMMON = {"in_channels": 3, "num_classes": 4, "size": 16, "channels": (8, 8), "num_layers": 1, "std": 0.5}


@pytest.mark.parametrize(
    ("library", "options"), [("torchlip", {}), ("orthogonium", {}), ("orthogonium", {"block": "sll"})]
)
def test_a_peer_at_rest_answers_as_trained_and_keeps_its_claim(
    peers: ModuleType, library: str, options: dict[str, str]
) -> None:
    build = getattr(peers, library)
    model, _ = peers.of_equal_size(build, 12_000, mean=(0.5, 0.5, 0.5), **COMMON, **options)
    assert abs(peers.parameters(model) - 12_000) <= 360
    x, y = torch.rand(8, 3, 16, 16), torch.arange(8) % 4
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(5):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimiser.step()
    still = peers.settled(model)
    with torch.no_grad():
        model.train()
        for _ in range(50):
            expected = model(x)
        assert torch.allclose(still(x), expected, atol=1e-4)
    # at most what the library says, by bounds of ours that hold for these weights
    assert 0.0 < still.proved(x) <= still.claimed / still.std * (1 + 1e-3)
    moved = (x + 0.1 * torch.randn_like(x)).clamp(0, 1)
    far = (still.body((moved - 0.5) / 0.5) - still.body((x - 0.5) / 0.5)).flatten(1).norm(dim=1)
    assert bool((far <= still.proved(x) * (moved - x).flatten(1).norm(dim=1) * (1 + 1e-4)).all())


def test_weights_that_are_averaged_after_training_count_at_rest(peers: ModuleType) -> None:
    model = peers.torchlip(hidden=16, mean=(0.5, 0.5, 0.5), **COMMON)
    x = torch.rand(2, 3, 16, 16)
    before = peers.settled(model)(x)
    model.eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter))
    assert float((peers.settled(model)(x) - before).abs().max()) > 1e-4


def test_no_width_fits_a_network_that_is_too_large(peers: ModuleType) -> None:
    with pytest.raises(ValueError, match="choose other channels or num_layers"):
        peers.of_equal_size(peers.torchlip, 500, mean=(0.5, 0.5, 0.5), **COMMON)


def test_the_table_says_what_is_not_measured(scripts: None, tmp_path: Path) -> None:
    import cifar10

    judged = {
        "images": 10,
        "clean": 70.0,
        "lipschitz": {"proved": 1.0},
        "certified": {"proved": {f"{epsilon:.4g}": 60.0 for epsilon in cifar10.EPSILONS}},
        "curve": {"proved": {f"{epsilon:.4g}": 50.0 for epsilon in cifar10.CURVE}},
    }
    free = {**judged, "clean": 80.0, "lipschitz": {}, "certified": {}, "curve": {}}
    lines = [
        {"network": name, "parameters": 7, "test": test, "slope": 0.5, "cpu_seconds": 540.0}
        for name, test in (("unconstrained", free), ("nonexpansive", judged))
    ]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    attack, count = cifar10.ATTACKS[0]
    rows = [[0, 1, int(index < 3), None, None, 0.1] for index in range(count)]
    attacked = {
        **{"network": "nonexpansive", "seed": 0, "attack": attack.name, "norm": "l2", "epsilon": attack.epsilon},
        **{"images": count, "robust": 0.3, "columns": ["prediction", "correct", "survived", "lost_to"], "rows": rows},
    }
    cifar10.keep(tmp_path / "attacks-nonexpansive-0.jsonl", {**attacked, "robust": 99.0})
    cifar10.keep(tmp_path / "attacks-nonexpansive-0.jsonl", attacked)  # takes the place of the one before
    inside = {"network": "nonexpansive", "images": 3, "fallen": 0, "at": {"0.1412": 2, "0.5": 1}}
    (tmp_path / "inside.jsonl").write_text(json.dumps(inside) + "\n", encoding="utf-8")
    text = cifar10.table(tmp_path)
    assert "| nonexpansive | 3 | 2 | 0 | 1 | 0 | 0 |" in text
    assert text.startswith("|  | unconstrained | nonexpansive | switching | torchlip | orthogonium |")
    absent = f"{cifar10.ABSENT} | {cifar10.ABSENT} | {cifar10.ABSENT} |"
    for row in (
        f"| parameters | 7 | 7 | {absent}",
        f"| clean | 80.0 | 70.0 | {absent}",
        f"| gap | +0.0 | -10.0 | {absent}",
    ):
        assert row in text
    assert f"| autoattack l2 36/255 | {cifar10.ABSENT} | 0.3 | {absent}" in text
    assert f"| autoattack l2 0.5 | {cifar10.ABSENT} | {cifar10.ABSENT} | {absent}" in text
    assert f"| constant, proved | — | 1.000 | {absent}" in text
    assert "| nonexpansive | proved | 60.0 |" in text
    curves = cifar10.curves(tmp_path)
    assert [(curve.label, curve.kind) for curve in curves] == [
        ("unconstrained", "attacked"),
        ("nonexpansive", "certified"),
        ("nonexpansive", "attacked"),
    ]
    assert curves[-1].values[0][1] == pytest.approx(0.3)
