"""A conformance suite for a vector field of any domain: say how to build it, and inherit the tests."""

from __future__ import annotations

import copy
import io
import pickle

import torch
from torch import Tensor

from contractive_gnn.dynamics import VectorField
from contractive_gnn.nn.flow import Flow
from contractive_gnn.norms import number
from contractive_gnn.testing.claims import worst_pair
from contractive_gnn.testing.verification import drawn, verify_field


class FieldSuite:
    """Tests that every :class:`~contractive_gnn.dynamics.VectorField` should pass, for pytest.

    Subclass it in a test module as ``class TestMine(FieldSuite)`` and define :meth:`make`. Claims are tried at the edge
    of their hypothesis; with ``sharp`` they must also *fail* beyond it.

    Attributes:
        batched: leading axes of a state are a batch: the field of a batch is that of each sample.
        sharp: the largest step is the largest: 1.2 times it expands for some parameters.
        tries: pairs of states for all claims together.
        compiles: ``torch.compile`` takes the field without a graph break.
    """

    batched: bool = True
    sharp: bool = False
    tries: int = 1500
    compiles: bool = True

    def make(self) -> VectorField:
        """Build the field under test, with small states."""
        raise NotImplementedError(f"{type(self).__name__} must define make()")

    def field(self, seed: int = 0) -> VectorField:
        """The field in float64 with parameters that are not at their start, and an anchor where it has one."""
        field = drawn(self.make, seed)
        return field.anchored(self.state(field, seed + 100))

    def state(self, field: VectorField, seed: int = 0) -> Tensor:
        """A random state in float64."""
        return field.state(generator=torch.Generator().manual_seed(seed))

    def test_shape_dtype_and_device(self) -> None:
        """The field has the state's shape, dtype and device, in float32 and float64, wherever there is a device."""
        devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
        for dtype in (torch.float32, torch.float64):
            for device in devices:
                field = self.field().to(device, dtype)
                x = self.state(field).to(device, dtype)
                for out in (field(x), field(x, 0.5), field.euler(x, step=0.1, num_steps=2)):
                    assert (out.shape, out.dtype, out.device) == (x.shape, x.dtype, x.device)
                    assert bool(torch.isfinite(out).all())

    def test_gradient(self) -> None:
        """Autograd agrees with finite differences in the state, and reaches every parameter."""
        field = self.field()
        x = self.state(field).requires_grad_()
        assert torch.autograd.gradcheck(field, x, atol=1e-5)
        out = field(x)
        weights = torch.randn(out.shape, dtype=out.dtype, generator=torch.Generator().manual_seed(3))
        (out * weights).sum().backward()
        for name, parameter in field.named_parameters():
            if not parameter.requires_grad:
                continue
            assert parameter.grad is not None, f"{name} got no gradient"
            assert bool(torch.isfinite(parameter.grad).all()), f"the gradient of {name} is not finite"

    def test_compile(self) -> None:
        """``torch.compile`` traces the field without a break, and the result agrees."""
        if not self.compiles:
            return
        field = self.field().float()
        x = self.state(field).float()
        torch._dynamo.reset()
        compiled = torch.compile(lambda y: field(y), backend="aot_eager", fullgraph=True)
        torch.testing.assert_close(compiled(x), field(x))

    def test_state_dict_copy_and_pickle(self) -> None:
        """Saved, loaded, copied or pickled it is the same field; its anchor is no part of what it learned."""
        plain = drawn(self.make, 0)
        x, anchor = self.state(plain), self.state(plain, 100)
        expected = plain.anchored(anchor)(x)
        file = io.BytesIO()
        torch.save(plain.state_dict(), file)
        file.seek(0)
        loaded = self.make().double()
        loaded.load_state_dict(torch.load(file, weights_only=True))
        for twin in (loaded, copy.deepcopy(plain), pickle.loads(pickle.dumps(plain))):
            torch.testing.assert_close(twin.anchored(anchor)(x), expected, rtol=0, atol=0)

    def test_anchor(self) -> None:
        """Another anchor leaves the field as it was; what it is bound to is the same field, sharing what is learned."""
        field = drawn(self.make, 0)
        x, anchor = self.state(field), self.state(field, 100)
        before = field(x)
        bound = field.anchored(anchor)
        torch.testing.assert_close(field(x), before, rtol=0, atol=0)
        assert isinstance(bound, type(field)), f"anchored() made a {type(bound).__name__} of a {type(field).__name__}"
        again = bound.anchored(anchor)
        torch.testing.assert_close(again(x), bound(x), rtol=0, atol=0)
        assert list(map(id, bound.parameters())) == list(map(id, field.parameters())), "anchored() must share weights"

    def test_parts(self) -> None:
        """The field is the sum of its parts at every time, so that a splitting follows it."""
        field = self.field()
        x = self.state(field)
        for t in (0.0, 0.7):
            torch.testing.assert_close(sum(part(x, t) for part in field.parts()), field(x, t))

    def test_leading_axes(self) -> None:
        """The field of a batch, of one axis or two, is that of each sample."""
        if not self.batched:
            return
        field = drawn(self.make, 0)
        samples = torch.stack([self.state(field, seed) for seed in range(4)])
        anchors = torch.stack([self.state(field, seed) for seed in range(4, 8)])
        single = torch.stack([field.anchored(u)(x) for x, u in zip(samples, anchors, strict=True)])
        shape = samples.shape[1:]
        for axes in ((4,), (2, 2)):
            batch = field.anchored(anchors.reshape(*axes, *shape))(samples.reshape(*axes, *shape))
            torch.testing.assert_close(batch.reshape(single.shape), single)

    def test_claims(self) -> None:
        """Nobody breaks what it declares: rate, steps, constants and what it keeps, tried at their edge."""
        verdict = verify_field(type(self).__name__, self.make, tries=self.tries)
        assert verdict.certified, "nothing is certified: declare certified = True once it is proved"
        assert verdict.word == "holds", "; ".join(
            f"{claim.what}, {claim.graph}: claimed {claim.constant:.6g}, found {finding.value:.6g}"
            for claim, finding in verdict.broken
        )

    def test_a_step_beyond_the_edge_expands(self) -> None:
        """Where the largest step is sharp, a step of 1.2 times it expands for some parameters."""
        if not self.sharp:
            return
        worst = 0.0
        for seed in range(4):
            field = self.field(seed)
            h, rate = 1.2 * number(field.max_step()), number(field.rate())
            if not 0 < h < 1e6:
                continue

            def step(y: Tensor, *, h: float = h, field: VectorField = field) -> Tensor:
                moved: Tensor = y + h * field(y)
                return moved

            found = worst_pair(
                step,
                self.state(field, seed),
                norm=field.norm,
                project=field.project,
                one_sided=False,
                tries=400,
                seed=seed,
            )
            worst = max(worst, found.value / max(1.0 - h / 1.2 * rate, 1e-9))
        assert worst > 1.0 + 1e-3, f"1.2 times the largest step reaches {worst:.4f} of the bound at most: not sharp"

    def test_layer(self) -> None:
        """As a layer it keeps shapes, and moves by no more than the constant of the layer."""
        field = drawn(self.make, 0)
        contracts = number(field.max_step()) > 0
        flow = Flow(field, num_steps=3) if contracts else Flow(field, num_steps=3, step=0.1, constrained=False)
        x, y = self.state(field, 4), self.state(field, 5)
        with torch.no_grad():
            moved = flow(x) - flow(y)
        assert moved.shape == x.shape
        bound = flow.lipschitz()
        assert float(field.norm(moved)) <= bound * float(field.norm(x - y)) * (1 + 1e-9)
