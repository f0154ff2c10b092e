"""Trajectories of dynamical systems to learn from, with the true equation and its invariants."""

from contractive_gnn.datasets.systems.henon_heiles import HenonHeilesPotential, henon_heiles
from contractive_gnn.datasets.systems.lotka_volterra import LotkaVolterra, log_lotka_volterra, lotka_volterra
from contractive_gnn.datasets.systems.pendulum import PendulumPotential, pendulum
from contractive_gnn.datasets.systems.rigid_body import RigidBody, rigid_body
from contractive_gnn.datasets.systems.sir import SIR, sir
from contractive_gnn.datasets.systems.solving import simulate, solve
from contractive_gnn.datasets.systems.system import SYSTEMS, System
from contractive_gnn.datasets.systems.trajectories import Trajectories

__all__ = [
    "SIR",
    "SYSTEMS",
    "HenonHeilesPotential",
    "LotkaVolterra",
    "PendulumPotential",
    "RigidBody",
    "System",
    "Trajectories",
    "henon_heiles",
    "log_lotka_volterra",
    "lotka_volterra",
    "pendulum",
    "rigid_body",
    "simulate",
    "sir",
    "solve",
]
