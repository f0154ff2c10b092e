"""Fields of any domain: the falsifier holds what is true of them, and finds every claim that is broken on purpose."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from contractive_gnn.dynamics import VectorField, register_field
from contractive_gnn.integrators import Invariant
from contractive_gnn.norms import LInf, Norm, number
from contractive_gnn.registry import temporary
from contractive_gnn.testing import FieldSuite, Verdict, verify, verify_field
from contractive_gnn.testing.verification import select


class Pull(VectorField):
    """``−k tanh(x) − m (x − x⁰)`` on states ``[…, 3]``, with 0 ≤ k ≤ 1 learned: κ = m, in the max norm."""

    norm: Norm = LInf

    def __init__(self, m: float = 0.5, anchor: Tensor | None = None) -> None:
        super().__init__()
        self.raw, self.m = nn.Parameter(torch.zeros(())), m
        self.register_buffer("anchor", anchor, persistent=False)

    @property
    def k(self) -> Tensor:
        return self.raw.sigmoid()

    def forward(self, x: Tensor, t: Tensor | float = 0.0) -> Tensor:
        return -self.k * x.tanh() - self.m * (x if self.anchor is None else x - self.anchor)

    def rate(self) -> float:
        return self.m

    def max_step(self) -> Tensor:
        return 2 / (self.k + 2 * self.m)

    def lipschitz(self, step: Tensor | float) -> float:
        return max(1 - number(step) * self.m, number(step) * (number(self.k) + self.m) - 1)

    def field_lipschitz(self) -> Tensor:
        return self.k + self.m

    @property
    def anchor_lipschitz(self) -> float:
        return self.m

    def anchored(self, anchor: Tensor) -> Pull:
        made = type(self)(self.m, anchor)
        made.raw = self.raw
        return made

    def state(self, *, generator: torch.Generator | None = None) -> Tensor:
        return torch.randn(3, dtype=torch.float64, generator=generator)


class Linear(VectorField):
    """``x ↦ Mx`` with what M keeps; nothing pulls it anywhere."""

    def __init__(self, matrix: list[list[float]], *conserves: Invariant, shear: bool = False) -> None:
        super().__init__()
        self.register_buffer("matrix", torch.tensor(matrix))
        self.conserves, self.shear = frozenset(conserves), shear

    matrix: Tensor

    def forward(self, x: Tensor, t: Tensor | float = 0.0) -> Tensor:
        return x @ self.matrix.T.to(x.dtype)

    def rate(self) -> float:
        symmetric = (self.matrix + self.matrix.T) / 2
        return -float(torch.linalg.eigvalsh(symmetric.double())[-1]) - 1e-12

    def lipschitz(self, step: Tensor | float) -> float:
        one = torch.eye(len(self.matrix), dtype=torch.float64)
        return float(torch.linalg.matrix_norm(one + number(step) * self.matrix.double(), 2)) * (1 + 1e-12)

    def state(self, *, generator: torch.Generator | None = None) -> Tensor:
        return torch.randn(len(self.matrix), dtype=torch.float64, generator=generator)


TURN = [[0.0, 1.0], [-1.0, 0.0]]
EXCHANGE = [[-1.0, 0.5], [1.0, -0.5]]
PUSH = [[0.0, 1.0], [0.0, 0.0]]
KEPT: dict[str, tuple[list[list[float]], tuple[Invariant, ...], bool]] = {
    "turn": (TURN, ("norm", "volume"), False),
    "symplectic": (TURN, ("symplectic",), False),
    "exchange": (EXCHANGE, ("mass",), False),
    "push": (PUSH, ("volume",), True),
}


class TestPull(FieldSuite):
    sharp = True

    def make(self) -> Pull:
        return Pull()


@pytest.mark.parametrize("name", KEPT)
class TestLinear(FieldSuite):
    name: str

    @pytest.fixture(autouse=True)
    def _named(self, name: str) -> None:
        self.name = name

    def make(self) -> Linear:
        matrix, kept, shear = KEPT[self.name]
        return Linear(matrix, *kept, shear=shear)


def kinds(verdict: Verdict) -> set[str]:
    return {claim.kind for claim, _ in verdict.findings}


def test_all_that_a_field_declares_is_tried() -> None:
    assert kinds(verify_field("pull", Pull, tries=100)) == {"step", "rate", "field", "anchor"}
    assert kinds(verify_field("turn", lambda: Linear(TURN, "norm"), tries=100)) == {"step", "rate", "conserved", "kept"}


WRONG: dict[str, tuple[str, str, Any]] = {
    "rate": ("rate", "rate", lambda self: 1.3 * self.m),
    "largest step": ("step", "max_step", lambda self: 1.2 * 2 / (self.k + 2 * self.m)),
    "constant of a long step": ("step", "lipschitz", lambda self, step: max(0.0, 1 - number(step) * self.m)),
    "constant of the field": ("field", "field_lipschitz", lambda self: 0.8 * (self.k + self.m)),
    "constant in the anchor": ("anchor", "anchor_lipschitz", property(lambda self: 0.8 * self.m)),
    "a rate that is no number": ("rate", "rate", lambda self: math.nan),
}


@pytest.mark.parametrize("fault", WRONG)
def test_a_wrong_constant_is_found(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kind, method, wrong = WRONG[fault]
    assert verify_field("pull", Pull, tries=600).word == "holds"
    monkeypatch.setattr(Pull, method, wrong)
    verdict = verify_field("pull", Pull, tries=600)
    assert verdict.word == "BROKEN"
    assert kind in {claim.kind for claim, _ in verdict.broken}


def bent(matrix: list[list[float]], row: int, column: int) -> list[list[float]]:
    made = copy.deepcopy(matrix)
    made[row][column] += 1e-3
    return made


@pytest.mark.parametrize(
    ("matrix", "kept", "shear"),
    [
        (bent(TURN, 0, 1), ("norm",), False),
        (bent(TURN, 0, 0), ("volume",), False),
        (bent(TURN, 1, 1), ("symplectic",), False),
        (bent(EXCHANGE, 0, 1), ("mass",), False),
        (bent(PUSH, 1, 1), (), True),
        (TURN, ("mass",), False),
        (TURN, (), True),
        (EXCHANGE, ("norm",), False),
        (EXCHANGE, ("volume",), False),
    ],
)
def test_what_is_not_kept_is_found(matrix: list[list[float]], kept: tuple[Invariant, ...], shear: bool) -> None:
    verdict = verify_field("linear", lambda: Linear(matrix, *kept, shear=shear), tries=200)
    assert verdict.word == "BROKEN"
    assert verdict.broken[0][0].kind == "conserved"
    record = next(row for row in verdict.records() if row["broken"])
    x, y = torch.tensor(record["x"]), torch.tensor(record["y"])
    torch.testing.assert_close(y, x @ torch.tensor(matrix, dtype=x.dtype).T, rtol=1e-5, atol=1e-6)


class Saturated(Linear):
    """Keeps the volume near the origin only."""

    def forward(self, x: Tensor, t: Tensor | float = 0.0) -> Tensor:
        far = (x.abs() - 4).clamp(min=0)
        return super().forward(x, t) - 0.1 * far


def test_what_is_kept_near_the_start_alone_is_found() -> None:
    assert verify_field("saturated", lambda: Saturated(TURN, "volume"), tries=400).word == "BROKEN"


class Late(Pull):
    """Expands at late times."""

    def forward(self, x: Tensor, t: Tensor | float = 0.0) -> Tensor:
        return super().forward(x, t) + (t > 0.3) * 2 * x


def test_a_claim_holds_at_every_time() -> None:
    assert verify_field("late", Late, tries=600).word == "BROKEN"


def test_a_field_that_is_not_certified_is_refuted() -> None:
    class Guess(Pull):
        @property
        def certified(self) -> bool:
            return False

        def rate(self) -> float:
            return 2 * self.m

    assert verify_field("guess", Guess, tries=300).word == "refuted"


def test_fields_and_dynamics_are_verified_by_name() -> None:
    with temporary():
        register_field("pull-of-a-test")(Pull)
        assert select(["pull-of-a-test", "diffusion"]) == ["pull-of-a-test", "diffusion"]
        assert "pull-of-a-test" in select()
        found = list(verify(["pull-of-a-test", "diffusion"], tries=60))
        assert [(verdict.name, verdict.norm, verdict.word) for verdict in found] == [
            ("pull-of-a-test", "linf", "holds"),
            ("diffusion", "linf", "holds"),
        ]
        with pytest.raises(ValueError, match="diffusion is a dynamics's name, which hides the field"):
            register_field("diffusion")(Pull)
    with pytest.raises(ValueError, match=r"no dynamics or field is called 'difusion'\. Did you mean 'diffusion'"):
        select(["difusion"])
    with pytest.raises(ValueError, match="'diffusion' is given twice"):
        select(["diffusion", "diffusion"])


class Mute(VectorField):
    def forward(self, x: Tensor, t: Tensor | float = 0.0) -> Tensor:
        return -x


def test_what_cannot_be_tried_says_so() -> None:
    with pytest.raises(NotImplementedError, match=r"Mute must define state\(\)"):
        verify_field("mute", Mute)

    class Silent(Mute):
        def state(self, *, generator: torch.Generator | None = None) -> Tensor:
            return torch.zeros(2, dtype=torch.float64)

    with pytest.raises(ValueError, match="silent declares nothing that can be tried"):
        verify_field("silent", Silent)


class Broken(Pull):
    """A field with every fault that a test of the suite is there to find."""

    def __init__(self, fault: str, m: float = 0.5, anchor: Tensor | None = None) -> None:
        super().__init__(m, anchor)
        self.fault = fault
        if fault == "unused parameter":
            self.unused = nn.Parameter(torch.ones(()))

    def anchored(self, anchor: Tensor) -> Broken:
        if self.fault == "anchors itself":
            self.anchor = anchor
            return self
        made = Broken(self.fault, self.m, anchor)
        made.raw = nn.Parameter(self.raw.detach()) if self.fault == "copies" else self.raw
        return made

    def forward(self, x: Tensor, t: Tensor | float = 0.0) -> Tensor:
        out = super().forward(x, t)
        if self.fault == "shape":
            return out[..., :1]
        if self.fault == "dtype":
            return out.double() if x.dtype == torch.float32 else out.float()
        if self.fault == "gradient":
            return out + 0.1 * x.detach()
        if self.fault == "graph break":
            return -out if x.sum() > 1e9 else out
        if self.fault == "batch":
            return out - 0.1 * x.flatten()[0]
        return out

    def lipschitz(self, step: Tensor | float) -> float:
        return super().lipschitz(step) * (0.05 if self.fault == "layer" else 1.0)

    @property
    def anchor_lipschitz(self) -> float:
        return 0.05 * self.m if self.fault == "layer" else self.m

    def max_step(self) -> Tensor:
        return super().max_step() * (0.8 if self.fault == "loose" else 1.0)

    def rate(self) -> float:
        return 1.2 * self.m if self.fault == "rate" else self.m

    def parts(self) -> tuple[VectorField, ...]:
        return (self, self) if self.fault == "parts" else (self,)


FAULTS = {
    "shape": "test_shape_dtype_and_device",
    "dtype": "test_shape_dtype_and_device",
    "gradient": "test_gradient",
    "unused parameter": "test_gradient",
    "graph break": "test_compile",
    "anchors itself": "test_anchor",
    "copies": "test_anchor",
    "batch": "test_leading_axes",
    "parts": "test_parts",
    "rate": "test_claims",
    "layer": "test_layer",
    "loose": "test_a_step_beyond_the_edge_expands",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_suite_finds(fault: str) -> None:
    suite = FieldSuite()
    suite.sharp = True
    suite.make = lambda: Broken("none")  # type: ignore[method-assign]
    getattr(suite, FAULTS[fault])()
    suite.make = lambda: Broken(fault)  # type: ignore[method-assign]
    with pytest.raises(Exception):  # noqa: B017, PT011  (whatever it is: the suite must not pass)
        getattr(suite, FAULTS[fault])()
