"""The door to Kafka: a producer that waits for acknowledgements, a consumer that starts where our database says, topics."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from kafka import ConsumerRebalanceListener, KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, NewTopic
from kafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from kafka.errors import (
    AuthorizationError,
    InvalidRecordError,
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    OffsetOutOfRangeError,
    SaslAuthenticationFailedError,
    TopicAlreadyExistsError,
)

from connectors.brokers import BrokerRefuses, Brokers, BrokerUnavailable, Disk, PositionLost, TopicShapeError, listening
from connectors.errors import FatalError

logging.getLogger("kafka").setLevel(logging.CRITICAL)  # it logs every retry; our own lines say what matters

MESSAGE_BYTES_MAX = 900_000  # below the broker's and the client's default of 1 MiB (protocol R7)
BOOTSTRAP_MILLIS = 6_000  # with the probe before it: whoever asks brokers that are down knows it within ten seconds
SEND_SECONDS = 30


def client_options(at: Brokers | str) -> dict[str, Any]:
    """What every client is made with; raises `BrokerUnavailable` when nobody listens at any of the addresses."""
    brokers = at if isinstance(at, Brokers) else Brokers(bootstrap=at)
    return {
        "bootstrap_servers": listening(brokers.bootstrap),
        "bootstrap_timeout_ms": BOOTSTRAP_MILLIS,
        "security_protocol": brokers.protocol,
        "sasl_mechanism": brokers.mechanism,
        "sasl_plain_username": brokers.username,
        "sasl_plain_password": brokers.password,
        "ssl_cafile": brokers.authority,
        "ssl_certfile": brokers.certificate,
        "ssl_keyfile": brokers.key,
    }


@dataclass(frozen=True, slots=True)
class Message:
    """One message as read from a partition."""

    topic: str
    partition: int
    offset: int
    timestamp_millis: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]


def _messages(batches: dict[TopicPartition, list[Any]]) -> list[Message]:
    return [Message(r.topic, r.partition, r.offset, r.timestamp, r.key, r.value, tuple(r.headers or ())) for batch in batches.values() for r in batch]


@contextlib.contextmanager
def errors_translated() -> Iterator[None]:
    """Turn client errors inside into ours."""
    try:
        yield
    except OffsetOutOfRangeError as error:
        place, position = next(iter(error.args[0].items()))
        raise PositionLost(place.topic, place.partition, position) from None
    except (InvalidRecordError, MessageSizeTooLargeError) as error:
        raise FatalError(f"the Kafka brokers refuse a message ({type(error).__name__}); nothing was passed over") from None
    except (SaslAuthenticationFailedError, AuthorizationError) as error:
        raise BrokerRefuses(
            f"the Kafka brokers refuse our log-in or do not let it do this ({type(error).__name__}): check kafka.security and the user's rights "
            "(docs/deployment.md); nothing was lost"
        ) from None
    except KafkaTimeoutError:  # kafka-python 3.0.12 tries a refused log-in again, too, until its time is over
        raise BrokerUnavailable(
            "the Kafka brokers do not answer in time: do they run, and is kafka.security what they ask for (TLS, user, password)? nothing was lost"
        ) from None
    except (KafkaError, OSError) as error:
        raise BrokerUnavailable(f"the Kafka brokers do not answer ({type(error).__name__}); nothing was lost") from None


class Producer:
    """Sends with acks=all and idempotence; `flush` returns only when everything sent before is acknowledged.

    After a failed `flush` the client is thrown away: kafka-python 3.0.12 may wait minutes for a broker's answer that will never come
    (a killed broker, an indefinite state of the idempotent producer), while the brokers have long been back.
    """

    def __init__(self, at: Brokers | str, *, client_id: str, linger_ms: int = 0) -> None:
        self._at, self._client_id, self._linger_ms = at, client_id, linger_ms
        self._pending: list[Any] = []
        self._client: Any = None
        with errors_translated():
            self._open()

    def _open(self) -> Any:
        if self._client is None:
            self._client = KafkaProducer(
                **client_options(self._at),
                client_id=self._client_id,
                acks="all",
                enable_idempotence=True,
                linger_ms=self._linger_ms,
                batch_size=262_144,
                max_request_size=1_000_000,
                compression_type="lz4",
                request_timeout_ms=20_000,
                delivery_timeout_ms=SEND_SECONDS * 1000,
                max_block_ms=10_000,
            )
        return self._client

    def send(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: bytes | None = None,
        partition: int | None = None,
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> None:
        """Queue one message."""
        with self._dropped_on_failure():
            self._pending.append(self._open().send(topic, value=value, key=key, partition=partition, headers=list(headers) or None))

    def flush(self) -> dict[str, tuple[int, int]]:
        """Wait until all messages are acknowledged; raises if one was not. Returns the first and last offset by topic (for one partition)."""
        offsets: dict[str, tuple[int, int]] = {}
        if not self._pending:
            return offsets
        with self._dropped_on_failure():
            self._client.flush(timeout=SEND_SECONDS + 5)
            for future in self._pending:
                if not future.succeeded():
                    future.get(timeout=0.1)
                sent = future.value
                first, last = offsets.get(sent.topic, (sent.offset, sent.offset))
                offsets[sent.topic] = (min(first, sent.offset), max(last, sent.offset))
            self._pending.clear()
        return offsets

    @contextlib.contextmanager
    def _dropped_on_failure(self) -> Iterator[None]:
        try:
            with errors_translated():
                yield
        except Exception:  # whatever it was, what is queued has an unknown fate: it goes, and the caller sends again from its position
            self._drop(0)
            raise

    def _drop(self, timeout_seconds: float) -> None:
        self._pending.clear()
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(KafkaError, OSError):
                client.close(timeout=timeout_seconds)

    def close(self) -> None:
        """Stop without waiting for what is unsent: the caller's position has not passed it."""
        self._drop(2)


class _Positions(ConsumerRebalanceListener):  # type: ignore[misc]
    def __init__(self, owner: Consumer) -> None:
        self._owner = owner

    def on_partitions_revoked(self, revoked: Sequence[TopicPartition]) -> None:
        self._owner.lost({(tp.topic, tp.partition) for tp in revoked})

    def on_partitions_assigned(self, assigned: Sequence[TopicPartition]) -> None:
        self._owner.seek_stored([(tp.topic, tp.partition) for tp in assigned])


class Consumer:
    """Reads topics in a group, always starting at the position the target database stores, never at Kafka's own.

    `stored(topic, partition)` answers the next offset to read, or None for "from the beginning". A position that is not in the topic
    any more is never jumped over: its partition rests and `lost` is told, or, without that, `poll` raises `PositionLost`.
    """

    def __init__(
        self,
        at: Brokers | str,
        topics: Sequence[str],
        *,
        group: str,
        stored: Callable[[str, int], int | None],
        client_id: str,
        batch_max: int = 5000,
        lost: Callable[[PositionLost], None] | None = None,
    ) -> None:
        self._stored = stored
        self._lost = lost
        self.generation = 0
        with errors_translated():
            self._consumer = KafkaConsumer(
                **client_options(at),
                client_id=client_id,
                group_id=group,
                # By ranges, topics of one partition all go to one member: every target to one apply process.
                partition_assignment_strategy=[RoundRobinPartitionAssignor],
                enable_auto_commit=False,
                auto_offset_reset="none",
                allow_auto_create_topics=False,
                isolation_level="read_committed",
                max_poll_records=batch_max,
                fetch_max_bytes=8 * 1024 * 1024,
                max_partition_fetch_bytes=2 * 1024 * 1024,
                fetch_max_wait_ms=250,
                session_timeout_ms=15_000,
                heartbeat_interval_ms=1_000,
                max_poll_interval_ms=300_000,
                metadata_max_age_ms=30_000,
            )
            self._consumer.subscribe(topics=list(topics), listener=_Positions(self))

    def lost(self, partitions: set[tuple[str, int]]) -> None:
        """Partitions were taken away; what was read of them must not be written any more."""
        if partitions:
            self.generation += 1

    def seek_stored(self, partitions: Sequence[tuple[str, int]]) -> None:
        """Go to the stored position of each partition, or to its beginning where nothing is stored, and read on also where it was paused."""
        for topic, partition in partitions:
            tp = TopicPartition(topic, partition)
            self._consumer.resume(tp)
            # What is left of a paused partition's fetch kafka-python 3.0.12 neither gives out, once another was read, nor fetches again.
            self._consumer._fetcher._paused_partition_records.pop(tp, None)
            position = self._stored(topic, partition)
            if position is None:
                self._consumer.seek_to_beginning(tp)
            else:
                self._consumer.seek(tp, position)

    def poll(self, timeout_ms: int) -> list[Message]:
        """The next messages, in order within each partition."""
        self._finish_join()
        try:
            with errors_translated():
                batches = self._consumer.poll(timeout_ms=timeout_ms)
        except PositionLost as problem:
            if self._lost is None:
                raise
            self.pause(problem.topic, problem.partition)
            self._lost(problem)
            return []
        return _messages(batches)

    def _finish_join(self) -> None:
        """Let a join that was still under way when the last poll ended be taken up by the next.

        kafka-python 3.0.12 forgets it when new metadata had asked for it: its leader has by then noted that metadata, sees no need to
        join, and neither gets partitions nor sends heartbeats ever again.
        """
        coordinator = self._consumer._coordinator
        if getattr(coordinator, "_join_task", None) is not None and not coordinator.need_rejoin():
            coordinator.request_rejoin()

    def assigned(self) -> set[tuple[str, int]]:
        """The partitions this process reads now."""
        return {(tp.topic, tp.partition) for tp in self._consumer.assignment()}

    def drained(self) -> set[tuple[str, int]]:
        """The partitions of which everything the brokers hold now was handed out; none when they do not answer."""
        assigned = list(self._consumer.assignment())
        try:
            ends = self._consumer.end_offsets(assigned, timeout_ms=2000) if assigned else {}
            return {(tp.topic, tp.partition) for tp, end in ends.items() if (self._consumer.position(tp, timeout_ms=1000) or 0) >= end}
        except (KafkaError, OSError):
            return set()

    def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        """The offsets of the first message and after the last message of a partition."""
        place = TopicPartition(topic, partition)
        with errors_translated():
            return self._consumer.beginning_offsets([place])[place], self._consumer.end_offsets([place])[place]

    def pause(self, topic: str, partition: int) -> None:
        """Fetch no more of a partition until `seek_stored`."""
        self._consumer.pause(TopicPartition(topic, partition))

    def close(self) -> None:
        """Leave the group."""
        with contextlib.suppress(KafkaError, OSError):
            self._consumer.close(autocommit=False)


class Admin:
    """Topics: make them, look at them. Disks of the brokers."""

    def __init__(self, at: Brokers | str) -> None:
        with errors_translated():
            self._admin = KafkaAdminClient(**client_options(at), request_timeout_ms=BOOTSTRAP_MILLIS)

    def partitions(self, topic: str) -> int | None:
        """How many partitions a topic has; None when it does not exist."""
        with errors_translated():
            found = [one for one in self._admin.describe_topics([topic]) if not one.get("error_code")]
        return len(found[0]["partitions"]) if found else None

    def disks(self) -> list[Disk]:
        """Those that the brokers tell of: since Kafka 3.3, to a user that may Describe the cluster."""
        with errors_translated():
            told = [(one["broker"], each) for one in self._admin.describe_log_dirs({}) for each in one["log_dirs"] if not each["error_code"]]
        return [
            Disk(broker=broker, folder=each["log_dir"], free_bytes=each["usable_bytes"], total_bytes=each["total_bytes"])
            for broker, each in told
            if each["total_bytes"] > 0
        ]

    def settings(self, topics: Sequence[str]) -> dict[str, dict[str, str]]:
        """Of each of these topics, which must exist: the settings that are its own."""
        with errors_translated():
            found = self._admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic) for topic in topics]) if topics else {}
        return {topic: {name: str(one["value"]) for name, one in own.items()} for by_name in found.values() for topic, own in by_name.items()}

    def ensure(self, topics: dict[str, int], *, replication: int, settings: dict[str, str]) -> None:
        """Create the missing topics; one with another partition count is a `TopicShapeError` (key order would break)."""
        for topic, wanted in topics.items():
            found = self.partitions(topic)
            if found is not None and found != wanted:
                raise TopicShapeError(
                    f"topic {topic} has {found} partitions where {wanted} are configured; "
                    "the partition count is fixed for the life of a topic: set kafka.partitions back or use a new cluster"
                )
            if found is None:
                self._create(topic, wanted, replication, settings)

    def _create(self, topic: str, partitions: int, replication: int, settings: dict[str, str]) -> None:
        with errors_translated(), contextlib.suppress(TopicAlreadyExistsError):
            self._admin.create_topics([NewTopic(name=topic, num_partitions=partitions, replication_factor=replication, topic_configs=settings)])

    def close(self) -> None:
        """Close the connections."""
        with contextlib.suppress(KafkaError, OSError):
            self._admin.close()


class Ends:
    """The ends of topics, outside of any group: the offset after the last message of each partition, that of the first, and what is between."""

    def __init__(self, at: Brokers | str) -> None:
        with errors_translated():
            self._consumer = KafkaConsumer(
                **client_options(at),
                group_id=None,
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                isolation_level="read_committed",
            )

    def of(self, topic: str) -> dict[int, int]:
        """Partition -> end offset; empty when the topic does not exist."""
        with errors_translated():
            return {tp.partition: end for tp, end in self._consumer.end_offsets(self._places(topic)).items()}

    def starts(self, topic: str) -> dict[int, int]:
        """Partition -> offset of the first message that is still there; empty when the topic does not exist."""
        with errors_translated():
            return {tp.partition: start for tp, start in self._consumer.beginning_offsets(self._places(topic)).items()}

    def _places(self, topic: str) -> list[TopicPartition]:
        return [TopicPartition(topic, partition) for partition in self._consumer.partitions_for_topic(topic) or ()]

    def ends(self, topics: Sequence[str]) -> dict[str, int]:
        """The offset after the last message in partition 0 of each topic that exists."""
        with errors_translated():
            there = [TopicPartition(topic, 0) for topic in topics if self._consumer.partitions_for_topic(topic)]
            return {tp.topic: end for tp, end in (self._consumer.end_offsets(there) if there else {}).items()}

    def between(self, topic: str, start: int, end: int) -> Iterator[Message]:
        """The messages of partition 0 from `start`, or from the oldest that is still there, up to before `end`."""
        place = TopicPartition(topic, 0)
        with errors_translated():
            self._consumer.assign([place])
            self._consumer.seek(place, start)
            while (self._consumer.position(place) or 0) < end:
                yield from _messages(self._consumer.poll(timeout_ms=1000))

    def close(self) -> None:
        """Close the connection."""
        with contextlib.suppress(KafkaError, OSError):
            self._consumer.close(autocommit=False)
