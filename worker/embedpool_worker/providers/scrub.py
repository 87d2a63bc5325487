"""What of a foreign message may be shown: no key, no control characters, no essay. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection

MAX_MESSAGE_CHARS: Final = 500
REDACTED: Final = "[redacted]"

_LOOKS_LIKE_A_KEY: Final = re.compile(
    r"""
      \bBearer\s+[^\s"',;]+                                   # a header that was echoed
    | \b(?:api[-_ ]?key|x-goog-api-key|(?:access|security)[-_ ]?token|secret|password|authorization)
      ["']?\s*[:=]\s*["']?(?:(?:Bearer|Basic)\s+)?[^\s"',;&]{6,}  # name and value
    | \bBasic\s+(?=\S*[0-9=])[\w+/=]{8,}
    | \b(?:Credential|Signature|keyId)="?[^\s,&"']+           # in a signed header
    | [?&](?:key|api_key|token|sig)=[^\s"'&]+                 # in a URL
    | \b(?:sk|pk|rk|gr|gsk|hf|pa|jina|nvapi|r8|xai)[-_][\w*.\-]{6,}
    | \bAIza[\w\-]{10,} | \bAKIA[0-9A-Z]{8,} | \beyJ[\w\-]{8,}\.[\w\-.]+
    | [^\s"']{0,80}\*{3,}[^\s"']{0,80}                        # a key that was masked only in part
    | (?<![\w+=\-])(?=[\w+=\-]*[0-9])(?=[\w+=\-]*[A-Za-z])[A-Za-z0-9_+=\-]{32,}  # long, random
    """,
    re.VERBOSE | re.IGNORECASE,
)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]+")


def scrubbed(message: str, secrets: Collection[str] = ()) -> str:
    """Rewrite `message` without anything that looks like a key, in at most 500 characters.

    `secrets` are the credentials of the call, whatever they look like.
    """
    text = message
    # The longest first: one may be the beginning of another.
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, REDACTED)
    text = _LOOKS_LIKE_A_KEY.sub(REDACTED, text[: 8 * MAX_MESSAGE_CHARS])
    text = _CONTROL.sub(" ", text).strip()
    if len(text) > MAX_MESSAGE_CHARS:
        return text[: MAX_MESSAGE_CHARS - 1] + "…"
    return text
