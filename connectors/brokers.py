"""Where the Kafka brokers are, how to log in there, and what can be wrong with them; without the client, so that to read a configuration is cheap."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field

from connectors.errors import ConfigError, FatalError, TransientError

PROBE_SECONDS = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Brokers:
    """Addresses, and how they and we prove who we are: TLS, a user with a password (SASL), both, or nothing. Files are PEM."""

    bootstrap: str
    protocol: str = "PLAINTEXT"
    mechanism: str | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    authority: str | None = None
    certificate: str | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """The volume under one folder of a broker's log."""

    broker: int
    folder: str
    free_bytes: int
    total_bytes: int


def listening(bootstrap: str) -> list[str]:
    """The addresses in kafka.bootstrap, when somebody listens at one of them; raises `BrokerUnavailable` when nobody does.

    The library would try for long and leave a thread behind for every try.
    """
    addresses = [address.strip() for address in bootstrap.split(",")]
    problem = ""
    for address in addresses:
        host, _, port = address.rpartition(":")
        if not host or not port.isdigit():
            raise ConfigError(f"kafka.bootstrap: {address} is not host:port")
        try:
            with socket.create_connection((host.strip("[]"), int(port)), timeout=PROBE_SECONDS / len(addresses)):
                return addresses
        except (OSError, OverflowError) as error:
            problem = type(error).__name__
    raise BrokerUnavailable(
        f"no Kafka broker can be reached at {', '.join(addresses)} ({problem}): does it run, and is kafka.bootstrap right? nothing was lost"
    )


class BrokerUnavailable(TransientError):
    """The Kafka brokers do not answer; it is tried again and nothing was lost."""

    code = "LT-KFK-001"


class TopicShapeError(ConfigError):
    """A topic has another number of partitions than is configured; the order of records would break."""

    code = "LT-KFK-002"


class BrokerRefuses(TransientError):
    """The Kafka brokers do not accept our log-in, or it may not do this; it is tried again, because an administrator can change that."""

    code = "LT-KFK-004"


class PositionLost(FatalError):
    """The stored position is not in the topic any more: data was deleted before it was read, or the topic was made anew."""

    code = "LT-KFK-003"

    def __init__(self, topic: str, partition: int, position: int) -> None:
        super().__init__(
            f"{topic}-{partition}: the stored position {position} is not in the topic any more, so data was deleted before it was read, or "
            "the topic was made anew; nothing is passed over. Read all sources again: `lienthong load --all --new-epoch`"
        )
        self.topic, self.partition, self.position = topic, partition, position
