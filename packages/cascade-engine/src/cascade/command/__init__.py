"""The ``cascade`` command, of the extra ``cascade-engine[cli]``.

``main`` is the entry point, ``app`` lists the commands, and each group of commands is a module
whose functions are the commands. A module is imported when one of its commands is called, or when
all are inspected, for similar names and completion. These modules therefore import the engine
inside functions, so that ``cascade --help`` stays quick. A fault in the command line is a
``UsageError``; every other error belongs to the program. A command is a function or coroutine
function that returns None or an exit code, or a cyclopts ``App`` with its own name and subcommands.
"""
