"""Benchmarks: contenders timed in turns, compared within rounds, reported with their environment.

- ``rounds`` measures; ``program`` runs sections and writes ``findings``; ``tables`` and ``pages``
  show them, in a terminal, as Markdown and as HTML.
- ``graphs``, ``steps``, ``limits`` and ``imports`` are the programs; ``suites`` names their parts.
- ``shapes``, ``loops``, ``contenders`` and ``peers`` are the contenders; ``delays``, ``wakeups``
  and
  ``memory`` measure without rounds.
"""
