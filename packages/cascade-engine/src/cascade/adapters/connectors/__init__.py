"""Connectors: buses between engines and the outside."""

from cascade.adapters.connectors.local import LocalConnector
from cascade.adapters.connectors.memory import MemoryBroker, MemoryConnector
from cascade.adapters.connectors.mqtt import MqttConnector
from cascade.adapters.connectors.mqtt_settings import MqttSettings
from cascade.adapters.connectors.outbox import Message
from cascade.adapters.connectors.topics import check_pattern, check_topic, matches

__all__ = [
    "LocalConnector",
    "MemoryBroker",
    "MemoryConnector",
    "Message",
    "MqttConnector",
    "MqttSettings",
    "check_pattern",
    "check_topic",
    "matches",
]
