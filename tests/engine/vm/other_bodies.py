"""Tasks of another file, for those in bodies.py to continue as."""

import cascade as cs


@cs.task
def count_down(n):
    return count_down.tail(n - 1) if n else "counted down"


@cs.task
def back(n, to):
    return to.tail(n - 1) if n > 0 else "back"
