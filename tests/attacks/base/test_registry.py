from __future__ import annotations

import pytest
from torch import Tensor, nn
from torch_geometric.data import Data

from contractive_gnn import attacks
from contractive_gnn.attacks import ATTACKS, Attack, Perturbation
from contractive_gnn.attacks.base import register


class Nothing(Attack):
    """Flips nothing."""

    name, kind, scope, knowledge = "nothing", "structure", "global", "random"

    def _perturb(self, data: Data, n_flips: int, *, victim: nn.Module | None, targets: Tensor | None) -> Perturbation:
        return Perturbation()


def test_the_registry_helps() -> None:
    with pytest.raises(ValueError, match=r"no attack is called 'nettak'\. Did you mean 'nettack'\? There are: .*dice"):
        attacks.get("nettak")
    with pytest.raises(TypeError, match="attack 'pgd' takes no steps; it takes: epochs, loss, seed"):
        attacks.get("pgd", steps=3)
    attack = attacks.get("pgd", epochs=3, seed=5)
    assert attack.params == {"epochs": 3, "loss": "CE"}
    assert attack.seed == 5


def test_registration_checks_what_an_attack_says_of_itself() -> None:
    with pytest.raises(TypeError, match="knowledge is one of"):
        register(type("Unsure", (Nothing,), {"name": "unsure", "knowledge": "guess"}))
    with pytest.raises(ValueError, match=r"the attack 'dice' is registered already, by .*DICE"):
        register(type("Double", (Nothing,), {"name": "dice"}))
    assert "unsure" not in ATTACKS
    assert ATTACKS["dice"].__name__ == "DICE"
