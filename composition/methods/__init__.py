"""The methods that an expression calls by name and that are more than a sum: one paper a file.

A row in `registry.domain.methods` declares a method, a function here computes it, and a line in METHODS joins the two.
"""

from collections.abc import Mapping

from composition.methods.breadcrumbs import breadcrumbs
from composition.methods.core_space import core_space
from composition.methods.dare import dare_linear, dare_ties
from composition.methods.della import della
from composition.methods.iso_c import iso_c
from composition.methods.knots import knots
from composition.methods.magnitude import magnitude
from composition.methods.method import Method
from composition.methods.sce import sce
from composition.methods.slerp import slerp
from composition.methods.ties import ties
from composition.methods.tsv import tsv

METHODS: Mapping[str, Method] = {
    "slerp": slerp,
    "ties": ties,
    "dare_linear": dare_linear,
    "dare_ties": dare_ties,
    "della": della,
    "breadcrumbs": breadcrumbs,
    "sce": sce,
    "magnitude": magnitude,
    "knots": knots,
    "core_space": core_space,
    "tsv": tsv,
    "iso_c": iso_c,
}
