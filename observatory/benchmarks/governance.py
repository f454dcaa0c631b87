"""What limits cost: idle ones, those that hold, and how soon a waiting call is woken.

    hatch run bench-limits
    hatch run bench-limits --quick
    hatch run bench-limits --only wake-ups

All that is compared is timed in the same rounds: see ``cascade.observatory.benchmarks.rounds``.
The garbage collector is left on. Whether a target is met is printed and does not change the exit
status: on a busy machine ratios are still telling, but not as sharp. ``--help`` lists the sections.
"""

from cascade.observatory.benchmarks.limits import PROGRAM

if __name__ == "__main__":
    PROGRAM.start()
