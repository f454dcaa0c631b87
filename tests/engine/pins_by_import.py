"""What the tests of pins import inside of tasks."""

lazy = None


def get():
    return lazy
