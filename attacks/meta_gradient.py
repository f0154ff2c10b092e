"""The exact meta-gradient of a two-layer GCN surrogate, without an n×n matrix.

Metattack (Zügner and Günnemann, *Adversarial Attacks on Graph Neural Networks via Meta Learning*, ICLR 2019) asks how
the loss *after* training changes when an entry of the adjacency or feature matrix changes. Unrolling the training over
dense n×n matrices answers that, slowly. Here the derivative is worked out by hand and stays factored:

    ∂L/∂S = Σ_k L_k R_kᵀ,        S = D^-½ (A + I) D^-½,

with a few thin dense terms and terms that live on the training nodes and their neighbours.

Notation: n nodes, d features, h hidden units, c classes, m training nodes, T inner steps, X (n×d) features, W (d×h) and
V (h×c) weights, P_tr (n×m) the columns of the identity that select the training nodes. An adjoint, written with a bar
in the literature, has a ``b`` in front here: ``bW`` is ∂L/∂W. Everything is float64 NumPy and SciPy; DeepRobust
computes in float32, whose rounding (6e-7 of the largest entry) is all that separates its gradient from this one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Final, TypeAlias

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from contractive_gnn.attacks.edge_scores import View
from contractive_gnn.attacks.factored_matrix import (
    BLOCK,
    Array,
    FactoredMatrix,
    Indices,
    Matrix,
    Sparse,
    Term,
    TrainingTerm,
    dense,
    numba_is_here,
)

Products: TypeAlias = tuple[tuple[Array, Array], ...]
"""The sum of these products of an m×k and a k×d matrix."""


class InnerLoss(ABC):
    """What the surrogate is trained on: a loss of its scores Z ``[k, c]`` at some rows."""

    @abstractmethod
    def forth(self, Z: Array) -> tuple[Array, Array]:
        """E, the derivative by Z, and what :meth:`back` wants to know of Z; both ``[k, c]``."""

    @abstractmethod
    def back(self, kept: Array, bE: Array) -> Array:
        """What a derivative by E makes of one by Z."""


@dataclass(frozen=True, kw_only=True)
class InnerTraining:
    """Full-batch gradient descent with momentum on the mean cross-entropy over the training nodes.

    p ← momentum·p + ∇,  W ← W − lr·p, ``steps`` times from p = 0.
    """

    steps: int = 100
    lr: float = 0.1
    momentum: float = 0.9


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What the surrogate is trained and judged on.

    Args:
        S: CSR ``[n, n]``, the symmetrically normalised adjacency with self-loops.
        X: ``[n, d]``, CSR or dense.
        train: int ``[m]``, ascending.
        train_labels: int ``[m]``.
        outer_labels: int ``[n]``: the labels in the loss that the attack raises.
        outer_weights: ``[n]``: the weight of each node in that loss, L = Σ_i w_i ℓ(logits_i, label_i).
        classes: c.
        outer_loss: ℓ, one of :data:`OUTER_LOSSES`.
    """

    S: Sparse
    X: Matrix
    train: Indices
    train_labels: Indices
    outer_labels: Indices
    outer_weights: Array
    classes: int
    outer_loss: str = "cross-entropy"


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Weights of logits = S·σ(S X W + b)·V + c, σ = identity or ReLU; b and c are None where there are no biases."""

    W: Array
    V: Array
    b: Array | None = None
    c: Array | None = None


@dataclass(frozen=True, kw_only=True)
class MetaGradient:
    """The loss after training and its derivatives, of which an attack needs one.

    Args:
        loss: L.
        by_propagation: computes :attr:`propagation`.
        by_features: computes :attr:`features`.
        views: what the loss depends on besides S: graphs with fewer edges, on which the surrogate was trained, too.
    """

    loss: float
    by_propagation: Callable[[], FactoredMatrix]
    by_features: Callable[[], FactoredMatrix]
    views: tuple[View, ...] = ()

    @cached_property
    def propagation(self) -> FactoredMatrix:
        """∂L/∂S ``[n, n]``, every entry of S taken as independent."""
        return self.by_propagation()

    @cached_property
    def features(self) -> FactoredMatrix:
        """∂L/∂X ``[n, d]``."""
        return self.by_features()


def normalise(adjacency: Sparse) -> tuple[Sparse, Array]:
    """S = D^-½ (A + I) D^-½ as CSR, and the diagonal of D, which counts the self-loop."""
    loops = (adjacency + sp.eye_array(adjacency.shape[0], format="csr")).tocsr()
    degrees = np.asarray(loops.sum(axis=1), dtype=np.float64).ravel()
    scale = sp.dia_array((degrees[None] ** -0.5, [0]), shape=loops.shape)
    return (scale @ loops @ scale).tocsr(), degrees


class Gram:
    """K = BBᵀ, and BXᵀ, from one flip to the next: only what a changed row of B makes is computed anew."""

    def __init__(self) -> None:
        self._B: Array = np.empty((0, 0))
        self._K: Array = np.empty((0, 0))
        self._X: Matrix = None
        self._BX: Array = np.empty((0, 0))
        self._stale: NDArray[np.bool_] = np.empty(0, dtype=bool)  # which rows of BXᵀ are

    def of(self, B: Array) -> Array:
        """K ``[m, m]`` of B ``[m, d]``."""
        if B.shape != self._B.shape:
            self._K = B @ B.T
            self._stale = np.ones(B.shape[0], dtype=bool)
        else:
            changed = np.flatnonzero((B != self._B).any(axis=1))
            rows = B[changed] @ B.T
            self._K[changed] = rows
            self._K[:, changed] = rows.T
            self._stale[changed] = True
        self._B = B
        return self._K

    def along(self, B: Array, X: Matrix) -> Array:
        """BXᵀ ``[m, n]``; quick for the last B that :meth:`of` was given."""
        if B is not self._B:
            return np.asarray((X @ np.ascontiguousarray(B.T)).T)
        if X is not self._X or self._BX.shape[0] != self._stale.size:
            self._X, self._BX = X, np.empty((self._stale.size, X.shape[0]))
            self._stale[:] = True
        rows = np.flatnonzero(self._stale)
        self._BX[rows] = (X @ np.ascontiguousarray(self._B[rows].T)).T
        self._stale[:] = False
        return self._BX


def linear_meta_gradient(
    problem: Problem, initial: Weights, inner: InnerTraining, *, gram: Gram | None = None
) -> MetaGradient:
    """Derivatives of L for logits = S² X W V, with W and V trained by ``inner`` from ``initial``.

    ``gram`` remembers K and BXᵀ of :class:`LinearTraining` from one call to the next.
    """
    trained = LinearTraining(problem, initial, inner, gram=gram)
    loss, E = outer(problem, trained.logits)
    by_propagation, by_features = trained.reverse(E)
    return MetaGradient(loss=loss, by_propagation=by_propagation, by_features=by_features)


class LinearTraining:
    """The surrogate logits = S² X W V after its training, and the way back through it.

    Training sees only B = (S²X)[train] and moves W by BᵀC, so where m ≤ d it runs in m dimensions on K = BBᵀ; otherwise
    in weight space. With numba the steps of the training are compiled.

    Attributes:
        logits: ``[n, c]``.
    """

    def __init__(self, problem: Problem, initial: Weights, inner: InnerTraining, *, gram: Gram | None = None) -> None:
        S, X, train = problem.S, problem.X, problem.train
        self._problem, self._gram = problem, Gram() if gram is None else gram
        self._reached = (S[train] @ S).tocsr()
        B = self._B = dense(self._reached @ X)
        self._run: _CompiledRun | KernelRun | _WeightRun
        if B.shape[0] <= B.shape[1]:
            K = self._gram.of(B)
            if numba_is_here():
                self._run = _CompiledRun(problem, B, K, initial, inner)
            else:
                self._run = KernelRun(TrainingLoss(problem), B, K, initial, inner)
        else:
            self._run = _WeightRun(problem, B, initial, inner)
        W, V = self._run.trained
        self._XW = X @ W
        self._H = S @ (S @ self._XW)
        self.logits: Array = self._H @ V

    def reverse(self, E: Array) -> tuple[Callable[[], FactoredMatrix], Callable[[], FactoredMatrix]]:
        """What computes ∂L/∂S and ∂L/∂X, from E = ∂L/∂logits.

        With G = ∂L/∂B and V₁ = WV of the trained weights,

            ∂L/∂S = E(S X V₁)ᵀ + (S E)(X V₁)ᵀ + P_tr G Xᵀ S + S P_tr G Xᵀ,
            ∂L/∂X = S² (E V₁ᵀ + P_tr G).

        Where n < d the training's part is had from G Xᵀ, without G.
        """
        S, X, B = self._problem.S, self._problem.X, self._B
        n = S.shape[0]
        W, V = self._run.trained
        SE = S @ E
        products = self._run.reverse(bW=X.T @ (S @ SE) @ V.T, bV=self._H.T @ E)
        XV = self._XW @ V
        two_hops = self._reached.T.tocsr()

        def by_propagation() -> FactoredMatrix:
            if n < X.shape[1]:
                along = tuple(
                    (left, self._gram.along(B, X) if right is B else (X @ right.T).T) for left, right in products
                )
                term = training_term(S, sp.eye_array(n, format="csr"), self._problem.train, along, two_hops)
            else:
                term = training_term(S, X, self._problem.train, products, two_hops)
            return FactoredMatrix((Term(E, S @ XV), Term(SE, XV)), (n, n), term)

        def by_features() -> FactoredMatrix:
            terms = Term(S @ SE, W @ V), Term(two_hops, _sum_of_products(products).T)
            return FactoredMatrix(terms, (n, X.shape[1]))

        return by_propagation, by_features


def training_term(S: Sparse, X: Matrix, rows: Indices, products: Products, two_hops: Sparse) -> TrainingTerm:
    """What reaches S through these rows of S²X, from the products that sum up to the derivative G by them."""
    return TrainingTerm(S=S, X=X, train=rows, G=_sum_of_products(products), two_hops=two_hops)


def _sum_of_products(products: Products) -> Array:
    (left, right), *others = products
    total: Array = left @ right
    for left, right in others:
        total += left @ right
    return total


class TrainingLoss(InnerLoss):
    """The mean cross-entropy over all rows, which are the training nodes."""

    def __init__(self, problem: Problem) -> None:
        self._target, self._m = one_hot(problem.train_labels, problem.classes), problem.train.size

    def forth(self, Z: Array) -> tuple[Array, Array]:
        """(P − target)/m, and P = softmax(Z)."""
        P = softmax(Z)
        return (P - self._target) / self._m, P

    def back(self, kept: Array, bE: Array) -> Array:
        """Through the softmax."""
        return softmax_reverse(kept, bE / self._m)


class KernelRun:
    """Inner training and its reverse in m dimensions: R_t = B W_t and W_t = W₀ − BᵀC_t, through K = BBᵀ.

    Args:
        loss: of R_t V_t.
        B: ``[m, d]``.
        K: ``[m, m]``.
        initial: W and V at first.
        inner: how they are trained.

    Attributes:
        trained: W and V.
    """

    def __init__(self, loss: InnerLoss, B: Array, K: Array, initial: Weights, inner: InnerTraining) -> None:
        self._loss = loss
        self._B, self._K, self._inner, self._W0 = B, K, inner, initial.W
        m, steps, lr, beta = B.shape[0], inner.steps, inner.lr, inner.momentum
        classes = initial.V.shape[1]
        RC = np.concatenate([B @ initial.W, np.zeros((m, initial.W.shape[1]))])  # R above −C: they move alike
        V, pRC, pV = initial.V, np.zeros_like(RC), np.zeros_like(initial.V)
        self._R, self._V = np.empty((steps, m, V.shape[0])), np.empty((steps, *V.shape))
        self._kept, self._E, self._Q = (np.empty((steps, m, classes)) for _ in range(3))
        QE = np.empty((2 * m, classes))
        for t in range(steps):
            R = RC[:m]
            E, kept = loss.forth(R @ V)
            QE[:m], QE[m:] = K @ E, E
            self._R[t], self._V[t], self._kept[t], self._E[t], self._Q[t] = R, V, kept, E, QE[:m]
            pRC *= beta
            pRC += QE @ V.T
            pV = beta * pV + R.T @ E
            RC -= lr * pRC
            V = V - lr * pV
        C = -RC[m:]
        self._C = C
        self.trained = (initial.W - B.T @ C, V)

    def reverse(self, *, bW: Array, bV: Array) -> Products:
        """∂L/∂B, from the derivatives of L by the trained weights with S and X held fixed."""
        K, B, inner = self._K, self._B, self._inner
        lr, beta = inner.lr, inner.momentum
        bC = -B @ bW
        # what C still receives through the momentum of the steps from t on
        gamma = lr * (1 - beta ** (inner.steps - np.arange(inner.steps))) / (1 - beta)
        bE_from_C = (bC @ self._V) * gamma[:, None, None]
        bV_from_C = (bC.T @ self._E) * gamma[:, None, None]
        bR, bpR, bpV = np.zeros_like(bC), np.zeros_like(bC), np.zeros_like(bV)
        stored_bQ = np.empty_like(self._Q)
        for t in reversed(range(inner.steps)):
            R, V, E, Q = self._R[t], self._V[t], self._E[t], self._Q[t]
            bpR -= lr * bR
            bpV = bpV - lr * bV
            bQ = stored_bQ[t] = bpR @ V
            bE = K @ bQ + R @ bpV + bE_from_C[t]
            bZ = self._loss.back(self._kept[t], bE)
            bV = bV + bpR.T @ Q + R.T @ bZ + bV_from_C[t]
            bR += E @ bpV.T
            bR += bZ @ V.T
            bpR *= beta
            bpV = beta * bpV
        return (_through_kernel(stored_bQ, self._E), B), (bR, self._W0.T), (-self._C, bW.T)


class _CompiledRun:
    """:class:`KernelRun` with its loops compiled."""

    def __init__(self, problem: Problem, B: Array, K: Array, initial: Weights, inner: InnerTraining) -> None:
        from contractive_gnn.compiled.attack_loops import train  # imports numba

        self._B, self._K, self._inner, self._W0 = B, K, inner, initial.W
        *self._history, self._C, V = train(
            K, B @ initial.W, initial.V, problem.train_labels, inner.steps, inner.lr, inner.momentum
        )
        self.trained = (initial.W - B.T @ self._C, V)

    def reverse(self, *, bW: Array, bV: Array) -> Products:
        """∂L/∂B, from the derivatives of L by the trained weights with S and X held fixed."""
        from contractive_gnn.compiled.attack_loops import reverse

        bR, bQ = reverse(self._K, *self._history, -self._B @ bW, bV, self._inner.lr, self._inner.momentum)
        return (_through_kernel(bQ, self._history[3]), self._B), (bR, self._W0.T), (-self._C, bW.T)


def _through_kernel(bQ: Array, E: Array) -> Array:
    """What B is multiplied by where the derivative goes through K = BBᵀ: bK + bKᵀ with bK = Σ_t bQ_t E_tᵀ."""
    bK = _stack(bQ) @ _stack(E).T
    through: Array = bK + bK.T
    return through


class _WeightRun:
    """Inner training and its reverse in the d×h weights themselves: less work than K where m > d.

    A step goes through B twice, by c columns: R V = B(WV), and RᵀE = Wᵀ(BᵀE). With numba in one pass.
    """

    def __init__(self, problem: Problem, B: Array, initial: Weights, inner: InnerTraining) -> None:
        self._B, self._inner = B, inner
        m, steps, lr, beta = B.shape[0], inner.steps, inner.lr, inner.momentum
        forward, self._backward = _passes()
        W, V = initial.W, initial.V
        pW, pV = np.zeros_like(W), np.zeros_like(V)
        self._W, self._V = np.empty((steps, *W.shape)), np.empty((steps, *V.shape))
        self._P, self._E = (np.empty((steps, m, problem.classes)) for _ in range(2))
        self._BE = np.empty((steps, W.shape[0], problem.classes))
        for t in range(steps):
            P, E, BE = forward(B, W @ V, problem.train_labels)
            self._W[t], self._V[t], self._P[t], self._E[t], self._BE[t] = W, V, P, E, BE
            pW = beta * pW + BE @ V.T
            pV = beta * pV + W.T @ BE
            W = W - lr * pW
            V = V - lr * pV
        self.trained = (W, V)

    def reverse(self, *, bW: Array, bV: Array) -> Products:
        """∂L/∂B, from the derivatives of L by the trained weights with S and X held fixed."""
        B, lr, beta = self._B, self._inner.lr, self._inner.momentum
        bpW, bpV = np.zeros_like(bW), np.zeros_like(bV)
        # B enters step t as B(WV) and as BᵀE: each adds one product to ∂L/∂B
        left, right = np.empty((2, *self._E.shape)), np.empty((2, *self._BE.shape))
        for t in reversed(range(self._inner.steps)):
            W, V, P, E, BE = self._W[t], self._V[t], self._P[t], self._E[t], self._BE[t]
            bpW = bpW - lr * bW
            bpV = bpV - lr * bV
            bBE = bpW @ V + W @ bpV
            bZ, BbZ = self._backward(B, bBE, P)
            bV = bV + bpW.T @ BE + W.T @ BbZ
            bW = bW + BE @ bpV.T + BbZ @ V.T
            left[:, t], right[:, t] = (E, bZ), (bBE, W @ V)
            bpW = beta * bpW
            bpV = beta * bpV
        return tuple((_stack(left[i]), _stack(right[i]).T) for i in range(2))


def _passes() -> tuple[
    Callable[[Array, Array, Indices], tuple[Array, Array, Array]], Callable[..., tuple[Array, Array]]
]:
    """Through the softmax and back: see :func:`_forward` and :func:`_backward`, compiled where that is possible."""
    if not numba_is_here():
        return _forward, _backward
    from contractive_gnn.compiled.attack_loops import backward, forward  # imports numba

    return forward, backward


def _forward(B: Array, U: Array, labels: Indices) -> tuple[Array, Array, Array]:
    """P = softmax(B U), the derivative E of the mean cross-entropy by B U, and Bᵀ E."""
    P = softmax(B @ U)
    E = (P - one_hot(labels, U.shape[1])) / B.shape[0]
    return P, E, B.T @ E


def _backward(B: Array, bBE: Array, P: Array) -> tuple[Array, Array]:
    """What reaches B U through E, from the derivative by BᵀE, and Bᵀ times that."""
    bZ = softmax_reverse(P, B @ bBE / B.shape[0])
    return bZ, B.T @ bZ


def general_meta_gradient(problem: Problem, initial: Weights, inner: InnerTraining, *, relu: bool) -> MetaGradient:
    """Derivatives of L for logits = S·σ(S X W + b)·V + c, everything trained by ``inner`` from ``initial``.

    σ is ReLU or the identity. Training sees the hidden layer on the training nodes and their neighbours, N, through
    B = (S X)[N]; the reverse runs in weight space and keeps, of each step, the thin factors of ∂L/∂B and ∂L/∂S[train].
    For a linear surrogate without biases :func:`linear_meta_gradient` gives the same, faster.
    """
    S, X, train, n = problem.S, problem.X, problem.train, problem.S.shape[0]
    SX = S @ X
    neighbours = np.flatnonzero(np.bincount(S[train].indices, minlength=n))
    run = _HiddenRun(problem, SX[neighbours], S[train][:, neighbours], initial, inner, relu=relu)
    final = run.trained

    XW = X @ final.W
    U = S @ XW + final.b
    H = _activate(U, U, relu=relu)
    SH = S @ H
    loss, E = outer(problem, SH @ final.V + final.c)
    SE = S @ E
    bU = _activate(SE @ final.V.T, U, relu=relu)
    SbU = S @ bU
    bB, rows = run.reverse(bW=X.T @ SbU, bV=SH.T @ E, bb=bU.sum(axis=0), bc=E.sum(axis=0), SX=SX)

    propagation = FactoredMatrix(
        (
            Term(E, H @ final.V),
            Term(bU, XW),
            Term(sp.eye_array(train.size, format="csr"), rows.T, train),
            Term(bB, X, neighbours),
        ),
        (n, n),
    )
    terms = Term(SbU, final.W), Term(S[:, neighbours], np.ascontiguousarray(bB).T)
    features = FactoredMatrix(terms, (n, X.shape[1]))
    return MetaGradient(loss=loss, by_propagation=lambda: propagation, by_features=lambda: features)


class _HiddenRun:
    """Inner training and its reverse with a hidden layer that cannot be multiplied out.

    One step: U = BW + b; H = σ(U); Y = S_tr H; E = (softmax(YV + c) − Y₁)/m; gU = (S_trᵀ E Vᵀ)∘σ'(U); ∇W = BᵀgU,
    ∇V = YᵀE, ∇b = 1ᵀgU, ∇c = 1ᵀE.
    """

    def __init__(
        self, problem: Problem, B: Matrix, S_train: Sparse, initial: Weights, inner: InnerTraining, *, relu: bool
    ) -> None:
        self._B, self._S, self._inner, self._relu = B, S_train, inner, relu
        self._Bt = B.T.tocsr() if sp.issparse(B) else B.T
        self._biased = initial.b is not None
        self._m, self._classes = S_train.shape[0], problem.classes
        target = one_hot(problem.train_labels, problem.classes)
        b0 = np.zeros(initial.W.shape[1]) if initial.b is None else initial.b
        c0 = np.zeros(problem.classes) if initial.c is None else initial.c
        weights: tuple[Array, ...] = (initial.W, initial.V, b0, c0)
        momenta = tuple(np.zeros_like(weight) for weight in weights)
        self._history: list[tuple[Array, Array, Array]] = []  # W_t, V_t, b_t
        self._steps: list[tuple[Array, Array, Array, Array]] = []  # U_t, Y_t, P_t, E_t
        for _ in range(inner.steps):
            W, V, b, c = weights
            U = B @ W + b
            Y = S_train @ _activate(U, U, relu=relu)
            P = softmax(Y @ V + c)
            E = (P - target) / self._m
            self._history.append((W, V, b))
            self._steps.append((U, Y, P, E))
            gU = _activate(S_train.T @ (E @ V.T), U, relu=relu)
            gradients = (self._Bt @ gU, Y.T @ E, *self._bias_parts(gU, E))
            momenta = tuple(inner.momentum * p + g for p, g in zip(momenta, gradients, strict=True))
            weights = tuple(w - inner.lr * p for w, p in zip(weights, momenta, strict=True))
        W, V, b, c = weights
        self.trained = Weights(W=W, V=V, b=b, c=c)

    def _bias_parts(self, at_hidden: Array, at_logits: Array) -> tuple[Array, Array]:
        """What reaches b and c; nothing where the surrogate has no biases."""
        if self._biased:
            return at_hidden.sum(axis=0), at_logits.sum(axis=0)
        return np.zeros(at_hidden.shape[1]), np.zeros(at_logits.shape[1])

    def reverse(self, *, bW: Array, bV: Array, bb: Array, bc: Array, SX: Matrix) -> tuple[Array, Array]:
        """∂L/∂B ``[|N|, d]`` and ∂L/∂S[train] ``[m, n]`` as the training causes them.

        The arguments are the derivatives of L by the trained weights with S and X held fixed, and S X: a possible new
        neighbour of a training node has a hidden state in each step, too.
        """
        B, S, relu = self._B, self._S, self._relu
        m, lr, beta, steps = self._m, self._inner.lr, self._inner.momentum, self._inner.steps
        (d, h), nodes = bW.shape, B.shape[0]
        if not self._biased:
            bb, bc = np.zeros_like(bb), np.zeros_like(bc)
        bpW, bpV, bpb, bpc = (np.zeros_like(weight) for weight in (bW, bV, bb, bc))
        # ∂L/∂B = Σ_t gU bpWᵀ + bU Wᵀ, and ∂L/∂S[train] = Σ_t gY bgHᵀ + bY Hᵀ: two factors each, a stack for either
        hidden, weights = np.empty((2, steps, nodes, h)), np.empty((2, steps, d, h))
        logits, biases = np.empty((2, steps, m, h)), np.empty((2, steps, h))
        for t in reversed(range(steps)):
            W, V, b = self._history[t]
            U, Y, P, E = self._steps[t]
            bpW, bpV, bpb, bpc = bpW - lr * bW, bpV - lr * bV, bpb - lr * bb, bpc - lr * bc
            gY = E @ V.T
            bgY = S @ _activate(B @ bpW + bpb, U, relu=relu)
            bE = bgY @ V + Y @ bpV + bpc
            bZ = softmax_reverse(P, bE / m)
            bY = E @ bpV.T + bZ @ V.T
            bU = _activate(S.T @ bY, U, relu=relu)
            hidden[:, t] = _activate(S.T @ gY, U, relu=relu), bU
            weights[:, t] = bpW, W
            logits[:, t], biases[:, t] = (gY, bY), (bpb, b)
            at_b, at_c = self._bias_parts(bU, bZ)
            bW, bV, bb, bc = bW + self._Bt @ bU, bV + bgY.T @ E + Y.T @ bZ, bb + at_b, bc + at_c
            bpW, bpV, bpb, bpc = beta * bpW, beta * bpV, beta * bpb, beta * bpc

        stacked = [_stack(weights[i]) for i in range(2)]
        bB: Array = _stack(hidden[0]) @ stacked[0].T + _stack(hidden[1]) @ stacked[1].T
        rows = np.empty((m, SX.shape[0]))
        for start in range(0, SX.shape[0], BLOCK):
            block = SX[start : start + BLOCK]
            Us = block @ stacked[1] + biases[1].ravel()
            bgHs = _activate(block @ stacked[0] + biases[0].ravel(), Us, relu=relu)
            Hs = _activate(Us, Us, relu=relu)
            rows[:, start : start + BLOCK] = _stack(logits[0]) @ bgHs.T + _stack(logits[1]) @ Hs.T
        return bB, rows


def outer(problem: Problem, logits: Array) -> tuple[float, Array]:
    """L and E* = ∂L/∂logits."""
    each, by_logits = OUTER_LOSSES[problem.outer_loss](logits, problem.outer_labels)
    return float(problem.outer_weights @ each), by_logits * problem.outer_weights[:, None]


def cross_entropy(logits: Array, labels: Indices) -> tuple[Array, Array]:
    """−log p_y of each node ``[n]``, and its derivative p − 1_y by the logits ``[n, c]``."""
    nodes = np.arange(labels.size)
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_sums = np.log(np.exp(shifted).sum(axis=1))
    E = np.exp(shifted - log_sums[:, None])
    E[nodes, labels] -= 1
    return log_sums - shifted[nodes, labels], E


def minus_probability(logits: Array, labels: Indices) -> tuple[Array, Array]:
    """−p_y of each node ``[n]``, and its derivative p_y (p − 1_y) by the logits ``[n, c]``."""
    nodes = np.arange(labels.size)
    E = softmax(logits)
    own = E[nodes, labels]
    E[nodes, labels] -= 1
    return -own, E * own[:, None]


#: the losses ℓ that an attack can raise, by name; "probability" is that of GraD
OUTER_LOSSES: Final[dict[str, Callable[[Array, Indices], tuple[Array, Array]]]] = {
    "cross-entropy": cross_entropy,
    "probability": minus_probability,
}


def softmax(Z: Array) -> Array:
    """Row-wise softmax."""
    P: Array = np.exp(Z - Z.max(axis=1, keepdims=True))
    P /= P.sum(axis=1, keepdims=True)
    return P


def softmax_reverse(P: Array, bP: Array) -> Array:
    """What a derivative by P = softmax(Z) makes of one by Z; rows stand for themselves."""
    product = P * bP
    result: Array = product - P * product.sum(axis=1, keepdims=True)
    return result


def _activate(values: Array, at: Array, *, relu: bool) -> Array:
    """``values``·σ'(``at``): σ itself where both are the same, and its reverse otherwise."""
    return values * (at > 0) if relu else values


def one_hot(labels: Indices, classes: int) -> Array:
    """1 at each label, ``[k, classes]``."""
    return np.eye(classes)[labels]


def _stack(steps: Array) -> Array:
    """T×m×k to m×(Tk): Σ_t A_t B_tᵀ is one product of two such stacks."""
    stacked: Array = steps.transpose(1, 0, 2).reshape(steps.shape[1], -1)
    return stacked
