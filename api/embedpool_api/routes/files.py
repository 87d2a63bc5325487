"""Files: uploaded, listed, read and deleted; OpenAI's names and shapes."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from embedpool_api.bulk.answers import FileDeleted, FileList, FileObject
from embedpool_api.bulk.downloads import download
from embedpool_api.bulk.intake import FILE, PURPOSE
from embedpool_api.bulk.ownership import lists_of, may_touch, no_file, owner
from embedpool_api.bulk.parts import BulkParts, bulk_caller
from embedpool_api.bulk.uploads import Unanswered, Upload, delete_content
from embedpool_api.bulk.views import file_list, shown_file
from embedpool_api.middleware import HEADERS
from embedpool_api.passage import PASSAGE, ClientDisconnected
from embedpool_shared.batches import FileRecord, Purpose

DEFAULT_PAGE = 20
MAX_PAGE = 100
MAX_ASKED = 10_000


class FileQuery(BaseModel):
    """Which files to list."""

    after: str | None = Field(None, max_length=64, description="The last one of the page before.")
    limit: int = Field(
        DEFAULT_PAGE, ge=1, le=MAX_ASKED, description=f"A page has {MAX_PAGE} at most."
    )
    order: Literal["asc", "desc"] = Field("desc", description="By their creation.")
    purpose: Purpose | None = None


class FileRoutes:
    """The handlers."""

    def __init__(self, parts: BulkParts) -> None:
        """Answer out of `parts`."""
        self._parts = parts

    async def upload(self, request: Request) -> FileObject | Response:
        """Keep a file: multipart/form-data, taken in as it arrives."""
        caller = await bulk_caller(self._parts, request)
        upload = Upload(self._parts, owner(caller))
        passage = request.scope[PASSAGE]
        try:
            record = await upload.kept(request.scope[HEADERS], request.receive)
        except ClientDisconnected as gone:
            passage.error = gone
            return Unanswered()
        finally:
            passage.bytes_in = upload.received_bytes
        return shown_file(record)

    async def listed(self, request: Request, asked: Annotated[FileQuery, Query()]) -> FileList:
        """List files, the newest first."""
        caller = await bulk_caller(self._parts, request)
        limit = min(asked.limit, MAX_PAGE)
        records = await self._parts.files.list(
            lists_of(caller),
            after=asked.after,
            limit=limit + 1,
            purpose=asked.purpose,
            is_oldest_first=asked.order == "asc",
        )
        return file_list(records, limit=limit)

    async def look(self, request: Request, file_id: str) -> FileObject:
        """Look at a file."""
        return shown_file(await self._theirs(request, file_id))

    async def content(self, request: Request, file_id: str) -> Response:
        """Read what is in a file."""
        return await download(self._parts, await self._theirs(request, file_id))

    async def delete(self, request: Request, file_id: str) -> FileDeleted:
        """Delete a file; not while a batch that has not ended reads it."""
        record = await self._theirs(request, file_id)
        if not await self._parts.files.delete(record.id):
            raise no_file(file_id)
        await delete_content(self._parts, record.id)
        return FileDeleted(id=record.id)

    async def _theirs(self, request: Request, file_id: str) -> FileRecord:
        caller = await bulk_caller(self._parts, request)
        record = await self._parts.files.read(file_id)
        if record is None or not may_touch(caller, record.owner):
            raise no_file(file_id)
        return record


def files_router(parts: BulkParts) -> APIRouter:
    """Make the routes about files, with and without /v1."""
    router = APIRouter(tags=["files"])
    routes = FileRoutes(parts)
    for prefix in ("/v1", ""):
        files, shown = f"{prefix}/files", bool(prefix)
        one = f"{files}/{{file_id}}"

        def add(path: str, handler: Any, summary: str, shown: bool = shown, **more: Any) -> None:
            router.add_api_route(path, handler, summary=summary, include_in_schema=shown, **more)

        add(
            files,
            routes.upload,
            "Upload a file",
            methods=["POST"],
            response_model=FileObject,
            openapi_extra=_FORM,
        )
        add(files, routes.listed, "List files")
        add(one, routes.look, "Look at a file")
        add(one, routes.delete, "Delete a file", methods=["DELETE"])
        add(
            f"{one}/content",
            routes.content,
            "Read what is in a file",
            responses=_CONTENT,
            response_class=Response,
        )
    return router


_FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": [FILE, PURPOSE],
                    "additionalProperties": False,
                    "properties": {
                        FILE: {
                            "type": "string",
                            "contentMediaType": "application/jsonl",
                            "description": "A line for each request: custom_id, method, url, body.",
                        },
                        PURPOSE: {"type": "string", "enum": [Purpose.BATCH.value]},
                        "expires_after": {
                            "type": "object",
                            "description": "In the form `expires_after[anchor]` and "
                            "`expires_after[seconds]`; without them, 30 days.",
                            "required": ["anchor", "seconds"],
                            "properties": {
                                "anchor": {"const": "created_at"},
                                "seconds": {
                                    "type": "integer",
                                    "minimum": 3_600,
                                    "maximum": 2_592_000,
                                },
                            },
                        },
                    },
                }
            }
        },
    },
}
_CONTENT: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The file as it was uploaded, or written by a batch.",
        "content": {
            "application/octet-stream": {
                "schema": {"type": "string", "contentMediaType": "application/jsonl"}
            }
        },
    }
}
