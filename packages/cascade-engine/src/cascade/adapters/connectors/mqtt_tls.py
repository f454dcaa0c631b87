"""TLS for MQTT connections."""

from __future__ import annotations

import ssl

from cascade.adapters.connectors.mqtt_settings import MqttSettings
from cascade.spec.errors import ArgumentError


class _ClosingSocket(ssl.SSLSocket):
    """A socket that does not outlive its handshake: paho-mqtt leaves it open when that fails."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except BaseException:
            self.close()
            raise


def tls_context(settings: MqttSettings) -> ssl.SSLContext:
    """The context that checks the broker's certificate and name, and presents our own.

    Raises:
        ArgumentError: A file is missing or invalid.
    """
    context = ssl.create_default_context()
    context.sslsocket_class = _ClosingSocket
    if settings.ca_file is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # trust only the authorities in the file
        context.sslsocket_class = _ClosingSocket
        try:
            context.load_verify_locations(settings.ca_file)
        except OSError as error:
            raise ArgumentError(
                f"ca_file {settings.ca_file!r} cannot be used: {error}; it holds certificates, PEM"
            ) from None
    if settings.cert_file is not None:
        try:
            # Without a password argument OpenSSL would ask for one on the terminal.
            context.load_cert_chain(settings.cert_file, settings.key_file, password="")
        except OSError as error:
            raise ArgumentError(
                f"cert_file {settings.cert_file!r} and key_file {settings.key_file!r} cannot be "
                f"used: {error}; they hold a certificate and its key, PEM, not encrypted"
            ) from None
    return context
