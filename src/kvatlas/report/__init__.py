"""Views: what was measured, shown in a terminal, as JSON, as one HTML page.

Owns: presentation, a file per view. Leaves to others: every number. A view gets a frozen document
and computes nothing that is not about its own layout.
"""
