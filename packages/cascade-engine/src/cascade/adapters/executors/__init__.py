"""Executors: the threads of plain functions."""
