"""Durable runs: what a run knows is committed to a store, and another process can go on with it.

``runs`` begins, resumes and ends a durable run. ``journal`` is what the machinery of graphs asks
and tells. ``writer`` commits for all runs of an engine. ``owner`` names this process.
"""
