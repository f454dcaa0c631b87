"""Benchmarks: contenders timed in turns, compared within rounds, reported with their environment.

- ``rounds`` measures; ``program`` runs sections and writes ``findings``; ``tables`` and ``pages``
  show them, in a terminal, as Markdown and as HTML; ``quotes`` writes what other pages quote.
- ``graphs``, ``nodes`` (with ``coroutines`` and ``maps``), ``steps``, ``small_runs`` (with
  ``fleets``), ``limits``, ``clusters`` and ``imports`` are the programs; ``suites`` names their
  parts.
- ``shapes``, ``awaiting``, ``loops``, ``contenders``, ``peers`` and ``cluster_peers`` (with
  ``dask_floor`` and ``ray_floor``, by hand) are the contenders; ``called_elsewhere`` has the
  functions that other processes call; ``delays``, ``wakeups`` and ``memory`` measure without
  rounds; ``pythons`` and ``elsewhere`` measure on other Pythons.
"""
