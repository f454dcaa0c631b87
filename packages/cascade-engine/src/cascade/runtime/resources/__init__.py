"""Injected resources: what a run has open, from its opening to its end."""
