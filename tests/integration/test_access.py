"""How a site may be set up: prefixes, TLS, a user with few rights, a Sentinel; and how not."""

from __future__ import annotations

import asyncio
import subprocess
from typing import TYPE_CHECKING, Any, Final

import pytest
import redis

from embedpool_api.bulk.arq_jobs import BatchJobs
from embedpool_shared.batch_records import BatchRecords
from embedpool_shared.batches import BatchField, Status
from embedpool_shared.errors import BadRequest, ConfigInvalid, QueueUnavailable
from embedpool_shared.file_records import FileRecords
from embedpool_shared.file_store import FileStore
from embedpool_shared.redis import AccessDenied, RedisAddress, connection_pool
from embedpool_shared.store_probe import same_store
from embedpool_worker.arq_workers import maintenance_worker
from embedpool_worker.handover import hand_over
from embedpool_worker.maintenance import Housekeeper
from integration.one_process import MODEL, Embedder, Site, observed, right, until
from support.bulk_records import batch_record_of, file_record_of
from support.orphans import dying_with_us
from support.ports import free_port
from support.processes import wait_until
from support.tls import make_tls_files
from support.tools import tool
from support.valkey import RedisServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COMMANDS: Final = (
    "+client|setname +ping +select +time +eval +evalsha "
    "+get +mget +set +del +unlink +exists +persist +pexpire +pttl +setbit +getbit "
    "+hget +hmget +hset +hgetall +hdel +hincrby +hlen +expire +sadd "
    "+zadd +zrem +zcard +zscore +zrank +zrevrank +zintercard +zpopmin "
    "+zrange +zrangebyscore +zremrangebyscore "
    "+xadd +xdel +xlen +xrange +xrevrange +xtrim +xread "
    "+xreadgroup +xack +xpending +xclaim +xautoclaim "
    "+xgroup|create +xgroup|delconsumer +xinfo|consumers +xinfo|groups +xinfo|stream "
)
"""What embedpool needs of Redis; the manual of operations lists the same."""
ARQ_COMMANDS: Final = "+multi +exec +watch +unwatch +psetex +setex +incrby +zincrby +dbsize +info "
"""What the jobs of arq need besides."""
TEST_COMMANDS: Final = "+keys +xlen "
"""What this test asks to see whether all is well."""


RIGHTS: Final = COMMANDS + ARQ_COMMANDS + TEST_COMMANDS


@pytest.fixture(scope="module")
def tls_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RedisServer, Path]]:
    """Debian's Redis with TLS and a user that may do what embedpool does, under its prefix."""
    files = make_tls_files(tmp_path_factory.mktemp("tls"))
    server = RedisServer(
        binary=tool("redis-server", package="redis-server"),
        tls=files,
        users=[
            f"pool on >secret ~acl:* ~arq:* resetchannels -@all {RIGHTS}",
            "admin on >root ~* &* +@all",
        ],
    )
    with server:
        yield server, files.ca


@pytest.fixture
def admin(tls_server: tuple[RedisServer, Path]) -> Iterator[redis.Redis]:
    """Somebody who may do everything there, after deleting everything there."""
    server, _ = tls_server
    with redis.Redis(
        unix_socket_path=str(server.socket_path), username="admin", password="root"
    ) as client:
        client.execute_command("FLUSHALL")
        client.execute_command("ACL", "LOG", "RESET")
        yield client


def url_of(server: RedisServer, *, user: str = "pool", password: str = "secret") -> str:
    """The server over TLS."""
    return f"rediss://{user}:{password}@127.0.0.1:{server.tls_port}/0"


async def test_two_pools_of_different_prefixes_on_one_server_never_meet(
    valkey: RedisServer,
) -> None:
    async with Site(valkey.url, prefix="one") as one, Site(valkey.url, prefix="two") as two:
        sites = (one, two)
        embedders = [Embedder(), Embedder()]
        for site, embedder in zip(sites, embedders, strict=True):
            site.worker(embedder)
        apis = [site.api() for site in sites]

        for api, text in zip(apis, ("first", "second"), strict=True):
            assert await api.ask(text) == right([text])

        assert [embedder.inputs for embedder in embedders] == [["first"], ["second"]]
        names = {name.partition(b":")[0] for name in await one.call("KEYS", "*")}
        assert names == {b"one", b"two"}


@pytest.mark.filterwarnings("ignore:Call to deprecated close:DeprecationWarning")  # by arq
async def test_a_user_with_few_rights_serves_a_whole_pool_over_tls(
    tls_server: tuple[RedisServer, Path], admin: redis.Redis
) -> None:
    server, ca_file = tls_server
    async with Site(url_of(server), prefix="acl", ca_file=str(ca_file)) as site:
        api, embedder = site.api(), Embedder()
        worker = site.worker(embedder, lease_s=0.2)
        observed(site, api, worker)
        housekeeper = Housekeeper(site.line("tidy"), site.line("directory"), site.names)
        ran = asyncio.Event()

        async def tidy() -> None:
            await housekeeper.tidy(frozenset())
            ran.set()

        chores = maintenance_worker(site.pool("arq"), site.names, tidy)
        chores.burst, chores.poll_delay_s = True, 0.01  # ends when nothing is due
        await chores.pool.enqueue_job(f"{site.names.maintenance}:tidy")
        await chores.async_run()
        assert ran.is_set()

        assert await api.ask("a") == right(["a"])
        await until(lambda: site.has_presence(2), "both say that they live")
        embedder.gate.clear()
        unwanted = api.post(["unwanted"], ["wanted"])
        await api.accepted(unwanted)
        api.give_up(unwanted)
        embedder.gate.set()
        await until(site.is_quiet, "nothing is left")
        await hand_over(site.line("supervisor"), site.names, consumer="nobody")
        await housekeeper.tidy(frozenset({worker.worker_id}))
        await worker.stop()

    log: Any = admin.acl_log()
    refused = [(entry["reason"], entry["object"]) for entry in log]
    assert refused == []


async def test_a_user_with_few_rights_keeps_files_and_batches_on_redis_seven(
    tls_server: tuple[RedisServer, Path], admin: redis.Redis, tmp_path: Path
) -> None:
    server, ca_file = tls_server
    async with Site(url_of(server), prefix="acl", ca_file=str(ca_file)) as site:
        line, names = site.line("bulk"), site.names
        files, batches = FileRecords(line, names), BatchRecords(line, names)
        now = await files.promise("file-1", lives_s=-1)
        assert await files.due() == ["file-1"]
        assert await files.add(file_record_of(created_at=now), max_files=1, max_bytes=10)
        assert not await files.add(
            file_record_of("file-2", created_at=now), max_files=1, max_bytes=10
        )
        await batches.create(batch_record_of(created_at=now), max_active=1)
        assert await batches.note("batch_1", {BatchField.TOTAL: 1}) is Status.VALIDATING
        with pytest.raises(BadRequest):
            await files.delete("file-1")
        await batches.step("batch_1", Status.COMPLETED, from_=[Status.VALIDATING])
        assert len(await batches.list("key:a", limit=9)) == 1
        for is_oldest_first in (True, False):
            assert not await files.list(
                None, after="file-1", limit=9, is_oldest_first=is_oldest_first
            )
        assert await files.delete("file-1")
        assert await files.stored("key:a") == (0, 0)
        await files.gone(["file-1"])
        assert await same_store(line, names, FileStore(tmp_path.as_uri()))
        jobs = BatchJobs(site.pool("jobs"), names)
        await jobs.enqueue("batch_1")
        await jobs.close()
        assert await site.call("ZRANGE", names.bulk_jobs, 0, -1) == [b"batch_1"]

    log: Any = admin.acl_log()
    assert [(entry["reason"], entry["object"]) for entry in log] == []


@pytest.mark.usefixtures("admin")
async def test_a_lane_serves_on_redis_seven_as_on_valkey(
    tls_server: tuple[RedisServer, Path],
) -> None:
    server, ca_file = tls_server
    async with Site(url_of(server), prefix="acl", ca_file=str(ca_file)) as site:
        api = site.api("a7")
        unwanted = api.post(["unwanted"])
        await api.accepted(unwanted)
        api.give_up(unwanted)
        await until(site.is_quiet, "it is taken back")
        site.worker(Embedder())

        assert await api.ask("no count of tokens") == right(["no count of tokens"])
        await until(site.is_quiet, "nothing is left")
        assert [record.reason for record in await site.ledger()] == ["cancelled", ""]
        assert await site.call("HGET", site.lane.depth, "served") == b"1"


@pytest.mark.parametrize(
    ("user", "password"),
    [pytest.param("pool", "wrong", id="password"), pytest.param("nobody", "secret", id="user")],
)
async def test_wrong_credentials_are_named_as_such(
    tls_server: tuple[RedisServer, Path], user: str, password: str
) -> None:
    server, ca_file = tls_server
    url = url_of(server, user=user, password=password)
    async with Site(url, ca_file=str(ca_file)) as site:
        with pytest.raises(AccessDenied) as denial:
            await site.call("PING")

    assert password not in str(denial.value)


async def test_a_name_outside_the_users_rights_is_denied(
    tls_server: tuple[RedisServer, Path],
) -> None:
    server, ca_file = tls_server
    async with Site(url_of(server), prefix="other", ca_file=str(ca_file)) as site:
        with pytest.raises(AccessDenied):
            await site.call("XLEN", site.names.lanes)


async def test_a_certificate_nobody_vouches_for_is_refused(
    tls_server: tuple[RedisServer, Path],
) -> None:
    server, _ = tls_server
    async with Site(url_of(server), prefix="acl") as site:
        with pytest.raises(QueueUnavailable):
            await site.call("PING")


async def test_a_certificate_for_another_host_is_refused(
    tls_server: tuple[RedisServer, Path],
) -> None:
    server, ca_file = tls_server
    url = url_of(server).replace("127.0.0.1", "127.0.0.2")
    async with Site(url, prefix="acl", ca_file=str(ca_file)) as site:
        with pytest.raises(QueueUnavailable):
            await site.call("PING")


async def test_an_address_that_is_none_is_refused_without_its_password() -> None:
    with pytest.raises(ConfigInvalid) as refusal:
        connection_pool(RedisAddress("http://user:hidden@host/0"), client_name="t")

    assert "hidden" not in str(refusal.value)


@pytest.fixture
def sentinel(tmp_path: Path) -> Iterator[redis.Redis]:
    """A Sentinel that watches nothing yet."""
    port = free_port()
    config = tmp_path / "sentinel.conf"
    config.write_text(f"port {port}\nbind 127.0.0.1\nprotected-mode no\ndir {tmp_path}\n")
    command = [str(tool("redis-server", package="redis-server")), str(config), "--sentinel"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(dying_with_us(command), stdout=log, stderr=log)
    try:
        with redis.Redis(port=port) as client:
            wait_until(lambda: answers(client), patience_s=10, what="PONG from the Sentinel")
            yield client
    finally:
        process.kill()
        process.wait()


def answers(client: redis.Redis) -> bool:
    """Tell whether anybody listens there yet."""
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


def on_a_port() -> tuple[RedisServer, int]:
    """A server that a Sentinel can name."""
    port = free_port()
    return RedisServer(settings={"port": str(port), "bind": "127.0.0.1"}), port


async def test_a_sentinel_is_asked_who_is_primary_and_asked_again_when_that_one_is_gone(
    sentinel: Any,  # redis-py has no types for its Sentinel commands
) -> None:
    at = sentinel.connection_pool.connection_kwargs["port"]
    (first, first_port), (second, second_port) = on_a_port(), on_a_port()
    with first, second:
        sentinel.sentinel_monitor("main", "127.0.0.1", first_port, 1)
        async with Site(f"redis+sentinel://127.0.0.1:{at}/main/0") as site:
            site.worker(Embedder())
            api = site.api()
            assert await api.ask("on the first") == right(["on the first"])

            sentinel.sentinel_remove("main")
            sentinel.sentinel_monitor("main", "127.0.0.1", second_port, 1)
            first.kill()

            assert await api.ask("on the second") == right(["on the second"])
            with second.client() as client:
                assert client.exists(site.names.lane(MODEL).ledger)
