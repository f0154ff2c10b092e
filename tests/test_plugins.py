"""Plug-ins that fail: what they leave behind, and what is said."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest

from contractive_gnn import plugins
from contractive_gnn.dynamics import DYNAMICS, registry
from contractive_gnn.nn import build
from contractive_gnn.nn.baselines import GCN
from contractive_gnn.plugins import PluginError

FLOW = """
from contractive_gnn.dynamics import Diffusion, register

@register({name!r})
def flow(channels, **options):
    return Diffusion(**options)
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file of the only plug-in; what it registers is forgotten afterwards."""
    path = tmp_path / "mine.py"
    monkeypatch.setenv(plugins.VARIABLE, str(path))
    monkeypatch.setattr(plugins, "_loaded", set(plugins._loaded))
    with patch.dict(DYNAMICS):
        yield path


def test_what_fails_half_way_registers_nothing_and_can_be_mended(plugin: Path) -> None:
    before = list(DYNAMICS)
    plugin.write_text(FLOW.format(name="half-flow") + "raise RuntimeError('on purpose')\n", "utf-8")
    for _ in range(2):
        with pytest.raises(PluginError, match=r"mine\.py cannot be imported: RuntimeError: on purpose"):
            registry.names()
        assert list(DYNAMICS) == before
    plugin.write_text(FLOW.format(name="half-flow"), "utf-8")
    assert registry.names() == [*before, "half-flow"]


def test_a_model_hides_no_plug_in(plugin: Path) -> None:
    plugin.write_text(FLOW.format(name="gcn"), "utf-8")
    with pytest.raises(PluginError, match=r"mine\.py cannot be imported: ValueError: gcn is a model's name"):
        registry.names()
    assert "gcn" not in DYNAMICS
    assert isinstance(build("gcn", 3, 2), GCN)
