"""Watching, measuring and simulating running programs.

Here: ``agents`` (programs that loop by tail calls), ``benchmarks`` (contenders timed in turns),
``pictures`` (graphs and curves on self-contained pages), ``sources`` (Python source trees as
input).
"""
