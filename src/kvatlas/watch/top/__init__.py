"""`kvatlas top`: an engine's memory in a terminal, over SSH, at 80 columns by 24 lines or more.

Owns: keys, screens, and how a moment is drawn in characters. Leaves to others: the moment
(`kvatlas.watch.board`). Only `app` needs Textual; drawing needs Rich alone.
"""
