"""A module that the tests of pins import inside tasks."""

lazy = None


def get():
    return lazy
