"""Subscribers: what a bus tells of runs, for people, logs and other programs."""
