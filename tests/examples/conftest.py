"""A script of the gallery, run once for each file of tests that asks for it."""

from __future__ import annotations

import os
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[[str], dict[str, Any]]


@pytest.fixture(scope="module")
def run(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The variables of a script at its end. It draws one figure, and leaves no file where it was started."""
    plt = pytest.importorskip("matplotlib.pyplot")

    def run(name: str) -> dict[str, Any]:
        folder, before = tmp_path_factory.mktemp(name), Path.cwd()
        os.chdir(folder)
        plt.close("all")  # what other tests have left open
        try:
            with plt.rc_context():
                found = runpy.run_path(str(repository / "examples" / f"{name}.py"), run_name="__main__")
            assert plt.get_fignums() == [1]
            assert_labelled(plt.gcf())
            assert list(folder.iterdir()) == []
        finally:
            os.chdir(before)
            plt.close("all")
        return found

    return run


def assert_labelled(figure: Any) -> None:
    """Every panel has a title; both of its axes have a name, or there are none."""
    panels = [axes for axes in figure.axes if axes.get_label() != "<colorbar>"]
    assert panels
    for axes in panels:
        assert axes.get_title() or axes.get_title("left")
        if axes.axison:
            assert axes.get_xlabel()
            assert axes.get_ylabel()
