"""Layers without learned weights: their constants, measured by dense Jacobians after a search for the worst inputs."""

from __future__ import annotations

from torch import nn

from contractive_gnn.nn.lipschitz import (
    AvgPool2d,
    ChannelProjection,
    DepthToSpace,
    FullSort,
    GlobalAvgPool2d,
    GlobalL2NormPool2d,
    GlobalMaxPool2d,
    GroupSort,
    L2NormPool2d,
    Lift,
    MaxMin,
    MaxPool2d,
    SpaceToDepth,
    Standardise,
)
from contractive_gnn.testing import LipschitzSuite


class TestMaxMin(LipschitzSuite):
    shape = (4, 2, 2)
    tight = 1.0
    isometry = True

    def make(self) -> nn.Module:
        return MaxMin()


class TestGroupSort(LipschitzSuite):
    shape = (6,)
    tight = 1.0
    isometry = True

    def make(self) -> nn.Module:
        return GroupSort(3)


class TestFullSort(LipschitzSuite):
    shape = (5, 2)
    tight = 1.0
    isometry = True

    def make(self) -> nn.Module:
        return FullSort()


class TestSpaceToDepth(LipschitzSuite):
    shape = (2, 4, 4)
    tight = 1.0
    isometry = True

    def make(self) -> nn.Module:
        return SpaceToDepth(2)


class TestDepthToSpace(LipschitzSuite):
    shape = (9, 2, 1)
    tight = 1.0
    isometry = True

    def make(self) -> nn.Module:
        return DepthToSpace(3)


class TestLift(LipschitzSuite):
    shape = (2, 3, 3)
    tight = 1.0
    isometry = True

    def make(self) -> nn.Module:
        return Lift(2, 5)


class TestChannelProjection(LipschitzSuite):
    shape = (4, 2, 2)
    tight = 1.0

    def make(self) -> nn.Module:
        return ChannelProjection(4, 3)


class TestStandardise(LipschitzSuite):
    shape = (3, 2, 2)
    tight = 1.0

    def make(self) -> nn.Module:
        return Standardise([0.5, 0.4, 0.3], [0.25, 0.2, 0.3])


class TestAvgPool(LipschitzSuite):
    shape = (2, 4, 5)
    tight = 1.0

    def make(self) -> nn.Module:
        return AvgPool2d(2)


class TestPlainAvgPool(LipschitzSuite):
    shape = (1, 6, 4)
    tight = 1.0

    def make(self) -> nn.Module:
        return AvgPool2d((3, 2), scaled=False)


class TestOverlappingAvgPool(LipschitzSuite):
    shape = (1, 9, 9)
    tight = 1.15  # reached by infinitely large images

    def make(self) -> nn.Module:
        return AvgPool2d(3, stride=2)


class TestMaxPool(LipschitzSuite):
    shape = (2, 4, 4)
    tight = 1.0

    def make(self) -> nn.Module:
        return MaxPool2d(2)


class TestOverlappingMaxPool(LipschitzSuite):
    shape = (1, 5, 5)
    tight = 1.01

    def make(self) -> nn.Module:
        return MaxPool2d(3, stride=2, padding=1)


class TestL2NormPool(LipschitzSuite):
    shape = (2, 4, 4)
    tight = 1.0

    def make(self) -> nn.Module:
        return L2NormPool2d(2)


class TestOverlappingL2NormPool(LipschitzSuite):
    shape = (1, 5, 5)
    tight = 1.1

    def make(self) -> nn.Module:
        return L2NormPool2d(3, stride=2)


class TestGlobalAvgPool(LipschitzSuite):
    shape = (2, 3, 4)
    tight = 1.0

    def make(self) -> nn.Module:
        return GlobalAvgPool2d()


class TestGlobalMaxPool(LipschitzSuite):
    shape = (2, 3, 4)
    tight = 1.0

    def make(self) -> nn.Module:
        return GlobalMaxPool2d()


class TestGlobalL2NormPool(LipschitzSuite):
    shape = (2, 3, 4)
    tight = 1.0

    def make(self) -> nn.Module:
        return GlobalL2NormPool2d()
