"""The memory budget: from a model and a device to weights, activations, graphs and the KV cache.

`budget` answers a `BudgetRequest`, `verdict` says whether it fits, `vllm_flags` which flags to
give; `read_startup_log` and `measured` read what a real server found, `compare` puts both side by
side; `read_load` replays a memory snapshot for the buffer against fragmentation.
"""

from kvatlas.budget.devices import DEVICES, Device, find_device
from kvatlas.budget.fit import GroupFacts, Pool
from kvatlas.budget.flags import Flag, command_line, replay_line, vllm_flags
from kvatlas.budget.log_lines import LogFacts
from kvatlas.budget.measured import Measured, Row, compare, log_notes, measured, with_measured
from kvatlas.budget.parameters import weights_of
from kvatlas.budget.plan import Budget, StageBudget, budget
from kvatlas.budget.quantization import QUANTIZATIONS, WEIGHT_DTYPES, Quantization
from kvatlas.budget.recorded_load import RecordedLoad, read_load
from kvatlas.budget.request import BudgetRequest
from kvatlas.budget.startup_log import StartupLog, read_startup_log
from kvatlas.budget.verdict import LengthFit, Verdict, length_fits, verdict
from kvatlas.budget.waterfall import Buffers, Term, Waterfall
from kvatlas.budget.weights import Parallel, Weight

__all__ = [
    "DEVICES",
    "QUANTIZATIONS",
    "WEIGHT_DTYPES",
    "Budget",
    "BudgetRequest",
    "Buffers",
    "Device",
    "Flag",
    "GroupFacts",
    "LengthFit",
    "LogFacts",
    "Measured",
    "Parallel",
    "Pool",
    "Quantization",
    "RecordedLoad",
    "Row",
    "StageBudget",
    "StartupLog",
    "Term",
    "Verdict",
    "Waterfall",
    "Weight",
    "budget",
    "command_line",
    "compare",
    "find_device",
    "length_fits",
    "log_notes",
    "measured",
    "read_load",
    "read_startup_log",
    "replay_line",
    "verdict",
    "vllm_flags",
    "weights_of",
    "with_measured",
]
