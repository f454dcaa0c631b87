"""Benchmarks: contenders timed in turns, compared within rounds, reported with their surroundings.

``rounds`` measures, ``targets``, ``tables`` and ``surroundings`` make the report. ``shapes`` are
graphs of trivial tasks, ``contenders`` and ``peers`` what computes them; ``loops`` and
``loop_peers`` are these for loops. ``memory`` and ``delays`` measure what is no matter of rounds.
``suites`` says what is measured by which program, and ``whole_report`` makes one page of it. The
programs that measure are in the repository, under ``observatory/benchmarks``.
"""
