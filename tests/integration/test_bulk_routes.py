"""Files and batches over HTTP: whose they are, what is refused, and what is left of it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import httpx
import jsonschema  # type: ignore[import-untyped]
import pytest
from typing_extensions import override

from embedpool_api.callers import MASTER as MASTER_CALLER
from embedpool_api.callers import key_holder
from embedpool_api.passage import PASSAGE, ClientDisconnected, Passage
from embedpool_shared.accounts import Limits
from embedpool_shared.batches import COMPLETION_WINDOW_S, Purpose, Status
from embedpool_shared.config.settings import FilesSettings
from embedpool_shared.errors import StoreUnavailable
from embedpool_shared.file_records import content_path
from embedpool_shared.file_store import FileStore
from integration.bulk_edge import LINE, LOCALHOST, MASTER, PURPOSE, BulkEdge, bulk_edge, order
from integration.one_process import until
from support.bulk_records import file_record_of

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.types import Message

    from support.valkey import RedisServer

FILES: Final = "/v1/files"
BATCHES: Final = "/v1/batches"
ONE: Final = {"file": ("in.jsonl", LINE)}


async def all_routes(edge: BulkEdge, file_id: str, batch_id: str, **how: Any) -> dict[str, int]:
    """Ask every route that names a file or a batch; say how each answered."""
    asked = [
        ("GET", f"{FILES}/{file_id}", None),
        ("GET", f"{FILES}/{file_id}/content", None),
        ("GET", f"{BATCHES}/{batch_id}", None),
        ("POST", BATCHES, order(file_id)),
        ("POST", f"{BATCHES}/{batch_id}/cancel", None),
        ("DELETE", f"{FILES}/{file_id}", None),
    ]
    answers = {}
    for method, path, body in asked:
        more = how | ({"json": body} if body else {})
        answers[f"{method} {path}"] = (await edge.ask(method, path, **more)).status_code
    return answers


async def test_to_everybody_else_files_and_batches_do_not_exist(
    valkey: RedisServer, tmp_path: Path
) -> None:
    async with bulk_edge(valkey, tmp_path) as edge:
        alice, bob = await edge.books.make(), await edge.books.make()
        file_id = await edge.upload(key=alice)
        batch = await edge.batch(file_id, key=alice)

        assert set((await all_routes(edge, file_id, batch["id"], key=bob)).values()) == {404}

        for path in (FILES, BATCHES):
            assert (await edge.told("GET", path, key=bob))["data"] == []
            assert len((await edge.told("GET", path, key=alice))["data"]) == 1
        unknown = await edge.refused(404, "GET", f"{BATCHES}/batch_none", key=bob)
        theirs = await edge.refused(404, "GET", f"{BATCHES}/{batch['id']}", key=bob)
        assert theirs == unknown | {"message": theirs["message"]}
        assert theirs["message"].replace(batch["id"], "batch_none") == unknown["message"]
        error = await edge.refused(404, "POST", BATCHES, json=order(file_id), key=bob)
        assert error["param"] == "input_file_id"


async def test_a_team_shares_its_files_and_batches(valkey: RedisServer, tmp_path: Path) -> None:
    async with bulk_edge(valkey, tmp_path) as edge:
        team_id = await edge.team("t")
        alice, bob = [await edge.books.make(team_id=team_id) for _ in range(2)]
        file_id = await edge.upload(key=alice)

        batch = await edge.batch(file_id, key=bob)

        assert await edge.told("GET", f"{BATCHES}/{batch['id']}", key=alice) == batch
        read = await edge.batches.read(batch["id"])
        assert read is not None
        assert read.record.owner == "team:t"
        assert read.record.account == f"key:{await edge.books.id_of(bob)}"
        assert read.record.payers == ("team:t",)


async def test_a_rotated_key_keeps_its_files(valkey: RedisServer, tmp_path: Path) -> None:
    async with bulk_edge(valkey, tmp_path) as edge:
        old = await edge.books.make()
        file_id = await edge.upload(key=old)

        new = edge.books.keys.secret(None)
        await edge.books.keys.rotate(await edge.books.id_of(old), new, lambda record, _: record)

        assert (await edge.told("GET", f"{FILES}/{file_id}", key=new))["id"] == file_id


async def test_the_master_key_sees_and_touches_everything(
    valkey: RedisServer, tmp_path: Path
) -> None:
    async with bulk_edge(valkey, tmp_path) as edge:
        alice = await edge.books.make()
        file_id = await edge.upload(key=alice)
        batch = await edge.batch(file_id, key=alice)
        owner = f"key:{await edge.books.id_of(alice)}"

        (listed,) = (await edge.told("GET", BATCHES))["data"]
        assert listed["embedpool"] == {"cost_usd": "0.0", "owner": owner}
        assert batch["embedpool"] == {"cost_usd": "0.0", "owner": None}
        assert [one["id"] for one in (await edge.told("GET", FILES))["data"]] == [file_id]
        own = await edge.batch(file_id)
        assert own["embedpool"]["owner"] == "caller:master"
        for one in (batch, own):
            await edge.told("POST", f"{BATCHES}/{one['id']}/cancel")
            await edge.end(one["id"], Status.CANCELLED)
        await edge.told("DELETE", f"{FILES}/{file_id}")
        assert (await edge.told("GET", FILES, key=alice))["data"] == []


async def test_a_batch_remembers_whose_texts_it_may_travel_with_and_who_pays(
    valkey: RedisServer, tmp_path: Path
) -> None:
    async with bulk_edge(valkey, tmp_path) as edge:
        await edge.team("t")
        key = await edge.books.make(team_id="t", tags=("nightly",), share_across="key")
        holder = await edge.books.holder(key)
        assert holder is not None

        batch = await edge.batch(
            await edge.upload(key=key), key=key, metadata={"run": "7", "ü": "€"}
        )

        read = await edge.batches.read(batch["id"])
        assert read is not None
        record = read.record
        caller = key_holder(holder)
        assert record.scope == caller.scope == record.account == caller.account
        assert record.payers == ("team:t", "tag:nightly")
        assert record.key_id == holder.key.id
        assert record.metadata == batch["metadata"] == {"run": "7", "ü": "€"}
        assert record.forwards_user
        assert not record.drops_params
        assert record.expires_at - record.created_at == COMPLETION_WINDOW_S
        assert edge.hurried == [batch["id"]]


async def test_headers_say_whom_a_batch_is_charged_to_besides(
    valkey: RedisServer, tmp_path: Path
) -> None:
    async with bulk_edge(valkey, tmp_path) as edge:
        file_id = await edge.upload()
        headers = {"x-litellm-end-user-id": "carol", "x-litellm-tags": "a,b"}

        made = await edge.told("POST", BATCHES, json=order(file_id), headers=headers)

        read = await edge.batches.read(made["id"])
        assert read is not None
        assert read.record.payers == ("end_user:carol", "tag:a", "tag:b")
        await edge.refused(
            400, "POST", BATCHES, json=order(file_id), headers={"x-litellm-tags": "x" * 200}
        )


async def test_open_mode_has_one_owner(valkey: RedisServer, tmp_path: Path) -> None:
    async with bulk_edge(valkey, tmp_path, master_key=None) as edge:
        batch = await edge.batch(await edge.upload(key=None), key=None)

        read = await edge.batches.read(batch["id"])
        assert read is not None
        assert read.record.owner == read.record.account == "caller:open"
        assert read.record.key_id is None
        assert batch["embedpool"]["owner"] is None


async def test_a_providers_own_key_is_for_embeddings_only(
    valkey: RedisServer, tmp_path: Path
) -> None:
    async with bulk_edge(valkey, tmp_path, passthrough=True) as edge:
        answers = await all_routes(edge, "file-x", "batch_x", key="sk-somebodys-own-key")
        for path, more in ((FILES, {"files": ONE, "data": PURPOSE}), (BATCHES, {})):
            answers[path] = (
                await edge.ask("POST" if more else "GET", path, key="sk-another", **more)
            ).status_code

        assert set(answers.values()) == {403}
        assert edge.contents() == []


async def test_without_a_store_every_route_names_the_setting(
    valkey: RedisServer, tmp_path: Path
) -> None:
    async with bulk_edge(valkey, tmp_path, store=None) as edge:
        answers = await all_routes(edge, "file-x", "batch_x")
        assert set(answers.values()) == {503}

        error = await edge.refused(503, "POST", FILES, files=ONE, data=PURPOSE)

        assert error["code"] == "file_store_unavailable"
        assert "files.url" in error["message"]


async def test_batches_wait_until_all_processes_see_one_store(
    valkey: RedisServer, tmp_path: Path
) -> None:
    async with bulk_edge(valkey, tmp_path) as edge:
        file_id = await edge.upload()
        edge.is_same = False

        error = await edge.refused(503, "POST", BATCHES, json=order(file_id))

        assert error["code"] == "file_store_unavailable"
        assert await edge.batches.active() == []
        edge.is_same = True
        await edge.batch(file_id)


@pytest.mark.parametrize(
    ("form", "param"),
    [
        pytest.param({"files": ONE}, "purpose", id="no purpose"),
        pytest.param({"files": ONE, "data": {"purpose": "fine-tune"}}, "purpose", id="purpose"),
        pytest.param({"files": {"x": ("x", b"")}, "data": PURPOSE}, "x", id="unknown field"),
        pytest.param({"files": {"file": ("a", b"")}, "data": PURPOSE}, "file", id="empty"),
        pytest.param(
            {"files": [("file", ("a", b"x")), ("file", ("b", b"x"))], "data": PURPOSE},
            "file",
            id="two files",
        ),
        pytest.param({"json": {"purpose": "batch"}}, None, id="JSON"),
        pytest.param({"content": b""}, None, id="nothing"),
        pytest.param(
            {
                "content": b"--x\r\n",
                "headers": {"content-type": "multipart/form-data; boundary=x"},
            },
            None,
            id="cut off",
        ),
        pytest.param(
            {"files": ONE, "data": PURPOSE | {"expires_after[anchor]": "now"}},
            "expires_after[anchor]",
            id="anchor",
        ),
        pytest.param(
            {
                "files": ONE,
                "data": PURPOSE
                | {"expires_after[anchor]": "created_at", "expires_after[seconds]": "60"},
            },
            "expires_after[seconds]",
            id="too short a life",
        ),
    ],
)
async def test_a_form_that_is_not_right_leaves_nothing(
    valkey: RedisServer, tmp_path: Path, form: dict[str, Any], param: str | None
) -> None:
    async with bulk_edge(valkey, tmp_path) as edge:
        error = await edge.refused(400, "POST", FILES, **form)

        assert error["param"] == param
        assert edge.contents() == []
        assert (await edge.told("GET", FILES))["data"] == []


async def test_an_encoded_upload_is_refused(valkey: RedisServer, tmp_path: Path) -> None:
    async with bulk_edge(valkey, tmp_path) as edge:
        await edge.refused(
            415,
            "POST",
            FILES,
            files=ONE,
            data=PURPOSE,
            headers={"content-encoding": "gzip"},
        )


async def test_a_file_says_for_how_long_it_is_wanted(valkey: RedisServer, tmp_path: Path) -> None:
    async with bulk_edge(valkey, tmp_path) as edge:
        data = PURPOSE | {"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}

        made = await edge.told("POST", FILES, files=ONE, data=data)

        assert made["expires_at"] - made["created_at"] == 3_600


async def test_an_owner_is_told_what_is_used_and_allowed(
    valkey: RedisServer, tmp_path: Path
) -> None:
    bounds = FilesSettings(max_files_per_owner=2, max_bytes_per_owner=3 * len(LINE))
    async with bulk_edge(valkey, tmp_path, bounds=bounds) as edge:
        first = await edge.upload(LINE * 2)

        much = await edge.refused(
            413, "POST", FILES, files={"file": ("in", LINE * 2)}, data=PURPOSE
        )
        await edge.upload(LINE)
        many = await edge.refused(413, "POST", FILES, files=ONE, data=PURPOSE)

        assert much["code"] == many["code"] == "quota_exceeded"
        assert f"1 of 2 files with {2 * len(LINE)} of {3 * len(LINE)} bytes" in much["message"]
        assert f"2 of 2 files with {3 * len(LINE)} of {3 * len(LINE)} bytes" in many["message"]
        assert len(edge.contents()) == 2
        await edge.told("DELETE", f"{FILES}/{first}")
        await edge.upload(LINE * 2)


async def test_an_owner_with_many_batches_that_have_not_ended_begins_no_other(
    valkey: RedisServer, tmp_path: Path
) -> None:
    bounds = FilesSettings(max_active_batches_per_owner=2)
    async with bulk_edge(valkey, tmp_path, bounds=bounds) as edge:
        alice, bob = await edge.books.make(), await edge.books.make()
        file_id = await edge.upload(key=alice)
        first, _ = [await edge.batch(file_id, key=alice) for _ in range(2)]

        error = await edge.refused(429, "POST", BATCHES, json=order(file_id), key=alice)

        assert (error["type"], error["code"]) == ("rate_limit_error", "batch_limit_exceeded")
        assert "2 of your batches" in error["message"]
        assert len(edge.hurried) == len(await edge.batches.active()) == 2
        await edge.batch(await edge.upload(key=bob), key=bob)
        await edge.end(first["id"])
        await edge.batch(file_id, key=alice)


async def test_a_deleted_file_leaves_no_content(valkey: RedisServer, tmp_path: Path) -> None:
    async with bulk_edge(valkey, tmp_path) as edge:
        file_id = await edge.upload()
        assert edge.contents() == [content_path(file_id)]

        gone = await edge.told("DELETE", f"{FILES}/{file_id}")

        assert gone == {"id": file_id, "object": "file", "deleted": True}
        assert edge.contents() == []
        assert await edge.files.due() == []
        await edge.refused(404, "DELETE", f"{FILES}/{file_id}")


async def test_a_file_that_a_batch_reads_is_not_deleted(
    valkey: RedisServer, tmp_path: Path
) -> None:
    async with bulk_edge(valkey, tmp_path) as edge:
        file_id = await edge.upload()
        batch = await edge.batch(file_id)

        error = await edge.refused(400, "DELETE", f"{FILES}/{file_id}")

        assert batch["id"] in error["message"]
        assert (await edge.ask("GET", f"{FILES}/{file_id}/content")).content == LINE
        await edge.end(batch["id"])
        await edge.told("DELETE", f"{FILES}/{file_id}")


@pytest.mark.parametrize(
    ("change", "param", "said"),
    [
        ({"endpoint": "/v1/chat/completions"}, "endpoint", "/v1/embeddings"),
        ({"endpoint": None}, "endpoint", "required"),
        ({"completion_window": "1h"}, "completion_window", "24h"),
        ({"input_file_id": None}, "input_file_id", "required"),
        ({"input_file_id": 7}, "input_file_id", "string"),
        ({"metadata": {str(n): "x" for n in range(17)}}, "metadata", "16"),
        ({"metadata": {"k" * 65: "x"}}, "metadata", "64"),
        ({"metadata": {"k": "x" * 513}}, "metadata", "512"),
        ({"metadata": {"k": 1}}, "metadata", "string"),
        ({"metdata": {"k": "v"}}, "metdata", "did you mean `metadata`?"),
        (
            {"output_expires_after": {"anchor": "created_at", "seconds": 3_600}},
            "output_expires_after",
            "2592000",
        ),
        (
            {"output_expires_after": {"anchor": "now", "seconds": 2_592_000}},
            "output_expires_after",
            "created_at",
        ),
    ],
)
async def test_a_batch_that_is_not_right_is_refused_by_its_field(
    valkey: RedisServer, tmp_path: Path, change: dict[str, Any], param: str, said: str
) -> None:
    async with bulk_edge(valkey, tmp_path) as edge:
        asked = order(await edge.upload()) | change
        body = {name: value for name, value in asked.items() if value is not None}

        error = await edge.refused(400, "POST", BATCHES, json=body)

        assert error["param"] == param
        assert said in error["message"]
        assert await edge.batches.active() == []


async def test_what_is_possible_at_the_edges_is_accepted(
    valkey: RedisServer, tmp_path: Path
) -> None:
    async with bulk_edge(valkey, tmp_path) as edge:
        metadata = {f"{n:064}": "x" * 512 for n in range(16)}
        kept = {"anchor": "created_at", "seconds": 2_592_000}

        batch = await edge.batch(await edge.upload(), metadata=metadata, output_expires_after=kept)

        assert batch["metadata"] == metadata


async def test_a_result_is_no_input(valkey: RedisServer, tmp_path: Path) -> None:
    async with bulk_edge(valkey, tmp_path) as edge:
        now = await edge.files.now()
        result = file_record_of(
            "file-result", owner="caller:master", created_at=now, purpose=Purpose.BATCH_OUTPUT
        )
        await edge.files.add(result, max_files=None, max_bytes=None)

        error = await edge.refused(400, "POST", BATCHES, json=order("file-result"))

        assert error["param"] == "input_file_id"


async def test_a_budget_that_is_used_up_begins_no_batch(
    valkey: RedisServer, tmp_path: Path
) -> None:
    async with bulk_edge(valkey, tmp_path) as edge:
        key = await edge.books.make(limits=Limits(budget_pico_usd=1_000))
        file_id = await edge.upload(key=key)
        account = f"key:{await edge.books.id_of(key)}"
        with valkey.client() as client:
            client.hset(edge.books.names.account(account).account, "period_cost", 999)
            await edge.batch(file_id, key=key)

            client.hset(edge.books.names.account(account).account, "period_cost", 1_000)
            error = await edge.refused(429, "POST", BATCHES, json=order(file_id), key=key)

        assert (error["type"], error["code"]) == ("insufficient_quota", "budget_exceeded")
        assert len(await edge.batches.active()) == 1


async def test_asking_for_a_batch_uses_nothing_of_a_limit(
    valkey: RedisServer, tmp_path: Path
) -> None:
    async with bulk_edge(valkey, tmp_path) as edge:
        key = await edge.books.make(limits=Limits(rpm=1, parallel=1, budget_pico_usd=1))
        file_id = await edge.upload(key=key)
        held = edge.books.names.account(f"key:{await edge.books.id_of(key)}").held

        for _ in range(3):
            await edge.batch(file_id, key=key)

            def is_free() -> bool:
                with valkey.client() as client:
                    left: Any = client.hgetall(held)
                return all(value in {b"0", b""} for value in left.values())

            await until(is_free, "everything is given back")


async def test_a_blocked_key_begins_no_batch(valkey: RedisServer, tmp_path: Path) -> None:
    async with bulk_edge(valkey, tmp_path) as edge:
        key = await edge.books.make(is_blocked=True)

        await edge.refused(401, "POST", BATCHES, json=order("file-x"), key=key)


async def test_a_batch_is_cancelled_once_and_for_all(valkey: RedisServer, tmp_path: Path) -> None:
    async with bulk_edge(valkey, tmp_path) as edge:
        batch = await edge.batch(await edge.upload())
        path = f"{BATCHES}/{batch['id']}/cancel"

        first = await edge.told("POST", path)
        second = await edge.told("POST", path)

        assert first == second
        assert first["status"] == "cancelling"
        assert first["cancelling_at"] >= first["created_at"]
        await edge.end(batch["id"], Status.CANCELLED)
        assert (await edge.told("POST", path))["status"] == "cancelled"


@pytest.mark.parametrize(
    "status", [Status.COMPLETED, Status.FAILED, Status.EXPIRED, Status.FINALIZING]
)
async def test_a_batch_that_is_done_is_not_cancelled(
    valkey: RedisServer, tmp_path: Path, status: Status
) -> None:
    async with bulk_edge(valkey, tmp_path) as edge:
        batch = await edge.batch(await edge.upload())
        await edge.end(batch["id"], status)

        error = await edge.refused(400, "POST", f"{BATCHES}/{batch['id']}/cancel")

        assert status.value in error["message"]
        assert (await edge.told("GET", f"{BATCHES}/{batch['id']}"))["status"] == status.value


@pytest.mark.parametrize(
    ("path", "query", "param"),
    [
        (BATCHES, {"limit": 0}, "limit"),
        (BATCHES, {"limit": 101}, "limit"),
        (BATCHES, {"after": "batch_none"}, "after"),
        (FILES, {"limit": 0}, "limit"),
        (FILES, {"limit": 10_001}, "limit"),
        (FILES, {"after": "file-none"}, "after"),
        (FILES, {"order": "random"}, "order"),
        (FILES, {"purpose": "fine-tune"}, "purpose"),
    ],
)
async def test_a_list_is_asked_for_within_bounds(
    valkey: RedisServer, tmp_path: Path, path: str, query: dict[str, Any], param: str
) -> None:
    async with bulk_edge(valkey, tmp_path) as edge:
        error = await edge.refused(400, "GET", path, params=query)

        assert error["param"] == param


async def test_a_page_says_where_the_next_one_begins(valkey: RedisServer, tmp_path: Path) -> None:
    async with bulk_edge(valkey, tmp_path) as edge:
        ids = [await edge.upload(name=f"{number}.jsonl") for number in range(21)]

        page = await edge.told("GET", FILES)

        assert [one["id"] for one in page["data"]] == ids[:0:-1]
        assert page["object"] == "list"
        assert (page["first_id"], page["last_id"], page["has_more"]) == (ids[-1], ids[1], True)
        rest = await edge.told("GET", FILES, params={"after": ids[1]})
        assert [one["id"] for one in rest["data"]] == ids[:1]
        assert not rest["has_more"]
        oldest = await edge.told("GET", FILES, params={"order": "asc", "limit": 2})
        assert [one["id"] for one in oldest["data"]] == ids[:2]
        none = await edge.told("GET", FILES, params={"purpose": "batch_output"})
        assert (none["data"], none["first_id"], none["has_more"]) == ([], None, False)


async def test_every_path_is_there_without_its_v1_too(valkey: RedisServer, tmp_path: Path) -> None:
    async with bulk_edge(valkey, tmp_path) as edge:
        made = await edge.told("POST", "/files", files=ONE, data=PURPOSE)
        batch = await edge.told("POST", "/batches", json=order(made["id"]))

        assert await edge.told("GET", f"/batches/{batch['id']}") == batch
        assert (await edge.ask("GET", f"/files/{made['id']}/content")).content == LINE


async def test_ids_are_random(valkey: RedisServer, tmp_path: Path) -> None:
    async with bulk_edge(valkey, tmp_path) as edge:
        files = [await edge.upload() for _ in range(3)]
        batches = [(await edge.batch(file_id))["id"] for file_id in files]

        assert all(re.fullmatch(r"file-[A-Za-z0-9]{24}", file_id) for file_id in files)
        assert all(re.fullmatch(r"batch_[A-Za-z0-9]{24}", batch_id) for batch_id in batches)
        assert len({*files, *batches}) == 6


class Failing(FileStore):
    """A store that ends when a test says so."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.fails = False

    @override
    def writer(self, path: str) -> Any:
        if self.fails:
            raise StoreUnavailable("The file store is full")
        return super().writer(path)

    @override
    def delete(self, path: str) -> None:
        if self.fails:
            raise StoreUnavailable("The file store cannot be used")
        super().delete(path)

    @override
    def read(self, path: str, *, offset: int = 0) -> Iterator[bytes]:
        if self.fails:
            raise StoreUnavailable("The file store cannot be used")
        return super().read(path, offset=offset)


async def test_a_store_that_is_away_is_answered_as_such(
    valkey: RedisServer, tmp_path: Path
) -> None:
    store = Failing(tmp_path.as_uri())
    async with bulk_edge(valkey, tmp_path, store=store) as edge:
        file_id = await edge.upload()
        store.fails = True

        full = await edge.refused(503, "POST", FILES, files=ONE, data=PURPOSE)
        away = await edge.refused(503, "GET", f"{FILES}/{file_id}/content")

        assert full["code"] == away["code"] == "file_store_unavailable"
        assert "full" in full["message"]
        assert (await edge.told("DELETE", f"{FILES}/{file_id}"))["deleted"]
        assert await edge.files.due() == [file_id]  # a sweep does it later


async def test_a_content_that_is_not_in_the_store_is_the_stores_fault(
    valkey: RedisServer, tmp_path: Path
) -> None:
    async with bulk_edge(valkey, tmp_path) as edge:
        file_id = await edge.upload()
        (tmp_path / content_path(file_id)).unlink()

        error = await edge.refused(503, "GET", f"{FILES}/{file_id}/content")

        assert error["code"] == "file_store_unavailable"


async def test_without_redis_nothing_is_kept_and_everybody_is_told(
    valkey: RedisServer, tmp_path: Path
) -> None:
    async with bulk_edge(valkey, tmp_path) as edge:
        file_id = await edge.upload()
        valkey.kill()

        error = await edge.refused(503, "POST", FILES, files=ONE, data=PURPOSE)

        assert error["code"] == "queue_unavailable"
        assert edge.contents() == [content_path(file_id)]
        for status in (await all_routes(edge, file_id, "batch_x")).values():
            assert status == 503


async def test_a_batch_whose_reply_is_lost_is_made_once(
    valkey: RedisServer, tmp_path: Path
) -> None:
    async with bulk_edge(valkey, tmp_path) as edge:
        file_id = await edge.upload()
        edge.line.lose_replies_to("add_batch", times=2)

        batch = await edge.batch(file_id)

        assert await edge.batches.active() == [batch["id"]]
        edge.line.lose_replies_to("add_batch", times=3)
        error = await edge.refused(503, "POST", BATCHES, json=order(file_id))
        assert error["code"] == "queue_unavailable"


async def test_a_wrong_key_is_told_so_before_its_file_is_read(
    valkey: RedisServer, tmp_path: Path
) -> None:
    async with bulk_edge(valkey, tmp_path) as edge:
        error = await edge.refused(401, "POST", FILES, files=ONE, data=PURPOSE, key=f"{MASTER}x")

        assert error["code"] == "invalid_api_key"


async def test_the_document_describes_every_route_and_what_it_answers(
    valkey: RedisServer, tmp_path: Path
) -> None:
    async with bulk_edge(valkey, tmp_path) as edge:
        document = await edge.told("GET", "/openapi.json", key=None)
        file_id = await edge.upload()
        batch = await edge.batch(file_id, metadata={"a": "b"})
        asked = {
            (FILES, "get"): await edge.told("GET", FILES),
            (f"{FILES}/{{file_id}}", "get"): await edge.told("GET", f"{FILES}/{file_id}"),
            (BATCHES, "post"): batch,
            (BATCHES, "get"): await edge.told("GET", BATCHES),
            (f"{BATCHES}/{{batch_id}}/cancel", "post"): await edge.told(
                "POST", f"{BATCHES}/{batch['id']}/cancel"
            ),
        }

        paths = document["paths"]
        assert paths[f"{FILES}/{{file_id}}"].keys() == {"get", "delete"}
        assert "/files" not in paths
        for (path, method), answer in asked.items():
            schema = paths[path][method]["responses"]["200"]["content"]["application/json"][
                "schema"
            ]
            jsonschema.validate(
                answer,
                schema | {"components": document["components"]},
                cls=jsonschema.Draft202012Validator,
            )
        form = paths[FILES]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
        assert form["required"] == ["file", "purpose"]
        body = paths[BATCHES]["post"]["requestBody"]["content"]["application/json"]["schema"]
        jsonschema.validate(order(file_id), body)
        content = paths[f"{FILES}/{{file_id}}/content"]["get"]["responses"]["200"]["content"]
        assert content.keys() == {"application/octet-stream"}
        names = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document)))
        assert names <= document["components"]["schemas"].keys()
        assert "#/$defs" not in json.dumps(document)
        ids = [one["operationId"] for path in paths.values() for one in path.values()]
        assert len(ids) == len(set(ids))


async def test_an_upload_that_was_given_up_is_answered_by_nothing(
    valkey: RedisServer, tmp_path: Path
) -> None:
    async with bulk_edge(valkey, tmp_path) as edge:
        begun = httpx.Request("POST", LOCALHOST, files=ONE, data=PURPOSE)
        messages: Iterator[Message] = iter(
            [
                {"type": "http.request", "body": begun.read()[:-9], "more_body": True},
                {"type": "http.disconnect"},
            ]
        )
        said: list[Message] = []

        async def receive() -> Message:
            return next(messages)

        async def send(message: Message) -> None:
            said.append(message)

        scope = {
            "type": "http",
            "method": "POST",
            "path": FILES,
            "query_string": b"",
            "headers": [
                (b"authorization", f"Bearer {MASTER}".encode()),
                (b"content-type", begun.headers["content-type"].encode()),
            ],
        }
        await edge.app(scope, receive, send)

        passage: Passage = scope[PASSAGE]  # type: ignore[assignment]
        assert said == []
        assert isinstance(passage.error, ClientDisconnected)
        assert (passage.status, passage.bytes_in) == (0, 0)
        assert passage.caller is MASTER_CALLER
        assert edge.contents() == []
