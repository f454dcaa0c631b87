"""Agents: tasks that loop by tail calls until they are done."""
