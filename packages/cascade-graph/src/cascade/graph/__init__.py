"""Planning: from lazy values to graphs, drawings, JSON and compiled blueprints.

This layer turns a program into data and runs nothing; it imports only ``cascade.spec``. Names live
in the modules (``cascade.graph.build``, ``cascade.graph.compiler``, …).
"""
