"""MqttSettings: address and options of an MQTT broker."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cascade.spec.checks import check_count, check_seconds
from cascade.spec.errors import ArgumentError
from cascade.spec.nearby import did_you_mean
from cascade.spec.wording import short

#: Prefix of the environment variables; the name of the setting follows.
PREFIX = "CASCADE_MQTT_"
_PORTS = {"mqtt": 1883, "mqtts": 8883}
_EXAMPLE = "'mqtt://host:1883', or 'mqtts://host:8883' with TLS"


@dataclass(frozen=True, kw_only=True)
class MqttSettings:
    """The address of the broker, our identity, and timeouts.

    Secrets appear in no ``repr`` and no message. Files are read at each connection, so renewed
    files take effect.

    Raises:
        ArgumentError: A setting is invalid, or two settings contradict each other.
    """

    #: ``mqtt://host[:port]``, or ``mqtts://host[:port]`` with TLS.
    url: str
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    #: A file with the password on its first line, in place of ``password``.
    password_file: str | None = None
    #: Certificates (PEM) of the authorities for the broker; the system's by default.
    ca_file: str | None = None
    #: Our own certificate and its key (PEM, not encrypted), if the broker requires one.
    cert_file: str | None = None
    key_file: str | None = None
    #: The name of the connection, unique at the broker; random by default.
    client_id: str | None = None
    #: 1: a message is sent until the broker confirms it, and may arrive twice. 0: it is sent once,
    #: and lost with the connection.
    qos: int = 1
    #: Seconds for each answer of the broker.
    timeout: float = 10.0
    #: Seconds of silence before the connection is tested.
    keepalive: int = 30
    #: Seconds before the first reconnect. Each later pause is twice as long, up to the second
    #: number, plus a random part of up to half.
    reconnect_min: float = 0.5
    reconnect_max: float = 30.0
    #: Most messages that wait for a connection.
    max_queued: int = 1000

    def __post_init__(self) -> None:
        self._check_types()
        self._check_url()
        self._check_secrets()
        self._check_tls()
        # qos 2 promises exactly once, which does not hold when the connection is lost.
        if self.qos not in (0, 1) or isinstance(self.qos, bool):
            raise ArgumentError(f"qos must be 0 or 1, but is {short(self.qos)}")
        for name in ("timeout", "reconnect_min", "reconnect_max"):
            check_seconds(name, getattr(self, name))
        check_count("max_queued", self.max_queued)
        check_count("keepalive", self.keepalive)
        if self.keepalive > 65535:
            raise ArgumentError(f"keepalive must be at most 65535, but is {self.keepalive}")
        if self.reconnect_max < self.reconnect_min:
            raise ArgumentError(
                f"reconnect_max must not be less than reconnect_min, but {self.reconnect_max} is "
                f"less than {self.reconnect_min}"
            )

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> MqttSettings:
        """The settings of the environment: ``CASCADE_MQTT_URL``, ``CASCADE_MQTT_USERNAME`` ….

        Each variable is named like its setting, in capitals. An empty one counts as not set.

        Raises:
            ArgumentError: The URL is missing, a variable matches no setting, or a value is invalid.
        """
        environ = os.environ if environ is None else environ
        known = {PREFIX + setting.name.upper(): setting for setting in fields(cls)}
        values: dict[str, Any] = {}
        for variable, text in environ.items():
            if not variable.startswith(PREFIX) or not text:
                continue
            if variable not in known:
                near = did_you_mean(
                    variable.removeprefix(PREFIX), [name.removeprefix(PREFIX) for name in known]
                )
                raise ArgumentError(
                    f"the environment variable {variable} is no setting{near}; those are "
                    + ", ".join(known)
                )
            setting = known[variable]
            values[setting.name] = _parse(variable, text, setting.default)
        if "url" not in values:
            raise ArgumentError(
                f"the environment variable {PREFIX}URL is not set; it says where the broker is: "
                + _EXAMPLE
            )
        return cls(**values)

    @property
    def host(self) -> str:
        """The broker's name or address."""
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        """The broker's port."""
        parts = urlsplit(self.url)
        return parts.port or _PORTS[parts.scheme]

    @property
    def uses_tls(self) -> bool:
        """Whether the connection is encrypted."""
        return urlsplit(self.url).scheme == "mqtts"

    def read_password(self) -> str | None:
        """The password, from its file if there is one.

        Raises:
            ArgumentError: The file cannot be read, or has no password.
        """
        if self.password_file is None:
            return self.password
        try:
            text = Path(self.password_file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            # Without the error's text: for a file that is not UTF-8 it would show the content.
            why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise ArgumentError(
                f"password_file {short(self.password_file)} cannot be read: {why}"
            ) from None
        password = text.partition("\n")[0]
        if not password:
            raise ArgumentError(
                f"password_file {short(self.password_file)} has no password on its first line"
            )
        return password

    def _check_types(self) -> None:
        for setting in fields(self):
            value = getattr(self, setting.name)
            if setting.default is not None or value is None:
                continue
            if not isinstance(value, str) or not value:
                shown = "" if setting.name == "password" else f" {short(value)}"
                raise ArgumentError(
                    f"{setting.name} must be a str that is not empty, but is{shown} of type "
                    f"{type(value).__name__}"
                )
            # Passwords are bytes to the broker; all others are text or file names.
            if setting.name not in ("url", "password") and any(map(_is_control, value)):
                raise ArgumentError(
                    f"{setting.name} must have no control characters, but is {short(value)}"
                )

    def _check_url(self) -> None:
        if not isinstance(self.url, str):
            raise ArgumentError(f"url must be a str, {_EXAMPLE}, but is {short(self.url)}")
        if "@" in self.url:  # before any message could show it
            raise ArgumentError(
                "url holds credentials, which would be visible wherever it is shown; give them as "
                "username and password, or password_file"
            )
        # urlsplit() silently removes some of these, and the host would be another one.
        if " " in self.url or not self.url.isprintable():
            raise ArgumentError(
                "url must have no spaces, control characters or characters that are not seen, but "
                f"is {short(self.url)}"
            )
        try:
            parts = urlsplit(self.url)
            port = parts.port
        except ValueError as error:
            raise ArgumentError(f"url {short(self.url)} cannot be read: {error}") from None
        if parts.scheme not in _PORTS or not parts.hostname or port == 0:
            raise ArgumentError(f"url must be like {_EXAMPLE}, but is {short(self.url)}")
        if parts.path.strip("/") or parts.query or parts.fragment:
            raise ArgumentError(
                f"url {short(self.url)} has a part after the port, which has no meaning for a "
                f"broker"
            )

    def _check_secrets(self) -> None:
        if self.password is not None and self.password_file is not None:
            raise ArgumentError("password and password_file are both given; give one of them")
        if self.username is None and (self.password or self.password_file):
            raise ArgumentError("a password is given and no username, which MQTT does not allow")

    def _check_tls(self) -> None:
        if self.key_file is not None and self.cert_file is None:
            raise ArgumentError("key_file is given without the cert_file that it belongs to")
        given = [name for name in ("ca_file", "cert_file", "key_file") if getattr(self, name)]
        if given and not self.uses_tls:
            raise ArgumentError(
                f"{', '.join(given)} is for TLS, but url is {short(self.url)}; write mqtts://"
            )


def _is_control(character: str) -> bool:
    return character < " " or "\x7f" <= character < "\xa0"


def _parse(variable: str, text: str, default: Any) -> Any:
    """The value of an environment variable, of the type of the setting's default."""
    kinds: dict[type, tuple[Callable[[str], Any], str]] = {
        int: (int, "a whole number"),
        float: (float, "a number"),
    }
    if type(default) not in kinds:
        return text
    parse, kind = kinds[type(default)]
    try:
        return parse(text)
    except ValueError:
        raise ArgumentError(
            f"the environment variable {variable} must be {kind}, but is {short(text)}"
        ) from None
