"""Live: what runs inside a vLLM process and writes a recording of it; standard library only.

Owns: the plugin, its hooks, the recorder, the memory monitor. Leaves to others: reading a recording
(`kvatlas.events.live`) and showing it (`kvatlas.watch`).
"""
