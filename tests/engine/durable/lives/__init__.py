"""Runs whose processes are killed, stopped or copied, many times. ``series`` is the command.

One process imports everything and starts no thread. It forks each process of each trial, kills them
by the trial's seed, and judges by what tasks have noted and what is in the store.
"""
