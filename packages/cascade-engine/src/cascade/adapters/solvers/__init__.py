"""Solvers: the order in which nodes that could run do run."""
