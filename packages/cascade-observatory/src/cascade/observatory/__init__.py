"""Watching, measuring and simulating running programs.

Here: ``agents`` (programs that loop by tail calls), ``benchmarks`` (contenders timed in turns),
``monitors`` (what a bus tells, counted and shown), ``pictures`` (graphs and curves on
self-contained pages), ``sources`` (Python source trees as input).
"""
