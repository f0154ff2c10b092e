"""Curves of accuracy: the numbers, the table and the picture."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from contractive_gnn.certificates import Curve, certified_accuracy, picture, table


@given(
    radii=st.lists(st.floats(0, 3), min_size=1, max_size=30),
    epsilons=st.lists(st.floats(0, 3), min_size=1, max_size=8),
    seed=st.integers(0, 100),
)
def test_certified_accuracy_counts(radii: list[float], epsilons: list[float], seed: int) -> None:
    correct = torch.rand(len(radii), generator=torch.Generator().manual_seed(seed)) < 0.7
    given_radii = torch.tensor(radii, dtype=torch.float64)
    found = certified_accuracy(given_radii, correct, sorted(epsilons))
    for epsilon, value in zip(sorted(epsilons), found, strict=True):
        count = sum(r >= epsilon and r > 0 and bool(right) for r, right in zip(radii, correct, strict=True))
        assert value == pytest.approx(100 * count / len(radii))
    assert list(found) == sorted(found, reverse=True)


def test_the_edge_belongs_to_it_and_a_tie_does_not() -> None:
    radii = torch.tensor([0.5, 0.0])
    assert certified_accuracy(radii, torch.tensor([True, True]), [0.0, 0.5, 0.5000001]) == (50.0, 50.0, 0.0)


def test_what_is_no_curve_is_refused() -> None:
    right = torch.tensor([True])
    with pytest.raises(ValueError, match="radii must be at least 0"):
        certified_accuracy(torch.tensor([-1.0]), right, [0.1])
    with pytest.raises(ValueError, match="radii must be at least 0"):
        certified_accuracy(torch.tensor([torch.nan]), right, [0.1])
    with pytest.raises(ValueError, match=r"one shape \[n\], n ≥ 1, got \[2\] and torch.bool \[1\]"):
        certified_accuracy(torch.ones(2), right, [0.1])
    with pytest.raises(ValueError, match=r"torch\.float32 \[1\]"):
        certified_accuracy(torch.ones(1), torch.ones(1), [0.1])
    with pytest.raises(ValueError, match="epsilons must be finite"):
        certified_accuracy(torch.ones(1), right, [-0.1])
    with pytest.raises(ValueError, match="must rise"):
        Curve("a", "certified", (0.2, 0.1), ((1.0, 2.0),))
    with pytest.raises(ValueError, match=r"2 values for each seed, got \[1\]"):
        Curve("a", "certified", (0.1, 0.2), ((1.0,),))
    with pytest.raises(ValueError, match="percentages"):
        Curve("a", "certified", (0.1,), ((100.1,),))
    with pytest.raises(ValueError, match="kind must be"):
        Curve("a", "measured", (0.1,), ((1.0,),))  # type: ignore[arg-type]


def test_the_table_has_means_deviations_and_gaps() -> None:
    one = Curve("one", "attacked", (0.0, 0.1), ((80.0, 60.0),))
    two = Curve("two", "certified", (0.0, 36 / 255), ((70.0, 50.0), (72.0, 54.0)))
    assert table([one, two], [0.0, 0.1, 36 / 255], names=["0", "0.1", "36/255"]) == (
        "| network | accuracy (%) | ε = 0 | ε = 0.1 | ε = 36/255 |\n"
        "| --- | --- | ---: | ---: | ---: |\n"
        "| one | attacked | 80.0 | 60.0 | — |\n"
        "| two | certified | 71.0 ± 1.4 | — | 52.0 ± 2.8 |\n"
    )
    with pytest.raises(ValueError, match="a name for each of 2 ε, got 1"):
        table([one], [0.0, 0.1], names=["0"])
    with pytest.raises(ValueError, match="must not hold"):
        table([Curve("a|b", "attacked", (0.0,), ((1.0,),))], [0.0])


def test_the_picture_shows_every_curve(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    many = [Curve(f"net {index}", "attacked", (0.0, 1.0), ((90.0, 10.0 * index),)) for index in range(9)]
    seeds = Curve("net 1", "certified", (0.0, 0.5, 1.0), ((90.0, 60.0, 20.0), (92.0, 64.0, 30.0)))
    figure = picture([*many, seeds], title="Digits", out=tmp_path / "pictures" / "curves.png")
    (axes,) = figure.axes
    assert [handle.get_label() for handle in axes.get_lines()] == [
        *(f"net {index}, attacked" for index in range(9)),
        "net 1, certified",
    ]
    styles = [(one.get_color(), one.get_marker(), one.get_linestyle()) for one in axes.get_lines()]
    assert len(set(styles)) == 10
    assert styles[9][0] == styles[1][0]  # one network, one colour
    assert styles[9][2] == "--"
    assert list(axes.get_lines()[9].get_ydata()) == [91.0, 62.0, 25.0]
    assert axes.get_xlabel() == "ε, ℓ2 distance between images with pixels in [0, 1]"
    assert (tmp_path / "pictures" / "curves.png").stat().st_size > 10_000
    with pytest.raises(ValueError, match="at least one curve"):
        picture([])


def test_a_picture_is_drawn_into_axes_that_are_given(tmp_path: Path) -> None:
    matplotlib = pytest.importorskip("matplotlib.figure")
    whole = matplotlib.Figure()
    for axes in (whole.add_subplot(1, 2, 1), whole.subfigures(1, 2)[1].subplots()):
        assert picture([Curve("a", "attacked", (0.0, 1.0), ((9.0, 1.0),))], axes=axes, out=tmp_path / "a.svg") is whole
        (line,) = axes.get_lines()
        assert line.get_label() == "a, attacked"
        assert axes.get_legend() is not None
    assert (tmp_path / "a.svg").stat().st_size > 1_000


@pytest.mark.parametrize("epsilons", [(0.0, float("nan")), (0.0, float("inf")), (-0.1, 0.1)])
def test_a_curve_of_distances_that_are_none_is_refused(epsilons: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="the ε of 'a' must be"):
        Curve("a", "attacked", epsilons, ((2.0, 1.0),))


def test_values_without_seeds_are_refused_in_words() -> None:
    with pytest.raises(TypeError, match="must be a tuple for each seed, got"):
        Curve("a", "attacked", (0.0, 0.1), (2.0, 1.0))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["curves", "curves.jsonl", ".png"])
def test_a_picture_of_another_kind_is_refused_in_words(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"out must end in \.png, \.svg or \.pdf, got"):
        picture([Curve("a", "attacked", (0.0,), ((1.0,),))], out=tmp_path / name)
    assert list(tmp_path.iterdir()) == []
