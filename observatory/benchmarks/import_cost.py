"""What ``import cascade`` costs, in milliseconds over a bare Python.

    hatch run bench-import
    hatch run bench-import --rounds 101 --json import_cost.json

All that is compared is timed in the same rounds: see ``cascade.observatory.benchmarks.rounds``.
The garbage collector is left on. Whether a target is met is printed and does not change the exit
status: on a busy machine ratios are still telling, but not as sharp. ``--help`` lists the sections.
"""

from cascade.observatory.benchmarks.imports import PROGRAM

if __name__ == "__main__":
    PROGRAM.start()
