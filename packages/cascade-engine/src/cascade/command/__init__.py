"""The ``cascade`` command, of the extra ``cascade-engine[cli]``.

``main`` is where it begins, ``app`` lists the commands, and each group of commands is a module
whose functions they are: ``running`` and ``views`` so far. A command is imported when it is called
or when all of them are looked at, for near names and completion. So such a module imports the
engine inside of its functions, and ``cascade --help`` stays quick. What is wrong with the words
that were typed is a ``UsageError``; every other error is the program's. A command is a function,
also a coroutine function, that returns None or an exit code, or a cyclopts ``App`` of its own name
with commands below it.
"""
