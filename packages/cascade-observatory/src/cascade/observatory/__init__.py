"""Agents, experiments and benchmarks of running programs.

``agents`` are programs that loop by tail calls. ``experiments`` and ``benchmarks`` hold the parts
of the programs under ``observatory/`` in the repository. ``pictures`` draws charts and graphs, and
makes pages that load nothing; it needs the extra ``cascade-observatory[plots]``.
"""
