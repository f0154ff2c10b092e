"""What a flow may keep, and a scheme with it."""

from __future__ import annotations

from typing import Literal

#: what a scheme or a field can keep
Invariant = Literal["mass", "norm", "volume", "symplectic", "energy"]
"""What a flow may keep: ``Σx``, ``‖x‖₂``, ``det``, ``dq ∧ dp``, H."""
