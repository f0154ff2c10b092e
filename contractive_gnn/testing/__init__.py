"""Tools that try to falsify what a dynamics declares: for our own, and for yours."""

from contractive_gnn.testing.claims import Claim, Finding, claims
from contractive_gnn.testing.operators import OperatorSuite
from contractive_gnn.testing.suite import DynamicsSuite
from contractive_gnn.testing.verification import Verdict, verify, verify_one

__all__ = ["Claim", "DynamicsSuite", "Finding", "OperatorSuite", "Verdict", "claims", "verify", "verify_one"]
