"""Every setting of ours: its default, its bounds and one sentence about it. Pure.

The layout of the file is LiteLLM's; its sections are in `litellm_sections`. Here an unknown setting
is an error, there it is ignored and listed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    model_validator,
)

from embedpool_shared.config.litellm_sections import (
    GeneralSettings,
    LitellmSettings,
    ModelEntry,
    RouterSettings,
)
from embedpool_shared.hosts import is_loopback

DEFAULT_REQUEST_TIMEOUT_S: Final = 60.0
DEFAULT_RETRIES: Final = 2
DEFAULT_CACHE_TTL_S: Final = 3_600.0
MIN_SECRET_CHARS: Final = 16
REDIS_SCHEMES: Final = (
    "redis://",
    "rediss://",
    "unix://",
    "redis+sentinel://",
    "rediss+sentinel://",
)
_URL: Final = re.compile(r"[a-z][a-z0-9+.-]*://.")


def _no_switch(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("should be a number, not a switch")  # noqa: TRY004 (pydantic's protocol)
    return value


def _text(value: object) -> object:
    return value if isinstance(value, dict | list) else str(value)


def _redis_url(url: SecretStr) -> SecretStr:
    if not url.get_secret_value().startswith(REDIS_SCHEMES):
        raise ValueError(f"should start with one of {', '.join(REDIS_SCHEMES)}")
    return url


def _files_url(url: SecretStr) -> SecretStr:
    text = url.get_secret_value()
    if not _URL.match(text):
        raise ValueError("should be a URL like file:///srv/files or s3://bucket/path")
    if text.startswith("file:") and not text.startswith("file:///"):
        raise ValueError("should name a folder from the root on, like file:///srv/files")
    return url


Count = Annotated[int, BeforeValidator(_no_switch)]
Amount = Annotated[float, BeforeValidator(_no_switch), Field(allow_inf_nan=False)]
Port = Annotated[int, BeforeValidator(_no_switch), Field(ge=0, le=65_535)]
RedisUrl = Annotated[SecretStr, AfterValidator(_redis_url)]
FilesUrl = Annotated[SecretStr, AfterValidator(_files_url)]
ProviderName = Annotated[str, Field(pattern=r"^[a-z0-9_-]{1,64}$")]
KeyPrefix = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,32}$")]


class Section(BaseModel):
    """A part of the file that is ours: what it does not know is an error."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, hide_input_in_errors=True
    )


class AuthSettings(Section):
    """Who may call."""

    key_prefix: KeyPrefix = "sk-ep-"
    """How the virtual keys we issue begin."""
    accepted_prefixes: tuple[KeyPrefix, ...] = ()
    """How virtual keys issued earlier begin, so that they are never taken for a provider's."""
    allow_passthrough_keys: bool = False
    """Hand a bearer token that is not ours to the provider as its api key."""
    passthrough_rpm: Count = Field(6_000, ge=1)
    """Requests a minute with such tokens, of all callers together."""
    passthrough_rpm_per_address: Count = Field(600, ge=1)
    """The same for one address; IPv6 addresses count by their /64 network."""
    secret: Annotated[SecretStr, Field(min_length=MIN_SECRET_CHARS)] | None = None
    """Root of the digests and the encryption; `embedpool serve` keeps one in the data directory
    where none is set, an api and workers of their own need the same one."""
    old_secrets: tuple[Annotated[SecretStr, Field(min_length=MIN_SECRET_CHARS)], ...] = ()
    """Earlier secrets, still good for reading while the secret is being rotated."""


class PoolSettings(Section):
    """How work waits, is shared and leaves."""

    linger_ms: Amount = Field(3.0, ge=0, le=1_000)
    """The longest an interactive item waits for company while a call is in flight."""
    bulk_linger_ms: Amount = Field(25.0, ge=0, le=10_000)
    """The same for an item of the bulk class."""
    lease_s: Amount = Field(5.0, ge=0.2, le=300)
    """How long a silent worker keeps its work before another one takes it over."""
    max_queue_items: Count = Field(200_000, ge=1)
    """Items that may wait for one model; more are refused with 503 and Retry-After."""
    max_queue_bytes: Count = Field(512 * 1024 * 1024, ge=1_048_576)
    """Bytes that may wait for one model; more are refused with 503 and Retry-After."""
    max_leased_items: Count = Field(4_096, ge=64, le=1_000_000)
    """Items of one model that one worker takes from the queue ahead of its calls."""
    slots_per_key: Count = Field(8, ge=1, le=1_024)
    """Calls in flight at once with one provider key, over all workers."""
    share_across: Literal["all", "team", "key"] = "all"
    """Whose items may travel in one provider call: everybody's, one team's, one key's."""
    forward_user: bool = False
    """Send the caller's `user` to the provider; callers with different ones share no call then."""


class RedisSettings(Section):
    """Where the queue lives; without a url `embedpool serve` starts a Valkey of its own."""

    url: RedisUrl | None = None
    """Any redis-py URL (redis, rediss, unix), or redis+sentinel://host1,host2/service/db."""
    lanes_url: RedisUrl | None = None
    """Another instance for packs, replies and ledgers; without one, the instance at url."""
    jobs_url: RedisUrl | None = None
    """Another instance for arq's maintenance and bulk jobs; without one, the instance at url."""
    prefix: str = Field("ep", pattern=r"^[A-Za-z0-9_.:-]{1,64}$")
    """How every name in Redis begins, so that several pools can share one instance."""
    ca_file: str | None = None
    """The authority that signed the server's certificate; without one, the system's."""


class HttpSettings(Section):
    """How workers reach providers."""

    proxy: SecretStr | None = None
    """The forward proxy for every provider call, http://user:password@host:port."""
    ca_file: str | None = None
    """The authorities that sign providers' certificates; without them, the system's."""


class MetricsSettings(Section):
    """Where Prometheus scrapes."""

    host: str = "127.0.0.1"
    """The address to listen on; beyond loopback only with a token."""
    api_port: Port = 9_400
    """The api's port for /metrics; 0 is off."""
    worker_port: Port = 9_401
    """The worker's port for /metrics; 0 is off."""
    token: Annotated[SecretStr, Field(min_length=8)] | None = None
    """What a scraper must send as bearer token."""
    slow_request_s: Amount = Field(5.0, gt=0)
    """An embeddings request that takes longer is counted as slow, and logged as a warning."""

    @model_validator(mode="after")
    def _guarded(self) -> MetricsSettings:
        if self.token is None and not is_loopback(self.host):
            raise ValueError(
                f"host {self.host} is reachable from elsewhere: set metrics.token as well, "
                "or metrics.host to 127.0.0.1"
            )
        return self


class CacheSettings(Section):
    """The vector cache; `litellm_settings.cache: true` switches it on as well."""

    url: RedisUrl | None = None
    """An instance for the vectors; without one, the instance at redis.url."""
    ttl_s: Amount = Field(0.0, ge=0)
    """How long a vector is kept; 0 is off."""
    max_bytes: Count = Field(256 * 1024 * 1024, ge=1_048_576)
    """How much the vectors may take."""


class FilesSettings(Section):
    """Where the files of batches live, and how large they may be."""

    url: FilesUrl | None = None
    """A folder by URL (file:///srv/files, s3://bucket/path), the same for api and workers;
    `embedpool serve` keeps them in its data directory where none is set, else batches are off."""
    max_file_bytes: Count = Field(200_000_000, ge=1)
    """Bytes of one file."""
    max_line_bytes: Count = Field(1024 * 1024, ge=1)
    """Bytes of one line, which is one request."""
    max_lines: Count = Field(50_000, ge=1)
    """Lines of one batch."""
    max_inputs: Count = Field(50_000, ge=1)
    """Inputs of all lines of one batch."""
    max_files_per_owner: Count = Field(1_000, ge=1)
    """Uploaded files that a team, or a key without one, may have."""
    max_bytes_per_owner: Count = Field(20 * 1024 * 1024 * 1024, ge=1)
    """Bytes of all of these files."""
    max_active_batches_per_owner: Count = Field(100, ge=1)
    """Batches of a team, or of a key without one, that have not ended."""


class LlmSettings(Section):
    """What callers may leave out."""

    default_embedding_model: str | None = None
    """The model of a request that names none."""


class Config(Section):
    """The whole configuration; built by `file.load_config`."""

    model_list: tuple[ModelEntry, ...] = ()
    """The models served, in LiteLLM's layout; entries of one model_name form a group."""
    litellm_settings: LitellmSettings = LitellmSettings()
    """LiteLLM's section of that name."""
    router_settings: RouterSettings = RouterSettings()
    """LiteLLM's section of that name."""
    general_settings: GeneralSettings = GeneralSettings()
    """LiteLLM's section of that name."""
    environment_variables: dict[str, Annotated[SecretStr, BeforeValidator(_text)]] = Field(
        {}, repr=False
    )
    """LiteLLM's section of that name: looked up before the environment."""
    auth: AuthSettings = AuthSettings()
    """Who may call."""
    pool: PoolSettings = PoolSettings()
    """How work waits, is shared and leaves."""
    redis: RedisSettings = RedisSettings()
    """Where the queue lives."""
    http: HttpSettings = HttpSettings()
    """How workers reach providers."""
    metrics: MetricsSettings = MetricsSettings()
    """Where Prometheus scrapes."""
    cache: CacheSettings = CacheSettings()
    """The vector cache."""
    files: FilesSettings = FilesSettings()
    """Where the files of batches live, and how large they may be."""
    llm: LlmSettings = LlmSettings()
    """What callers may leave out."""
    unlisted_providers: tuple[ProviderName, ...] | None = None
    """Providers whose embedding models are served without being listed; unset and without a master
    key, every provider whose key is in the environment."""

    @property
    def master_key(self) -> SecretStr | None:
        """The key that may do everything; None is open mode."""
        return self.general_settings.master_key

    def environ(self, environ: Mapping[str, str]) -> dict[str, str]:
        """The environment with `environment_variables` laid over it."""
        own = {n: v.get_secret_value() for n, v in self.environment_variables.items()}
        return {**environ, **own}

    @property
    def request_timeout_s(self) -> float:
        """How long an answer is wanted when the client does not say."""
        return self.litellm_settings.request_timeout or DEFAULT_REQUEST_TIMEOUT_S

    @property
    def max_retries(self) -> int:
        """Further calls after the first one failed."""
        asked = (self.router_settings.num_retries, self.litellm_settings.num_retries)
        return next((n for n in asked if n is not None), DEFAULT_RETRIES)

    @property
    def cache_ttl_s(self) -> float:
        """How long a vector is kept; 0 is off."""
        if self.cache.ttl_s or not self.litellm_settings.cache:
            return self.cache.ttl_s
        return self.litellm_settings.cache_params.ttl or DEFAULT_CACHE_TTL_S
