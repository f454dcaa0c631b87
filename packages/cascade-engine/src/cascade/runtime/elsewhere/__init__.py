"""Calls of tasks in other processes: made there, and followed here."""
