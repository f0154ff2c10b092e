"""The experiments on the family run with tiny settings, and write what they say."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest
import torch

pytest.importorskip("matplotlib")

FOLDER = Path(__file__).parents[2] / "docs" / "experiments"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rows(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_transport_writes_a_line_for_each_set_of_points_and_a_film(tmp_path: Path) -> None:
    from PIL import Image

    transport = load("transport")
    transport.main(["--points", "moons", "circles", "--count", "40", "--iterations", "3", "--out", str(tmp_path)])
    lines = rows(tmp_path / "results.jsonl")
    assert [(row["points"], row["coordinates"]) for row in lines] == [("moons", 2), ("circles", 2), ("circles", 3)]
    assert all(0 < row["largest_h_lipschitz"] < 1 and row["there_and_back"] < 1e-9 for row in lines)  # type: ignore[operator]
    with Image.open(tmp_path / "moons.gif") as film:
        assert film.n_frames == 49
        assert (tmp_path / "moons.gif").stat().st_size < 3e6


def test_a_step_that_is_too_long_is_not_invertible() -> None:
    """Beyond ``h · Lip = 1`` nothing is promised: the check of the script sees it."""
    transport = load("transport")
    torch.manual_seed(0)
    net = transport.Transport(layers=2)
    assert transport.largest_step(net) < 1
    net.flows[0].step *= 2
    assert transport.largest_step(net) > 1


def test_the_plane_cannot_be_rid_of_the_ring_and_space_can() -> None:
    transport = load("transport")
    torch.manual_seed(0)
    wrong = {}
    for lift in (0, 1):
        net = transport.Transport(lift=lift, layers=4)
        transport.train(net, *transport.circles(300, 0), iterations=120)
        wrong[lift] = 100 - transport.accuracy(net, *transport.closed_curves())
    assert wrong[0] > 0
    assert wrong[1] == 0


def test_digits_writes_curves_and_a_plot(tmp_path: Path) -> None:
    digits = load("nonexpansive_digits")
    digits.main(
        [
            *("--seeds", "1", "--epochs", "1", "--epsilons", "0.2", "--num-steps", "2", "--restarts", "1"),
            *("--out", str(tmp_path / "lines.jsonl"), "--plot", str(tmp_path / "plot.png")),
        ]
    )
    free, tame = rows(tmp_path / "lines.jsonl")
    assert free["model"] == "unconstrained"
    assert free["parameters"] == tame["parameters"]
    assert tame["lipschitz"] <= 1 + 1e-5 < free["lipschitz"]  # type: ignore[operator]
    assert all(tame["certified"][epsilon] <= tame["attacked"][epsilon] for epsilon in tame["attacked"])  # type: ignore[index, attr-defined]
    assert (tmp_path / "plot.png").stat().st_size > 5_000


def test_the_constant_of_the_non_expansive_net_holds() -> None:
    digits = load("nonexpansive_digits")
    torch.manual_seed(0)
    x, y, test, labels = digits.digits(0)
    net = digits.Classifier(nonexpansive=True, blocks=1, channels=4, width=4)
    digits.train(net, x[:256], y[:256], epochs=2, temperature=0.2)
    net = net.double()
    test = test[:50].double()
    delta = torch.randn(test.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    change = (net(test + delta) - net(test)).detach().norm(dim=1) / delta.flatten(1).norm(dim=1)
    assert float(change.max()) <= net.lipschitz() <= 1 + 1e-5
    assert float(change.max()) > 0.1
    assert digits.radii(net, test, labels[:50]).max() < 2


def test_approximation_splits_a_field_and_draws_the_swirl(tmp_path: Path) -> None:
    approximation = load("approximation_pictures")
    approximation.main(["--adam-steps", "5", "--lbfgs-steps", "5", "--out", str(tmp_path)])
    assert (tmp_path / "halves.png").stat().st_size > 20_000
    assert (tmp_path / "swirl.png").stat().st_size > 20_000
    assert approximation.draw_halves(tmp_path / "again.png") < 1e-12
