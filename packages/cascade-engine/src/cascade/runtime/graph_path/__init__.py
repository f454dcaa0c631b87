"""Graph runs: they execute the nodes of a graph, and let nodes enter compiled loops.

``strategy`` makes the parts of a run. ``dispatching`` sends each ready node to one of the
``lanes``, which make its calls on the ``threads`` of workers or in the event loop's thread.
``rules`` applies rules of the language before and after a call; ``looping`` executes nodes whose
tail calls are a compiled loop. ``graphless`` executes small runs without any of this.
"""
