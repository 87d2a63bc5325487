"""Blocks of rows for tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa

from embedpool_cli.embed.columns import Kind
from embedpool_cli.embed.rows import EMPTY, Block, Fault


def a_block(
    texts: Sequence[str], *, first_row: int = 0, faults: Mapping[int, Fault] | None = None
) -> Block:
    """A block whose rows' ids are their numbers; an empty text is a fault."""
    empty = {at: EMPTY for at, text in enumerate(texts) if not text}
    ids = [str(first_row + at) for at in range(len(texts))]
    return Block(
        first_row=first_row,
        source="in.jsonl",
        places=range(first_row + 1, first_row + 1 + len(texts)),
        texts=texts,
        faults={**empty, **(faults or {})},
        carried=pa.record_batch([pa.array(ids, pa.string())], names=["id"]),
        kinds=(Kind.SMALL,),
    )


def blocks_of(groups: Sequence[Sequence[str]]) -> list[Block]:
    """Blocks that follow each other."""
    blocks: list[Block] = []
    for texts in groups:
        blocks.append(a_block(texts, first_row=sum(map(len, blocks))))
    return blocks
