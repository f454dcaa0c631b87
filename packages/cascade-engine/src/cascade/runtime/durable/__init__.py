"""Durable runs: the state of a run is committed to a store, and another process can continue it.

``starting``, ``resuming`` and ``serving`` claim a run, and ``runs`` executes it and ends it in its
store. ``journal`` is what the machinery of graphs asks and tells. ``writer`` commits for all runs
of an engine. ``enqueuing`` and ``schedules`` create runs for workers.
"""
