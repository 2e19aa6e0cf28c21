"""What to change, and what it would do: rules on a run's figures, and replays of their advice.

Owns: the way from measurements to a verdict. Leaves to others: measuring (`kvatlas.measure`),
showing (`kvatlas.report`).
"""

from kvatlas.plan.auto_block_size import ChosenBlockSize, choose_block_size
from kvatlas.plan.block_size import (
    AdaptiveBlockSizer,
    BlockSizeAdvice,
    BlockSizeEstimate,
    expected_waste,
)
from kvatlas.plan.block_size_replay import MeasuredBlockSize, measure_block_sizes
from kvatlas.plan.effects import measure_effects
from kvatlas.plan.reload import reload_workload
from kvatlas.plan.rules import RULES, Rule, evaluate
from kvatlas.plan.setup import Setup
from kvatlas.plan.verdict import verdict
from kvatlas.plan.what_if import Budget, WhatIf, replay_figures

__all__ = [
    "RULES",
    "AdaptiveBlockSizer",
    "BlockSizeAdvice",
    "BlockSizeEstimate",
    "Budget",
    "ChosenBlockSize",
    "MeasuredBlockSize",
    "Rule",
    "Setup",
    "WhatIf",
    "choose_block_size",
    "evaluate",
    "expected_waste",
    "measure_block_sizes",
    "measure_effects",
    "reload_workload",
    "replay_figures",
    "verdict",
]
