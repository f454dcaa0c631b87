"""What errors and warnings say: notes, tracebacks, calls that block."""
