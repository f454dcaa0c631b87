"""Implementations of ``cascade.spec.protocols``, one folder per protocol."""
