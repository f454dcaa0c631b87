"""Runs that need no graph: a few plain calls, or nothing but one coroutine loop."""
