"""Runs without a graph: a few calls that return plain values, or nothing but one coroutine loop.

Such a run gets its graph when a call gives anything else, or takes long, and goes on there.
"""
