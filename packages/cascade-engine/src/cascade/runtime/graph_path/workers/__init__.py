"""The worker threads of a graph run: how many there are, what they wait for, and how they end."""
