"""Tools that try to falsify what a dynamics or a field declares: for our own, and for yours."""

from contractive_gnn.testing.claims import Claim, Finding, claims, field_claims
from contractive_gnn.testing.field_suite import FieldSuite
from contractive_gnn.testing.layer_invariants import layer_violations
from contractive_gnn.testing.lipschitz import (
    Gain,
    LipschitzSuite,
    measured_lipschitz,
    raise_gain,
    rounded_measured_lipschitz,
    singular_values,
)
from contractive_gnn.testing.operators import OperatorSuite
from contractive_gnn.testing.steps import sample_jacobians, symplectic_defect, violations, volume_defect
from contractive_gnn.testing.suite import DynamicsSuite
from contractive_gnn.testing.verification import Verdict, verify, verify_field, verify_one

__all__ = [
    "Claim",
    "DynamicsSuite",
    "FieldSuite",
    "Finding",
    "Gain",
    "LipschitzSuite",
    "OperatorSuite",
    "Verdict",
    "claims",
    "field_claims",
    "layer_violations",
    "measured_lipschitz",
    "raise_gain",
    "rounded_measured_lipschitz",
    "sample_jacobians",
    "singular_values",
    "symplectic_defect",
    "verify",
    "verify_field",
    "verify_one",
    "violations",
    "volume_defect",
]
