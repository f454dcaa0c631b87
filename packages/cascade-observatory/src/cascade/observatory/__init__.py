"""Watching, measuring and simulating running programs."""
