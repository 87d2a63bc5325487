"""Batches on bad days: a full disk, a store or Redis that is away, too little time, regrets."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import httpx
import msgspec
import openai
import pytest

from e2e.batches import (
    DIMS,
    RETRIES,
    are_right,
    begun,
    client_of,
    counts,
    ended,
    ids,
    kill,
    leader,
    made,
    numbered,
    part_files,
    priced,
    progressed,
    rows,
    uploaded,
)
from e2e.keys import MASTER, Office, books_of, guarded
from e2e.limited import exactly
from e2e.pools import Pool, found_url, serving, short_directory, written
from e2e.store import store_at
from embedpool_shared.batches import RECORD, batch_record, encode_record
from embedpool_shared.names import Names
from support.fake_provider import FakeProvider
from support.faults import Behaviour
from support.processes import embedpool, wait_until

LINES: Final = 2_500
WINDOW: Final = 16_384
LONG: Final = 40_000
KIB: Final = 1024
DISK_KIB: Final = 512 * KIB
LEFT_KIB: Final = 384
CANCELLED_WITHIN_S: Final = 5.0


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeProvider]:
    with FakeProvider.in_thread(dims=DIMS, count_tokens=exactly) as provider:
        yield provider


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A disk of its own where we may mount one, else a folder."""
    place = tmp_path_factory.mktemp("disk")
    size = f"size={DISK_KIB}k"
    mount = ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(place)]
    is_mounted = not subprocess.run(mount, check=False, capture_output=True).returncode
    yield place
    if is_mounted:
        subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.fixture(scope="module")
def pool(fake: FakeProvider, disk: Path) -> Iterator[Pool]:
    env = {"EMBEDPOOL_FILES_URL": f"file://{disk}/files"}
    with serving("--workers", "2", config=guarded(fake, priced(fake)), env=env) as running:
        yield running


@pytest.fixture
def provider(fake: FakeProvider) -> Iterator[FakeProvider]:
    fake.forget()
    yield fake
    fake.behave()


@pytest.fixture
def office(pool: Pool, plain_client: httpx.Client) -> Office:
    return Office(pool.url, plain_client)


@pytest.fixture
def client(pool: Pool, office: Office) -> Iterator[openai.OpenAI]:
    with client_of(pool, office.key(), retries=RETRIES) as client:
        yield client


@contextmanager
def hardly_any_room(disk: Path) -> Iterator[None]:
    """Leave little room on a disk for a while."""
    used_kib = DISK_KIB - os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize // KIB
    resize(disk, used_kib + LEFT_KIB)
    try:
        yield
    finally:
        resize(disk, DISK_KIB)


def resize(disk: Path, size_kib: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size_kib}k", str(disk)], check=True)


def waits(pool: Pool, batch_id: str) -> int:
    """How often the log says that a batch waits for the world."""
    said = pool.program.output.splitlines()
    return sum("batch_waits" in one and batch_id in one for one in said)


def check_whole(client: openai.OpenAI, batch_id: str, lines: int) -> None:
    """The batch comes to its end, and every line has its own vector once."""
    batch = ended(client, batch_id)
    answered = rows(client, batch.output_file_id)
    assert batch.status == "completed"
    assert counts(batch) == (lines, lines, 0)
    assert ids(answered) == [f"id-{number}" for number in range(1, lines + 1)]
    assert are_right(answered)


def refusal(ask: Callable[[], object]) -> tuple[int, str | None]:
    with pytest.raises(openai.APIStatusError) as refused:
        ask()
    return refused.value.status_code, refused.value.code


def test_a_full_disk_only_delays(
    pool: Pool, provider: FakeProvider, client: openai.OpenAI, disk: Path
) -> None:
    if not os.path.ismount(disk):
        pytest.skip("a small disk of its own needs the right to mount one")
    impatient = client.with_options(max_retries=0)
    lines = numbered(LINES)
    file_id = uploaded(client, lines)
    with hardly_any_room(disk):
        batch_id = made(client, file_id)
        wait_until(lambda: waits(pool, batch_id) > 1, patience_s=20, what="it waits")
        refused = refusal(lambda: uploaded(impatient, lines))
        status = client.batches.retrieve(batch_id).status

    check_whole(client, batch_id, LINES)
    assert refused == (503, "file_store_unavailable")
    assert status == "in_progress"
    assert provider.totals.items == LINES
    assert part_files(disk / "files") == []


@contextmanager
def lost(folder: Path, *, is_broken: bool) -> Iterator[None]:
    """Let a mount be lost for a while: nothing is where it was, or nothing that can be used."""
    away = folder.with_name("away")
    folder.rename(away)
    if is_broken:
        folder.write_bytes(b"")
    else:
        folder.mkdir()
    try:
        yield
        assert is_broken or list(folder.iterdir()) == []
    finally:
        if is_broken:
            folder.unlink()
        else:
            shutil.rmtree(folder)
        away.rename(folder)


@pytest.mark.parametrize("is_broken", [True, False], ids=["broken", "lost"])
def test_a_store_that_is_away_only_delays(
    pool: Pool, provider: FakeProvider, client: openai.OpenAI, disk: Path, is_broken: bool
) -> None:
    provider.behave(Behaviour(latency_s=0.5))
    impatient = client.with_options(max_retries=0)
    lines = 2 * LINES
    file_id = uploaded(client, numbered(lines))
    batch_id = made(client, file_id)
    progressed(client, batch_id, 1)
    with lost(disk / "files", is_broken=is_broken):
        wait_until(lambda: waits(pool, batch_id) > 1, patience_s=20, what="it waits")
        refusals = [
            refusal(lambda: uploaded(impatient, numbered(1))),
            refusal(lambda: impatient.files.content(file_id)),
        ]
        fresh = made(client, file_id)
        wait_until(lambda: waits(pool, fresh) > 1, patience_s=20, what="a fresh one waits")
    provider.behave()

    check_whole(client, batch_id, lines)
    check_whole(client, fresh, lines)
    assert refusals == [(503, "file_store_unavailable")] * 2
    assert provider.totals.items == 2 * lines


@pytest.mark.long
def test_a_redis_that_dies_twice_costs_no_line(
    pool: Pool, provider: FakeProvider, client: openai.OpenAI
) -> None:
    provider.behave(Behaviour(latency_s=0.3))
    lines = 8 * LINES
    batch_id = begun(client, numbered(lines))
    for share in (4, 2):
        progressed(client, batch_id, lines // share)
        (valkey,) = pool.program.members("valkey-server")
        os.kill(valkey.pid, signal.SIGKILL)
        wait_until(
            lambda old=valkey.pid: any(  # type: ignore[misc]
                one.pid != old for one in pool.program.members("valkey-server")
            ),
            patience_s=20,
            what="another Valkey",
        )

    check_whole(client, batch_id, lines)
    with books_of(pool) as books:
        books.wait_until_nothing_is_held()
    assert len({item for call in provider.calls for item in call.items}) == lines


def test_a_cancel_takes_effect_within_seconds_however_often_it_is_said(
    pool: Pool, provider: FakeProvider, client: openai.OpenAI
) -> None:
    provider.behave(Behaviour(latency_s=0.5))
    batch_id = begun(client, numbered(LONG))
    progressed(client, batch_id, 1)

    began_at = time.monotonic()
    said = [client.batches.cancel(batch_id).status for _ in range(2)]
    batch = ended(client, batch_id)
    took_s = time.monotonic() - began_at
    again = client.batches.cancel(batch_id)

    assert said == ["cancelling", "cancelling"]
    assert took_s <= CANCELLED_WITHIN_S
    assert batch.status == again.status == "cancelled"
    assert batch.cancelling_at
    assert batch.cancelled_at
    check_split(client, batch_id, "batch_cancelled")
    assert provider.totals.items == counts(batch)[1]


def check_split(client: openai.OpenAI, batch_id: str, code: str) -> None:
    """Every line is either answered or named with the reason, in the order of the input."""
    batch = client.batches.retrieve(batch_id)
    answered, left = rows(client, batch.output_file_id), rows(client, batch.error_file_id)
    assert are_right(answered)
    assert answered
    assert {row["error"]["code"] for row in left} == {code}
    assert {row["response"] for row in left} == {None}
    assert sorted([*ids(answered), *ids(left)]) == sorted(f"id-{n}" for n in range(1, LONG + 1))
    assert ids(answered) == sorted(ids(answered), key=number_of)
    assert counts(batch) == (LONG, len(answered), len(left))


def number_of(custom_id: str) -> int:
    return int(custom_id.removeprefix("id-"))


@pytest.mark.long
def test_a_batch_whose_time_is_up_keeps_what_is_done(
    pool: Pool, provider: FakeProvider, client: openai.OpenAI
) -> None:
    provider.behave(Behaviour(latency_s=0.5))
    batch_id = begun(client, numbered(LONG))
    progressed(client, batch_id, 1)
    leads = leader(pool)
    assert leads

    expire(pool, batch_id, in_s=15.0)
    kill(pool, leads)  # whoever goes on reads the record anew
    batch = ended(client, batch_id)

    assert batch.status == "expired"
    assert batch.expired_at
    check_split(client, batch_id, "batch_expired")
    assert "key_cooling" not in pool.program.output


def expire(pool: Pool, batch_id: str, *, in_s: float) -> None:
    """Let a batch have so little time left, for whoever runs it next."""
    name = Names().batch(batch_id)
    with store_at(pool.store_url) as store:
        seconds, _ = store.client.time()
        record = batch_record(store.client.hget(name, RECORD))
        less = msgspec.structs.replace(record, expires_at=seconds + in_s)
        store.client.hset(name, RECORD, encode_record(less))


@pytest.mark.long
def test_a_pool_that_was_killed_whole_goes_on_when_it_is_started_again(
    provider: FakeProvider,
) -> None:
    provider.behave(Behaviour(latency_s=0.3))
    lines = 4 * LINES
    with short_directory() as directory:
        config = written(guarded(provider, priced(provider)), directory)
        flags = ("--port", "0", "--data-dir", str(directory / "data"), "--config", str(config))
        with started(directory, "first", flags) as pool, client_of(pool, MASTER) as client:
            batch_id = begun(client, numbered(lines))
            progressed(client, batch_id, lines // 4)
            pool.program.kill()
        with started(directory, "second", flags) as pool, client_of(pool, MASTER) as client:
            check_whole(client, batch_id, lines)
            assert part_files(pool.data_directory / "files") == []
    assert provider.totals.items <= lines + WINDOW


@contextmanager
def started(directory: Path, name: str, flags: Sequence[str]) -> Iterator[Pool]:
    """Run `embedpool serve` on data that may be there already."""
    with embedpool("serve", *flags, log=directory / name) as program:
        said = program.wait_for_line("embedpool serves ")
        yield Pool(program, found_url(said), directory)
