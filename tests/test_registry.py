"""The registry: names, errors, and what fails together."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from contractive_gnn.activations import ACTIVATIONS
from contractive_gnn.attacks import ATTACKS
from contractive_gnn.datasets import DATASETS
from contractive_gnn.dynamics import DYNAMICS
from contractive_gnn.names import UnknownNameError
from contractive_gnn.nn import MODELS
from contractive_gnn.registry import Registry, registered, temporary, transaction


@pytest.fixture
def shapes() -> Iterator[Registry[Callable[[], str]]]:
    """A registry with two names, forgotten afterwards."""
    shapes: Registry[Callable[[], str]] = Registry("shape")
    shapes.register("circle")(lambda: "round")
    shapes.register("unit-square")(lambda: "square")
    yield shapes
    Registry.every.remove(shapes)


def test_it_is_a_mapping_in_the_order_of_registration(shapes: Registry[Callable[[], str]]) -> None:
    assert shapes.names() == list(shapes) == list(shapes.keys()) == ["circle", "unit-square"]
    assert shapes["circle"]() == shapes.get("circle")() == "round"
    assert "circle" in shapes
    assert "triangle" not in shapes
    assert [] not in shapes  # nor is what cannot be a key an error
    assert len(shapes) == len(dict(shapes)) == 2
    assert repr(shapes) == "<registry of 2, each a shape: circle, unit-square>"


def test_the_decorator_hands_on_what_it_registers(shapes: Registry[Callable[[], str]]) -> None:
    @shapes.register("line")
    def line() -> str:
        return "straight"

    assert line is shapes["line"]


@pytest.mark.parametrize("look_up", [Registry.get, Registry.__getitem__])
@pytest.mark.parametrize("error", [ValueError, KeyError, UnknownNameError])
def test_an_unknown_name_is_told_from_the_closest(
    shapes: Registry[Callable[[], str]], look_up: Callable[..., object], error: type[Exception]
) -> None:
    with pytest.raises(error) as told:
        look_up(shapes, "cirle")
    assert str(told.value) == "no shape is called 'cirle'. Did you mean 'circle'? There are: circle, unit-square"


def test_a_default_is_taken_for_an_unknown_name_alone(shapes: Registry[Callable[[], str]]) -> None:
    assert shapes.get("cirle", None) is None
    assert shapes.get("circle", None) is shapes["circle"]


@pytest.mark.parametrize("name", ["", "Circle", "two words", "-circle", "circle_line", "a--b", 3, None])
def test_a_name_of_another_form_is_refused(shapes: Registry[Callable[[], str]], name: object) -> None:
    with pytest.raises(ValueError, match=r"lower-case words joined by hyphens, like 'gradient-flow', got "):
        shapes.register(name)  # type: ignore[arg-type]


def test_other_code_does_not_take_a_name(shapes: Registry[Callable[[], str]]) -> None:
    before = shapes["circle"]
    with pytest.raises(ValueError, match=r"the shape 'circle' is registered already, by .*; choose another name"):
        shapes.register("circle")(lambda: "angular")
    assert shapes["circle"] is before
    shapes.register("circle")(before)


def test_it_gives_way_to_the_registry_that_hides_it(shapes: Registry[Callable[[], str]]) -> None:
    fonts: Registry[str] = Registry("font")
    try:
        fonts.give_way_to(shapes)
        with pytest.raises(ValueError, match="circle is a shape's name, which hides the font; register another name"):
            fonts.register("circle")("serif")
        fonts.register("triangle")("sans")
        shapes.register("triangle")(lambda: "angular")
        fonts.register("triangle")("sans")  # it was there first
        assert fonts.names() == ["triangle"]
    finally:
        Registry.every.remove(fonts)


def test_a_transaction_covers_every_registry(shapes: Registry[Callable[[], str]]) -> None:
    before = registered()

    def register_everywhere(then: type[BaseException] | None = None) -> None:
        with transaction():
            for number, registry in enumerate([shapes, ACTIVATIONS, ATTACKS, DATASETS, DYNAMICS, MODELS]):
                registry.register(f"new-{number}")(lambda: "new")  # type: ignore[attr-defined]
            assert len(registered()) == len(before) + 6
            if then is not None:
                raise then

    for error in (RuntimeError, KeyboardInterrupt):
        with pytest.raises(error):
            register_everywhere(error)
        assert registered() == before
    with temporary():
        register_everywhere()
        assert len(registered()) == len(before) + 6
    assert registered() == before


def test_our_own_are_there() -> None:
    kinds = {kind for kind, _ in registered()}
    assert {"dynamics", "model", "attack", "dataset", "activation"} <= kinds
