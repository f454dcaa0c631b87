"""Help for type checkers: a plugin for mypy, and stubs. Programs do not import it."""
