"""One run on either path: its state, the placement of its calls, and their cancelling."""
