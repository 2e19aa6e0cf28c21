"""The command line: a file per verb.

Owns: flags, exit codes, files that are written, progress and Ctrl-C. Leaves to others: everything
that is computed or drawn. Imported for `--help` too, so that nothing heavy is imported before a
verb runs.
"""
