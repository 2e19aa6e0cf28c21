"""What PyTorch makes of the text in `PYTORCH_CUDA_ALLOC_CONF`, and what it does not say about it.

Owns: `lint_text`, `lint_environment` and their findings. Leaves to others: the settings themselves
(`kvatlas.device.settings`), what they do to a load (`kvatlas.device.twin`).
"""

from kvatlas.device.conf.environment import Environment, lint_environment
from kvatlas.device.conf.findings import Finding, Level
from kvatlas.device.conf.lint import Lint, lint_text

__all__ = ["Environment", "Finding", "Level", "Lint", "lint_environment", "lint_text"]
