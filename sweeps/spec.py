"""A sweep YAML from file to :class:`Sweep`: the one place to import from.

``read_spec`` reads a file and keeps what is wrong with it; ``resolve`` tells that together with what the recipe and the
pools do not allow. ``load_spec`` is for callers that have no recipe at hand and want a file that is right in itself.
"""

from sweeps.evaluating import Evaluate
from sweeps.judging import Judge
from sweeps.loading import LoadedSpec, load_spec, read_spec
from sweeps.resolving import resolve
from sweeps.schema import Budget, Champion, Confirm, Constraint, Export, Search, StopEarly, SweepSpec
from sweeps.sweep import Sweep

__all__ = [
    "Budget",
    "Champion",
    "Confirm",
    "Constraint",
    "Evaluate",
    "Export",
    "Judge",
    "LoadedSpec",
    "Search",
    "StopEarly",
    "Sweep",
    "SweepSpec",
    "load_spec",
    "read_spec",
    "resolve",
]
