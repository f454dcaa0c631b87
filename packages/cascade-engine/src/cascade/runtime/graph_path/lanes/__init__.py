"""Lanes: where the calls of nodes are made, on workers and in the event loop's thread."""
