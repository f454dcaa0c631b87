"""Limits: how much may run at once, how often, and whether at all (rule R10).

*Capacities* are amounts that an engine has and attempts take (``resources``), *constraints* are
rules from outside that may change while it runs (``constraints``). Both are asked together, before
each attempt, by a Permit: all that it needs is taken at once or not at all, and who cannot have it
waits in one queue (``queue``) until somebody who gives something back lets it in.
"""
