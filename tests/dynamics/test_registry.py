"""Dynamics by their names."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from contractive_gnn.bench.cli import app
from contractive_gnn.dynamics import registry
from contractive_gnn.testing import verify


def test_select_keeps_the_order_and_takes_all_where_none_is_named() -> None:
    assert registry.select(["implicit-flow", "diffusion"]) == ["implicit-flow", "diffusion"]
    assert registry.select() == registry.select([]) == registry.names()


def test_an_unknown_name_is_told_from_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"no dynamics is called 'difusion'\. Did you mean 'diffusion'"):
        registry.build("difusion", 2)
    complaint = "no dynamics or field is called 'difusion'. Did you mean 'diffusion'"
    with pytest.raises(ValueError, match=complaint):
        next(verify(["diffusion", "difusion"]))
    with pytest.raises(ValueError, match="the dynamics 'diffusion' is given twice; give each once"):
        registry.select(["diffusion", "diffusion"])
    done = CliRunner().invoke(app, ["verify", "diffusion", "difusion"])
    assert done.exit_code == 2
    assert complaint in done.stderr
