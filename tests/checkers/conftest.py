# These are for checkers; imported by pytest, for examples in docstrings, they would run.
collect_ignore = ["definitions.py", "uses.py", "mistakes.py"]
