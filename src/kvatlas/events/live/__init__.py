"""A running vLLM's recording as events and as calls, read from a folder of segments.

Owns: reading what the plugin wrote. Leaves to others: writing it (`kvatlas.live`), its words
(`kvatlas.wire`), what a file of events is (`kvatlas.events`).
"""
