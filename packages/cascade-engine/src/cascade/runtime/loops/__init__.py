"""Loops of tail calls, compiled: fused, generated, and a trampoline for several tasks."""
