"""Rules of the language that act on the nodes of a graph run, before and after their calls.

Rules that need no run are in ``cascade.runtime.semantics``.
"""
