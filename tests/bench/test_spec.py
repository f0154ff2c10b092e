from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contractive_gnn.attacks import ATTACKS, Budget
from contractive_gnn.bench.spec import AttackSpec, SpecError, attack_names, parse_attack, parse_attacks

fractions = st.integers(1, 10**6).map(lambda n: n / 10**6)
counts = st.integers(1, 10**9)
threats = st.sampled_from(["evasion", "poisoning"])
# digits has no published graphs, so that every name means a live attack there
global_names = st.sampled_from(
    [n for n, a in ATTACKS.items() if a.scope == "global" and a.kind in ("structure", "features")]
)
injections = st.sampled_from([n for n, a in ATTACKS.items() if a.kind == "injection"])
deletions = st.sampled_from([n for n, a in ATTACKS.items() if a.kind == "deletion"])
targeted_names = st.sampled_from([n for n, a in ATTACKS.items() if a.scope == "targeted"])


@given(name=global_names, fraction=fractions, threat=threats)
def test_a_fraction_is_written_and_read_back(name: str, fraction: float, threat: str) -> None:
    spec = AttackSpec(name, Budget(fraction=fraction), threat, "generated" if name == "random" else "live")  # type: ignore[arg-type]
    assert parse_attack(str(spec), dataset="digits") == spec


@given(name=global_names, flips=counts, threat=threats)
def test_a_number_of_flips_is_written_and_read_back(name: str, flips: int, threat: str) -> None:
    spec = parse_attack(f"{name}:{flips}flips@{threat}", dataset="digits")
    assert (spec.budget, spec.threat) == (Budget(flips=flips), threat)
    assert parse_attack(str(spec), dataset="digits") == spec


@given(name=injections, nodes=counts, edges=counts, threat=threats)
def test_new_nodes_and_their_edges_are_written_and_read_back(name: str, nodes: int, edges: int, threat: str) -> None:
    spec = parse_attack(f"{name}:{nodes}x{edges}@{threat}", dataset="digits")
    assert (spec.budget, spec.threat) == (Budget(nodes=nodes, edges=edges), threat)
    assert parse_attack(str(spec), dataset="digits") == spec


@given(name=deletions, nodes=counts, fraction=fractions)
def test_deleted_nodes_are_written_and_read_back(name: str, nodes: int, fraction: float) -> None:
    for budget, text in ((Budget(nodes=nodes), f"{nodes}nodes"), (Budget(fraction=fraction), f"{fraction:f}")):
        spec = parse_attack(f"{name}:{text}", dataset="digits")
        assert (spec.budget, spec.threat) == (budget, "evasion")
        assert parse_attack(str(spec), dataset="digits") == spec


@given(name=targeted_names, flips=counts, threat=threats)
def test_a_number_per_target_is_written_and_read_back(name: str, flips: int, threat: str) -> None:
    spec = parse_attack(f"{name}:{flips}@{threat}", dataset="digits")
    assert (spec.budget, spec.threat) == (Budget(flips=flips), threat)
    assert parse_attack(str(spec), dataset="digits") == spec


@given(st.text(max_size=30))
def test_any_text_is_a_specification_or_an_error_that_quotes_it(text: str) -> None:
    complaint = ""
    try:
        spec = parse_attack(text, dataset="cora")
    except SpecError as error:
        complaint = str(error)
    if complaint:
        assert repr(text.strip()) in complaint
    else:
        assert str(spec).partition(":")[0] == text.strip().partition(":")[0].partition("@")[0]


@given(
    names=st.lists(global_names, min_size=2, max_size=3, unique=True), amounts=st.tuples(fractions, fractions, counts)
)
def test_several_in_a_row_are_written_and_read_back(names: list[str], amounts: tuple[float, float, int]) -> None:
    budgets = [Budget(fraction=amounts[0]), Budget(fraction=amounts[1]), Budget(flips=amounts[2])]
    steps = [
        AttackSpec(name, budget, "poisoning", "generated" if name == "random" else "live")
        for name, budget in zip(names, budgets, strict=False)
    ]
    spec = replace(steps[0], then=tuple(steps[1:]))
    assert spec.steps == tuple(steps)
    assert parse_attack(str(spec), dataset="digits") == spec
    assert str(spec) == "+".join(str(step).partition("@")[0] for step in steps) + "@poisoning"


def test_one_and_one_point_zero_are_different_budgets() -> None:
    assert parse_attack("random:1.0", dataset="cora").budget == Budget(fraction=1.0)
    assert parse_attack("random:1flips", dataset="cora").budget == Budget(flips=1)
    with pytest.raises(SpecError, match="decimal point"):
        parse_attack("random:1", dataset="cora")
    with pytest.raises(SpecError, match=r"an integer number of flips per target, one of 1, 2.*nettack-live"):
        parse_attack("nettack:1.0", dataset="cora")  # published graphs
    assert parse_attack("nettack-live:1.0", dataset="cora").budget == Budget(degree=1.0)
    assert parse_attack("nettack-live:1", dataset="cora").budget == Budget(flips=1)
    with pytest.raises(SpecError, match="whole number of flips per target, like nettack-features:5"):
        parse_attack("nettack-features:1.0", dataset="cora")


@pytest.mark.parametrize(
    ("text", "dataset", "threat", "source", "amount", "unit"),
    [
        ("clean", "cora", "evasion", "generated", 0, "none"),
        ("metattack:0.05", "cora", "poisoning", "published", 0.05, "fraction of edges"),
        ("metattack:0.05@evasion", "cora", "evasion", "published", 0.05, "fraction of edges"),
        ("metattack:0.07", "digits", "poisoning", "live", 0.07, "fraction of edges"),
        ("metattack-live:0.07", "cora", "poisoning", "live", 0.07, "fraction of edges"),
        ("nettack:5", "cora", "poisoning", "published", 5, "edges per target"),
        ("nettack:7", "digits", "poisoning", "live", 7, "edges per target"),
        ("nettack-live:7", "cora", "poisoning", "live", 7, "edges per target"),
        ("nettack-live:0.5", "cora", "poisoning", "live", 0.5, "fraction of each target's degree"),
        ("local-pgd:0.5", "cora", "evasion", "live", 0.5, "fraction of each target's degree"),
        ("local-pgd:3", "cora", "evasion", "live", 3, "edges per target"),
        ("lrbcd:0.05", "cora", "evasion", "live", 0.05, "fraction of edges"),
        ("eva:0.05", "cora", "evasion", "live", 0.05, "fraction of edges"),
        ("nettack-features:7", "cora", "evasion", "live", 7, "feature entries per target"),
        ("random:1.0", "cora", "poisoning", "generated", 1.0, "fraction of edges"),
        ("dice:9flips", "cora", "poisoning", "live", 9, "edges"),
        ("pgd:0.1", "cora", "evasion", "live", 0.1, "fraction of edges"),
        ("minmax:0.1", "cora", "evasion", "live", 0.1, "fraction of edges"),
        (" pgd:0.1@poisoning ", "cora", "poisoning", "live", 0.1, "fraction of edges"),
        ("tdgia:60x20", "cora", "evasion", "live", 60, "new nodes, 20 edges each"),
        ("tdgia", "cora", "evasion", "live", 60, "new nodes, 20 edges each"),
        ("agia", "citeseer", "evasion", "live", 90, "new nodes, 10 edges each"),
        ("pgd-injection@poisoning", "pubmed", "poisoning", "live", 200, "new nodes, 100 edges each"),
        ("random-injection:60x20", "cora", "evasion", "live", 60, "new nodes, 20 edges each"),
        ("random-injection:60x20@poisoning", "cora", "poisoning", "live", 60, "new nodes, 20 edges each"),
        ("degree-deletion:30nodes", "cora", "evasion", "live", 30, "nodes"),
        ("degree-deletion:0.05", "cora", "evasion", "live", 0.05, "fraction of nodes"),
        ("random-injection:3x4+whitebox-pgd:0.1", "cora", "evasion", "live", 3, "new nodes, 4 edges each"),
        ("metattack:0.25+flip-features:0.1", "cora", "poisoning", "published", 0.25, "fraction of edges"),
        ("nettack:5+gaussian-features:9flips", "cora", "poisoning", "published", 5, "edges per target"),
        ("pgd:0.1 + dice:0.2+random:0.3", "cora", "evasion", "live", 0.1, "fraction of edges"),
        ("random:0.5+whitebox-pgd:0.1", "cora", "evasion", "generated", 0.5, "fraction of edges"),
        ("random:0.5+whitebox-pgd:0.1@poisoning", "cora", "poisoning", "generated", 0.5, "fraction of edges"),
    ],
)
def test_what_a_specification_means(
    text: str, dataset: str, threat: str, source: str, amount: float, unit: str
) -> None:
    spec = parse_attack(text, dataset=dataset)
    assert (spec.threat, spec.source, spec.amount, spec.unit) == (threat, source, amount, unit)
    assert type(spec.amount) is type(amount)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "expected NAME"),
        ("metattack:0.05:3", "expected NAME"),
        ("metatack:0.05", "Did you mean 'metattack'"),
        ("dice", "lacks a budget"),
        ("dice:", "'' is no budget"),
        ("dice:5%", "'5%' is no budget"),
        ("dice:-0.1", "'-0.1' is no budget"),
        ("dice:0.0", "above 0"),
        ("dice:0flips", "above 0"),
        ("dice:0.1@later", "expected evasion, poisoning or symbiotic, got 'later'"),
        ("clean:0.1", "takes no budget"),
        ("clean@evasion", "no threat"),
        ("metattack:0.07", "metattack-live"),
        ("nettack:6", "nettack-live"),
        ("nettack:5flips", "'5flips' is no budget"),
        ("tdgia:0.1", "new nodes and the edges of each, like tdgia:60x20"),
        ("tdgia:60nodes", "'60nodes' is no budget"),
        ("tdgia:60x0", "'60x0' is no budget"),
        ("tdgia:0x20", "above 0"),
        ("degree-deletion:30flips", "like degree-deletion:30nodes"),
        ("degree-deletion:30x2", "'30x2' is no budget"),
        ("dice:30nodes", "'30nodes' is no budget"),
        ("dice-live:0.1", "no attack is called 'dice-live'"),
        ("dice:٣.٥", "is no budget"),
        ("clean+dice:0.1", "clean is no attack"),
        ("dice:0.1+clean", "after + expected a global attack"),
        ("dice:0.1+nettack:5", "after + expected a global attack"),
        ("dice:0.1+metattack:0.25", "write metattack-live"),
        ("dice:0.1@evasion+random:0.1", "expected evasion, poisoning or symbiotic"),
        ("dice:0.1+", "expected NAME"),
        ("dice:0.1+random", "lacks a budget"),
        ("flip-features:0.1+random:0.1+flip-features:0.1", "flip-features stands there twice"),
    ],
)
def test_errors_say_what_was_given_and_what_was_expected(text: str, complaint: str) -> None:
    with pytest.raises(SpecError) as error:
        parse_attack(text, dataset="cora")
    assert complaint in str(error.value)
    assert repr(text) in str(error.value)


def test_an_injection_without_a_budget_is_refused_where_the_literature_has_none() -> None:
    with pytest.raises(SpecError, match=r"'tdgia' lacks a budget: .* 60x20 on cora, 90x10 on citeseer, 200x100 on pub"):
        parse_attack("tdgia", dataset="digits")


def test_an_unknown_name_lists_every_name() -> None:
    with pytest.raises(SpecError) as error:
        parse_attack("nothing:1", dataset="cora")
    assert all(name in str(error.value) for name in attack_names())


def test_a_list_keeps_its_order_and_each_attack_once() -> None:
    specs = parse_attacks("nettack:5, clean,metattack:0.05,clean,", dataset="cora")
    assert [str(spec) for spec in specs] == ["nettack:5@poisoning", "clean", "metattack:0.05@poisoning"]
    with pytest.raises(SpecError, match="expected attacks like"):
        parse_attacks(" , ", dataset="cora")


def budget_of(name: str) -> str:
    """Some budget that the attack takes, as it is written."""
    attack = ATTACKS[name]
    return {"injection": "3x2", "deletion": "3nodes"}.get(attack.kind, "3" if attack.scope == "targeted" else "3flips")


def test_only_adaptive_attacks_need_the_victim() -> None:
    needing = {name for name in ATTACKS if parse_attack(f"{name}:{budget_of(name)}", dataset="digits").needs_victim}
    assert needing == {name for name, attack in ATTACKS.items() if attack.knowledge == "adaptive"}


def test_under_symbiotic_those_that_see_the_model_stand_last() -> None:
    spec = parse_attack("meta-pgd:0.025+dice:0.01+whitebox-pgd:0.025@symbiotic", dataset="digits")
    assert spec.threat == "symbiotic"
    assert spec.needs_victim
    assert [step.name for step in spec.poisoning_steps] == ["meta-pgd", "dice"]
    assert parse_attack(str(spec), dataset="digits") == spec


@pytest.mark.parametrize(
    "text",
    [
        "grad:0.1@symbiotic",
        "whitebox-pgd:0.1@symbiotic",
        "grad:0.1+dice:0.1@symbiotic",
        "whitebox-pgd:0.1+grad:0.1@symbiotic",
        "grad:0.1+whitebox-pgd:0.1+dice:0.1@symbiotic",
        "nettack:3+whitebox-pgd:0.1@symbiotic",
    ],
)
def test_symbiotic_wants_a_poisoning_and_an_attack_on_what_was_trained(text: str) -> None:
    with pytest.raises(SpecError, match=r"expected global attacks that poison and then others.*@symbiotic"):
        parse_attack(text, dataset="digits")
