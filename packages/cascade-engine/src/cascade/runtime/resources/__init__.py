"""Injected resources: the open resources of a run, from their opening to its end."""
