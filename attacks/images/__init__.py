"""Attacks on classifiers of images, through kept packages."""

from contractive_gnn.attacks.images.apgd import APGD, apgd
from contractive_gnn.attacks.images.attack import ImageAttack, ImageAttackResult
from contractive_gnn.attacks.images.autoattack import AutoAttack, autoattack
from contractive_gnn.attacks.images.ball import Ball
from contractive_gnn.attacks.images.evaluate import CertificateError, evaluate_images
from contractive_gnn.attacks.images.fab import FAB
from contractive_gnn.attacks.images.lines import ImageLine, read_lines
from contractive_gnn.attacks.images.pgd import PGD, full_reach_pgd
from contractive_gnn.attacks.images.square import Square
from contractive_gnn.attacks.images.summary import curves, robust_accuracy

__all__ = [
    "APGD",
    "FAB",
    "PGD",
    "AutoAttack",
    "Ball",
    "CertificateError",
    "ImageAttack",
    "ImageAttackResult",
    "ImageLine",
    "Square",
    "apgd",
    "autoattack",
    "curves",
    "evaluate_images",
    "full_reach_pgd",
    "read_lines",
    "robust_accuracy",
]
