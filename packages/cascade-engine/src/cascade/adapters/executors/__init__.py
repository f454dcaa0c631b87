"""Executors: where sync functions run."""
