"""Freed memory that is kept."""

import platform
from pathlib import Path

import pytest
import torch

from contractive_gnn import heap
from contractive_gnn.heap import kept_memory

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator is left as it is")


def resident():
    """Megabytes that the process has."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


def allocate():
    torch.ones(100 << 18)  # 100 MB


def test_freed_memory_stays_inside_and_goes_at_the_end():
    with kept_memory():  # what was freed before goes, too
        allocate()
    before = resident()
    with kept_memory():
        allocate()
        with kept_memory():
            allocate()
        assert resident() > before + 80
    assert resident() < before + 20


def test_nothing_is_changed_where_the_allocator_is_another(monkeypatch):
    monkeypatch.setattr(heap, "_glibc", lambda: None)
    before = resident()
    with kept_memory():
        allocate()
        assert resident() < before + 20
