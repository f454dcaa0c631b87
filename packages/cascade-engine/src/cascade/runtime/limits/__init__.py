"""Limits: how many calls may run at once, how often they start, and whether at all (rule R10).

*Capacities* are amounts that an engine has and attempts take (``capacities``). *Constraints* are
rules from outside that may change while the engine runs (``constraints``). Each attempt asks for
both together with a Permit, which takes all that it needs at once or nothing. A permit that lacks
something waits in one queue, until a release admits it.
"""
