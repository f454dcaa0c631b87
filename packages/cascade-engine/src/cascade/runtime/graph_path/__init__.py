"""Graph runs: they execute the nodes of a graph, and let nodes enter compiled loops.

``strategy`` makes the parts of a run. ``dispatch`` sends each ready node to one of the ``lanes``,
which make its calls on the threads of ``workers`` or in the event loop's thread. Nodes wait in
``queues``. ``node_rules`` applies rules of the language before and after a call; ``compiled_loops``
executes nodes whose tail calls are a compiled loop. ``small_runs`` executes small runs without any
of this.
"""
