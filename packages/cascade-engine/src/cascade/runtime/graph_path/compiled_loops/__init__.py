"""Nodes in compiled loops: how they enter one, make batches of its steps, and leave it."""
