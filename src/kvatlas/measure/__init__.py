"""Figures: what the counts, sums and times of a run mean, by the names of the metrics page.

Owns: formulas, units, and saying why a figure is not there. Knows neither the engine nor a view:
what it measures may come from a replay or from a live server.
"""

from kvatlas.measure.figures import Figures
from kvatlas.measure.replay import Conditions, Outcome, measure_ceiling, measure_replay

__all__ = ["Conditions", "Figures", "Outcome", "measure_ceiling", "measure_replay"]
