"""Contents of errors and warnings: notes, tracebacks, calls that block."""
