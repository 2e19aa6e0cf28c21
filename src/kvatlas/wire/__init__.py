"""The wire: what a recorder inside an engine process writes, word by word, and how it is kept.

Owns: the records' layout (`layout`), segment files and their bound (`segment_log`), reading them
while they are written (`segment_reader`). Leaves to others: filling records (`kvatlas.live`) and
what they mean (`kvatlas.events.live`). Standard library only: it is imported into the engine.
"""
