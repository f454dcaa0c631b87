"""Watching, measuring and simulating running programs.

Here: ``agents`` (programs that loop by tail calls), ``monitors`` (what a bus tells, counted and
shown), ``pictures`` (graphs as self-contained pages), ``sources`` (Python source trees as input).
"""
