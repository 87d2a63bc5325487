"""What SDKs beneath LiteLLM, which our transport does not reach, are told of the way out.

boto3 speaks to SageMaker and signs in to AWS by itself; it reads the environment and nothing else.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import certifi

if TYPE_CHECKING:
    from embedpool_worker.providers.http_options import HttpOptions

NEVER_PROXIED: Final = "169.254.169.254,169.254.170.2"
"""Where a host's own credentials are handed out."""


def sdk_environment(options: HttpOptions) -> dict[str, str]:
    """Name the operator's proxy and certificates as SDKs read them; no proxy is no proxy at all."""
    environment = {"NO_PROXY": "*", "no_proxy": "*"}
    if options.proxy is not None:
        environment = dict.fromkeys(("NO_PROXY", "no_proxy"), NEVER_PROXIED)
        environment |= dict.fromkeys(("HTTPS_PROXY", "https_proxy"), options.proxy)
        environment |= dict.fromkeys(("HTTP_PROXY", "http_proxy"), options.proxy)
    if options.ca_file is not None:
        environment["AWS_CA_BUNDLE"] = _bundle_with(options.ca_file)
    return environment


def _bundle_with(ca_file: str) -> str:
    """Write the public authorities and the operator's into one file: boto3 takes only one."""
    public, own = Path(certifi.where()).read_bytes(), Path(ca_file).read_bytes()
    with tempfile.NamedTemporaryFile(prefix="embedpool-ca-", suffix=".pem", delete=False) as file:
        file.write(public + b"\n" + own)
    return file.name
