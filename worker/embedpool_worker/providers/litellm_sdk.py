"""LiteLLM as a provider: the only module that knows it, imported by the first call that needs it.

Invariants
- One HTTP attempt per call: its own retries are off, and `litellm_http.Border` refuses a second
  one; several texts for a model that takes one at a time are several calls, side by side.
- The loop is not blocked by the import (2-3 s); it happens in a thread.
- No caller's field is an argument: `litellm_arguments` writes them.
- Nothing but `ProviderError`s leave `embed`.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakSet

import httpx

from embedpool_shared.errors import ProviderError, ProviderUnavailable
from embedpool_worker.providers.google_login import GoogleLogin
from embedpool_worker.providers.http_options import HttpOptions
from embedpool_worker.providers.limits import Traits, traits_for
from embedpool_worker.providers.litellm_answer import answer_from, first_of, joined
from embedpool_worker.providers.litellm_arguments import arguments
from embedpool_worker.providers.litellm_errors import ours
from embedpool_worker.providers.litellm_http import Border, watched
from embedpool_worker.providers.port import ProviderAnswer, ProviderCall
from embedpool_worker.providers.sdk_environment import sdk_environment
from embedpool_worker.providers.sending import dims_wanted, secrets_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from embedpool_worker.deployments import Deployment

ENVIRONMENT: Final = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # no price map from the network at import
    "LITELLM_MODE": "PRODUCTION",  # no .env file of the working directory
    "DEFAULT_MAX_RETRIES": "0",  # its OpenAI path turns max_retries=0 into this
    "AWS_MAX_ATTEMPTS": "1",  # boto3's own retries
    "LITELLM_TELEMETRY": "False",
}
MAX_THREADS: Final = 64
"""`aembedding` runs part of itself, and all of SageMaker, in the loop's default executor."""
MAX_SIDE_BY_SIDE: Final = 8
SIGN_IN_TIMEOUT_S: Final = 10.0
NOT_INSTALLED: Final = "LiteLLM is not installed: pip install 'embedpool[worker]'"


class LiteLLMProvider:
    """One deployment that LiteLLM speaks with."""

    def __init__(self, deployment: Deployment, options: HttpOptions) -> None:
        self._deployment = deployment
        self._options = options
        self._traits: Traits = traits_for(deployment.provider, api_base=deployment.api_base)
        self._google: GoogleLogin | None = None
        if deployment.merges_body:
            self._traits = replace(self._traits, merges_body=True)

    async def embed(self, call: ProviderCall) -> ProviderAnswer:
        """Answer every input of `call`, or raise one `ProviderError`."""
        if len(call.inputs) > 1 and _takes_one_at_a_time(self._deployment, call):
            return await self._side_by_side(call)
        return await self._ask(call)

    async def close(self) -> None:
        """Give back this loop's connections, which all deployments share; others reconnect."""
        if _library.border is not None:
            await _library.border.aclose()

    async def _ask(self, call: ProviderCall) -> ProviderAnswer:
        given = arguments(self._deployment, call, self._traits)
        litellm = await _library.loaded(self._options)
        if self._deployment.provider == "vertex_ai":
            given |= await self._signed_in(given)
        with watched() as sighting:
            try:
                response = await litellm.aembedding(**given)
            # Its tree of exceptions is open, and its bugs raise anything; all become one of ours.
            except Exception as error:  # noqa: BLE001
                now_unix_s = datetime.now(UTC).timestamp()
                # `from None`: its exceptions quote the input and sometimes the key.
                secrets = secrets_of(self._deployment, call)
                raise ours(error, sighting, now_unix_s=now_unix_s, secrets=secrets) from None
        answer = answer_from(response, call, dims=dims_wanted(self._deployment, call))
        tokens = answer.total_tokens if self._traits.reports_usage else None
        return replace(answer, total_tokens=tokens, headers=sighting.headers)

    async def _signed_in(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments that say who calls Vertex: a token where LiteLLM expects credentials."""
        if self._google is None:
            self._google = _library.google_login(given.get("vertex_credentials"))
        login = await self._google.login()
        project = given.get("vertex_project") or login.project
        return {"vertex_project": project, "vertex_credentials": login.token}

    async def _side_by_side(self, call: ProviderCall) -> ProviderAnswer:
        """Send each input as a call of its own; LiteLLM would await them one after another."""
        room = asyncio.Semaphore(MAX_SIDE_BY_SIDE)

        async def one(text: Any) -> ProviderAnswer:
            async with room:
                return await self._ask(replace(call, inputs=[text]))

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(text)) for text in call.inputs]
        except* ProviderError as errors:
            raise first_of(errors) from None
        return joined([task.result() for task in tasks])


def _takes_one_at_a_time(deployment: Deployment, call: ProviderCall) -> bool:
    # Behind a wildcard only the call names the model.
    return deployment.provider == "bedrock" and "cohere" not in call.model


class _Library:
    """LiteLLM itself, once per process: imported late, quiet, and behind our border."""

    def __init__(self) -> None:
        self.border: Border | None = None
        self._options = HttpOptions()
        self._module: Any = None
        self._lock = threading.Lock()
        self._roomy_loops: WeakSet[asyncio.AbstractEventLoop] = WeakSet()

    async def loaded(self, options: HttpOptions) -> Any:
        """The module, ready to be called from this loop; the first options of a process hold."""
        loop = asyncio.get_running_loop()
        if loop not in self._roomy_loops:
            threads = ThreadPoolExecutor(MAX_THREADS, thread_name_prefix="litellm")
            loop.set_default_executor(threads)
            self._roomy_loops.add(loop)
        if self._module is None:
            await asyncio.to_thread(self._load, options)
        return self._module

    def google_login(self, credentials: str | None) -> GoogleLogin:
        """A way in to Google Cloud, over borders of its own: it closes them."""
        direct = replace(self._options, proxy=None)
        return GoogleLogin(
            credentials,
            outward=lambda: Border(self._options).client(SIGN_IN_TIMEOUT_S),
            inward=lambda: Border(direct).client(SIGN_IN_TIMEOUT_S),
        )

    def _load(self, options: HttpOptions) -> None:
        with self._lock:
            if self._module is not None:
                return
            os.environ.update(ENVIRONMENT | sdk_environment(options))
            # pydantic's remark on LiteLLM's own types; nobody here can act on it.
            warnings.filterwarnings("ignore", message=".*`ReadOnly` qualifier")
            try:
                # Not an import statement: type checkers would follow it into 170 MB.
                litellm: Any = importlib.import_module("litellm")
                handlers: Any = importlib.import_module("litellm.llms.custom_httpx.http_handler")
                vertex: Any = importlib.import_module("litellm.llms.vertex_ai.vertex_llm_base")
                utils: Any = importlib.import_module("litellm.utils")
            except ImportError as error:
                raise ProviderUnavailable(NOT_INSTALLED) from error
            self.border = border = Border(options)
            self._options = options
            _silence(litellm)
            litellm.DEFAULT_MAX_RETRIES = 0
            # OpenAI's and Azure's SDK take this client, everybody else asks the handler for one.
            litellm.aclient_session = border.client()
            handlers.AsyncHTTPHandler.create_client = _client_maker(border)
            # What still waits for an answer in a thread: watsonx, when it signs in.
            handlers.HTTPHandler.create_client = _blocking_client_maker(options)
            # To price a call it asks huggingface.co about the model, and the loop waits meanwhile.
            utils._get_max_position_embeddings = lambda *_, **__: None
            vertex.VertexBase._ensure_access_token = _token_as_given
            vertex.VertexBase._ensure_access_token_async = _token_as_given_async
            self._module = litellm


def _client_maker(border: Border) -> Any:
    def create_client(_handler: Any, timeout: Any = None, *_args: Any, **_more: Any) -> Any:
        return border.client(timeout)

    return create_client


def _blocking_client_maker(options: HttpOptions) -> Any:
    def create_client(handler: Any) -> Any:
        return httpx.Client(
            verify=options.ssl_context(),
            proxy=options.proxy,
            timeout=handler.timeout or SIGN_IN_TIMEOUT_S,
            follow_redirects=False,
            trust_env=False,
        )

    return create_client


def _token_as_given(_self: Any, credentials: Any, project_id: Any, custom_llm_provider: str) -> Any:
    """Take a token for what it is: signing in is done by then."""
    return ("", "") if custom_llm_provider == "gemini" else (credentials, project_id)


async def _token_as_given_async(
    _self: Any, credentials: Any, project_id: Any, custom_llm_provider: str
) -> Any:
    return _token_as_given(_self, credentials, project_id, custom_llm_provider)


def _silence(litellm: Any) -> None:
    """Keep texts and keys out of its log and off the screen, and its callbacks empty."""
    litellm.suppress_debug_info = True
    litellm.telemetry = False
    litellm.turn_off_message_logging = True
    litellm.drop_params = False
    for name in ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


_library: Final = _Library()
