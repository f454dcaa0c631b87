"""The control plane: other processes watch and steer engines, over a Connector.

``messages`` defines topics and payloads, ``telemetry`` publishes events, ``status`` publishes the
state of engines, and ``plane`` ties an engine to a connector.
"""
