"""The adapters of this process, each open from its first call to the end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from embedpool_shared.config.settings import Config
from embedpool_worker.deployments import Adapter, Deployment
from embedpool_worker.providers import adapters
from embedpool_worker.providers.http_options import HttpOptions
from embedpool_worker.providers.local import LocalModel
from embedpool_worker.providers.port import Provider


@dataclass(slots=True, eq=False)
class OpenAdapters:
    """The adapter of each deployment, built at its first call and closed at the end."""

    options: HttpOptions
    built: dict[str, Provider] = field(default_factory=dict)

    def of(self, deployment: Deployment) -> Provider:
        """Find or build the adapter."""
        provider = self.built.get(deployment.id)
        if provider is None:
            provider = self.built[deployment.id] = adapters.build(deployment, self.options)
        return provider

    async def warm(self, deployments: Sequence[Deployment]) -> None:
        """Load local models before the first request needs them."""
        for deployment in deployments:
            if deployment.adapter is Adapter.LOCAL:
                provider = self.of(deployment)
                if isinstance(provider, LocalModel):
                    await provider.warm()

    async def close(self) -> None:
        """Give everything back."""
        await asyncio.gather(*(p.close() for p in self.built.values()), return_exceptions=True)


def http_options(config: Config) -> HttpOptions:
    """How every adapter reaches its provider."""
    proxy = config.http.proxy
    return HttpOptions(
        proxy=proxy.get_secret_value() if proxy else None, ca_file=config.http.ca_file
    )
