"""The methods by name: one file per system of the literature."""

from ..support.errors import one_of
from .corrkd import CorrKD
from .dynkd import DynKD
from .hfgd import HFGD
from .mcur import MCUR
from .umdf import UMDF

METHODS = {"corrkd": CorrKD, "umdf": UMDF, "hfgd": HFGD, "dynkd": DynKD, "mcur": MCUR}


def get(name):
    """The class of a method; an unknown name is refused with the known ones."""
    return METHODS[one_of("method", name, tuple(METHODS))]
