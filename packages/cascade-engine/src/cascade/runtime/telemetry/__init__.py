"""Subscribers to events: lines, bars, logs, tallies, and what leaves the process."""
