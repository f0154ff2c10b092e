"""Freed memory that is kept.

Each measurement is made by a process of its own: in one that has worked before, room is left inside the heap, and an
array that is put there stays with the process however the allocator is set.
"""

import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator is left as it is")

BEGIN = """
from pathlib import Path

import torch

from contractive_gnn import heap
from contractive_gnn.heap import kept_memory


def resident():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


def allocate():
    torch.ones(100 << 18)  # 100 MB


allocate()
before = resident()
"""


def megabytes(code):
    """Resident megabytes that the code prints, above those of the process after a large array came and went."""
    run = subprocess.run([sys.executable, "-c", BEGIN + code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return [float(line) for line in run.stdout.split()]


def test_freed_memory_stays_inside_and_goes_at_the_end():
    inside, after = megabytes("""
with kept_memory():
    allocate()
    with kept_memory():
        allocate()
    print(resident() - before)
print(resident() - before)
""")
    assert inside > 80
    assert after < 20


def test_large_arrays_go_back_at_once_after_the_end():
    (after,) = megabytes("""
with kept_memory():
    pass
allocate()
print(resident() - before)
""")
    assert after < 20


def test_nothing_is_changed_where_the_allocator_is_another():
    (inside,) = megabytes("""
heap._glibc = lambda: None
with kept_memory():
    allocate()
    print(resident() - before)
""")
    assert inside < 20
