"""The threads of a graph run, their queue, and the lock that they share."""
