"""Dispatch: the lane of each ready node, and what nodes wait for without a thread."""
