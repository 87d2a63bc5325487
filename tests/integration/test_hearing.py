"""Replies are heard in the moment they arrive; errors are not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from embedpool_shared.redis import Line, RedisAddress, RedisRefused, connection_pool
from embedpool_shared.scripts import Script
from support.valkey import RedisServer


@asynccontextmanager
async def opened(valkey: RedisServer) -> AsyncIterator[Line]:
    line = Line(connection_pool(RedisAddress(valkey.url), client_name="hearing"))
    try:
        yield line
    finally:
        await line.close()


async def test_whoever_hears_comes_before_whoever_awaits(valkey: RedisServer) -> None:
    said: list[str] = []
    async with opened(valkey) as line:
        await line.call("SET", "k", "v")

        async def ask() -> None:
            heard: list[Any] = []
            reply = await line.call("GET", "k", heard=lambda replies: hear(heard, replies))
            said.append("awaited")
            assert heard == [reply] == [b"v"]

        def hear(heard: list[Any], replies: list[Any]) -> None:
            said.append("heard")
            heard += replies

        await asyncio.create_task(ask())

    assert said == ["heard", "awaited"]


async def test_several_commands_are_heard_together(valkey: RedisServer) -> None:
    heard: list[Any] = []
    async with opened(valkey) as line:
        await line.call_all([("SET", "k", "1"), ("INCR", "k")], heard=heard.append)

    assert heard == [[b"OK", 2]]


async def test_an_error_is_raised_and_not_heard(valkey: RedisServer) -> None:
    heard: list[Any] = []
    async with opened(valkey) as line:
        with pytest.raises(RedisRefused):
            await line.call_all([("SET", "k", "x"), ("INCR", "k")], heard=heard.append)
        assert heard == []

        await line.call("GET", "k", heard=heard.append)

    assert heard == [[b"x"]]


async def test_a_script_is_heard_of_once_it_is_known(valkey: RedisServer) -> None:
    heard: list[Any] = []
    script = Script("push", "return redis.call('RPUSH', KEYS[1], ARGV[1])", "0" * 40)
    async with opened(valkey) as line:
        unknown = await line.run_all(script, [(["l"], ["a"]), (["l"], ["b"])], heard=heard.append)
        assert (unknown, heard) == ([1, 2], [])

        known = Script("push", script.source, await line.call("SCRIPT", "LOAD", script.source))
        await line.run_all(known, [(["l"], ["c"])], heard=heard.append)

    assert heard == [[3]]


async def test_one_refusal_among_several_leaves_all_to_whoever_awaits(valkey: RedisServer) -> None:
    heard: list[Any] = []
    async with opened(valkey) as line:
        await line.call("SET", "text", "x")
        source = "return redis.call('RPUSH', KEYS[1], '1')"
        script = Script("push", source, await line.call("SCRIPT", "LOAD", source))
        fine, refused = await line.run_all(
            script, [(["l"], []), (["text"], [])], heard=heard.append
        )

    assert (fine, type(refused), heard) == (1, RedisRefused, [])
