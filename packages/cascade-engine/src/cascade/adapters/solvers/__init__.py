"""Solvers: the order of ready nodes."""
