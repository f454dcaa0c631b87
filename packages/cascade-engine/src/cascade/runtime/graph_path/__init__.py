"""Running graphs: nodes, workers, the event loop, and the loops that nodes enter."""
