"""What to change, and what it would do: rules on a run's figures, and replays of their advice.

Owns: the way from measurements to a verdict. Leaves to others: measuring (`kvatlas.measure`),
showing (`kvatlas.report`).
"""

from kvatlas.plan.effects import measure_effects
from kvatlas.plan.reload import reload_workload
from kvatlas.plan.rules import RULES, Rule, evaluate
from kvatlas.plan.setup import Setup
from kvatlas.plan.verdict import verdict
from kvatlas.plan.what_if import Budget, WhatIf, replay_figures

__all__ = [
    "RULES",
    "Budget",
    "Rule",
    "Setup",
    "WhatIf",
    "evaluate",
    "measure_effects",
    "reload_workload",
    "replay_figures",
    "verdict",
]
