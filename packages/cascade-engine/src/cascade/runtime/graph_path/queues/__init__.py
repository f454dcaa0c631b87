"""Queues: nodes that wait for a worker, a limit, a resource or their next attempt."""
