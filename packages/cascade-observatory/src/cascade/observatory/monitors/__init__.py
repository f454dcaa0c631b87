"""Monitors: what the message bus tells of runs, counted and shown."""
