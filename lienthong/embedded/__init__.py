"""A real PostgreSQL and a real Kafka on this machine, for the demo and the tests: no Docker, no root needed."""

from lienthong.embedded.kafka import KafkaBroker, KafkaCluster
from lienthong.embedded.postgres import LOGICAL, PostgresCluster
from lienthong.embedded.stack import Stack

__all__ = ["LOGICAL", "KafkaBroker", "KafkaCluster", "PostgresCluster", "Stack"]
