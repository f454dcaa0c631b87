"""The control plane: engines are watched and steered from outside, over a Connector.

``messages`` has the topics and the form of what is said, ``telemetry`` tells of what happens,
``status`` of how things stand, and ``plane`` ties an engine to a connector.
"""
