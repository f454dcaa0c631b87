"""Subscribers to events: lines, bars, logs, tallies, and texts for other processes."""
