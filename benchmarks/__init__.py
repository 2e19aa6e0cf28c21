"""How fast kvatlas is, in one command: `python -m benchmarks --help`."""
