"""The HTTP edge, put together: the hot endpoint in front, FastAPI for everything else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from typing_extensions import override

from embedpool_api.errors import error_body
from embedpool_api.middleware import REQUEST_ID, Edge, send_error
from embedpool_api.openapi import document
from embedpool_api.paths import MODEL, hot_path
from embedpool_api.routes.batches import batches_router
from embedpool_api.routes.files import files_router
from embedpool_api.routes.keys import keys_router
from embedpool_api.routes.metrics import metrics_router
from embedpool_api.routes.model_info import model_info_router
from embedpool_api.routes.models import models_router
from embedpool_api.routes.ops import ops_router
from embedpool_api.routes.spend import spend_router
from embedpool_api.routes.status import status_router
from embedpool_api.routes.teams import teams_router
from embedpool_api.routes.users import users_router
from embedpool_shared.errors import (
    BadRequest,
    CallerError,
    EmbedPoolError,
    MethodNotAllowed,
    PathNotFound,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from starlette.types import ASGIApp, Receive, Scope, Send

    from embedpool_api.parts import ApiParts

ADMIN_ROUTERS: Final = (keys_router, teams_router, users_router, spend_router, model_info_router)


def create_app(parts: ApiParts) -> ASGIApp:
    """Put the edge together around `parts`."""
    inner = _Documented(
        title="embedpool",
        version=parts.version,
        summary="Embeddings from every provider, many callers' texts to a call",
        lifespan=parts.lifespan,
        docs_url=None,  # both pages load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
    )
    inner.include_router(models_router(parts))
    inner.include_router(ops_router(parts))
    if parts.metrics is not None:
        inner.include_router(metrics_router(parts.metrics))
    if parts.admin is not None:
        for router in ADMIN_ROUTERS:
            inner.include_router(router(parts.admin))
    if parts.bulk is not None:
        inner.include_router(files_router(parts.bulk))
        inner.include_router(batches_router(parts.bulk))
    if parts.status is not None:
        inner.include_router(status_router(parts.status))
    for kind in (EmbedPoolError, RequestValidationError, HTTPException, Exception):
        inner.add_exception_handler(kind, _answered)
    return Edge(_Dispatch(parts.embeddings, inner), parts.witness)


class _Dispatch:
    """Sends embeddings past FastAPI's stack, which would cost two to three times the work."""

    def __init__(self, embeddings: ASGIApp, others: ASGIApp) -> None:
        self._embeddings = embeddings
        self._others = others

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        found = hot_path(scope["path"]) if scope["type"] == "http" else None
        if found is None:
            return self._others(scope, receive, send)
        if scope["method"] != "POST":
            error = MethodNotAllowed("Embeddings are asked for by POST")
            return send_error(send, error, headers=[(b"allow", b"POST")])
        scope[MODEL] = found.model
        return self._embeddings(scope, receive, send)


class _Documented(FastAPI):
    @override
    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            self.openapi_schema = document(super().openapi())
        return self.openapi_schema


async def _answered(request: Request, error: Exception) -> Response:
    ours = error if isinstance(error, EmbedPoolError) else _ours(error)
    status, headers, body = error_body(ours, request_id=request.scope[REQUEST_ID])
    response = Response(body, status)
    response.raw_headers = headers
    if isinstance(error, HTTPException) and error.headers:
        response.headers.update(error.headers)
    return response


def _ours(error: Exception) -> Exception:
    """Translate FastAPI's errors; any other is a bug and stays what it is."""
    if isinstance(error, RequestValidationError):
        problem = error.errors()[0]
        return BadRequest(str(problem["msg"]), param=str(problem["loc"][-1]))
    if isinstance(error, HTTPException):
        return _of_status(error)
    return error


def _of_status(error: HTTPException) -> CallerError:
    if error.status_code == 404:
        return PathNotFound("There is no such path; embeddings are at /v1/embeddings")
    if error.status_code == 405:
        return MethodNotAllowed("This path does not answer that method; see the header Allow")
    return BadRequest(str(error.detail))
