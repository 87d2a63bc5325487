"""One row for each provider that LiteLLM speaks with: how it is configured, and what it must hear.

The same rows are asked through the adapter alone and through a whole pool.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

if TYPE_CHECKING:
    from collections.abc import Mapping

KEY: Final = "canary-4f1d0c9b7a"
"""A credential without any of the usual beginnings, so that only knowing it hides it."""
AWS: Final = {
    "aws_access_key_id": "AKIAIOSFODNN7EXAMPLE",
    "aws_secret_access_key": KEY,
    "aws_region_name": "us-east-1",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A provider's model, a request with everything it knows, and what of it must arrive."""

    name: str
    model: str  # litellm_params.model
    at: str = ""  # where it lives, behind the fake's address
    config: Mapping[str, Any] = field(default_factory=lambda: {"api_key": KEY})
    dimensions: int | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    sent: Mapping[str, Any] = field(default_factory=dict)  # of the body; None: not there
    calls: int = 1  # HTTP calls for three texts
    path: str  # that is asked for, behind the fake's address

    def litellm_params(self, url: str) -> dict[str, Any]:
        """Write the entry of a configuration for a provider that lives at `url`."""
        said = {"model": self.model, "api_base": url + self.at, **self.config}
        if "vertex_credentials" in said:
            said["vertex_credentials"] = google_account(url)
        if "oci_key" in said:
            said["oci_key"] = rsa_key()
        if "aws_bedrock_runtime_endpoint" in said:
            said["aws_bedrock_runtime_endpoint"] = url
            del said["api_base"]
        return said


_VERTEX: Final = {
    "vertex_project": "p",
    "vertex_location": "us-central1",
    "vertex_credentials": "…",
}
_OCI: Final = {
    "oci_region": "us-chicago-1",
    "oci_user": "ocid1.user.oc1..u",
    "oci_tenancy": "ocid1.tenancy.oc1..t",
    "oci_fingerprint": "aa:bb",
    "oci_compartment_id": "ocid1.compartment.oc1..c",
    "oci_key": "…",
}
CASES: Final = (
    Case(
        name="cohere-v3",
        model="cohere/embed-english-v3.0",
        at="/cohere/v2/embed",
        path="/cohere/v2/embed",
        params={"truncate": "END"},
        sent={"input_type": "search_document", "embedding_types": ["float"], "truncate": "END"},
    ),
    Case(
        name="cohere-v4",
        model="cohere/embed-v4.0",
        at="/cohere/v2/embed",
        path="/cohere/v2/embed",
        dimensions=256,
        params={"input_type": "query"},
        sent={"input_type": "search_query", "output_dimension": 256, "dimensions": None},
    ),
    Case(
        name="titan-v1",
        model="bedrock/amazon.titan-embed-text-v1",
        config=AWS,
        path="/model/amazon.titan-embed-text-v1/invoke",
        calls=3,
        sent={"embeddingTypes": None},
    ),
    Case(
        name="titan-v2",
        model="bedrock/amazon.titan-embed-text-v2:0",
        config={**AWS, "aws_bedrock_runtime_endpoint": "…"},
        path="/model/amazon.titan-embed-text-v2%3A0/invoke",
        dimensions=256,
        calls=3,
        params={"normalize": True},
        sent={"embeddingTypes": ["float"], "dimensions": 256, "normalize": True},
    ),
    Case(
        name="bedrock-cohere",
        model="bedrock/cohere.embed-english-v3",
        config=AWS,
        path="/model/cohere.embed-english-v3/invoke",
        params={"input_type": "query"},
        sent={"input_type": "search_query", "embedding_types": ["float"]},
    ),
    Case(
        name="bedrock-cohere-v4",
        model="bedrock/cohere.embed-v4:0",
        config=AWS,
        path="/model/cohere.embed-v4%3A0/invoke",
        dimensions=256,
        sent={"input_type": "search_document", "output_dimension": 256},
    ),
    Case(
        name="vertex",
        model="vertex_ai/text-embedding-005",
        at="/v1/projects/p/locations/us-central1/publishers/google/models/text-embedding-005",
        config=_VERTEX,
        path="/v1/projects/p/locations/us-central1/publishers/google/models/text-embedding-005:predict",
        dimensions=64,
        params={"input_type": "search_query"},
    ),
    Case(
        name="gemini",
        model="gemini/gemini-embedding-001",
        path="/models/gemini-embedding-001:batchEmbedContents",
        dimensions=64,
        params={"task_type": "RETRIEVAL_QUERY"},
    ),
    Case(
        name="voyage",
        model="voyage/voyage-3.5",
        at="/voyage/v1",
        path="/voyage/v1/embeddings",
        dimensions=256,
        params={"input_type": "search_query", "truncation": True},
        sent={
            "input_type": "query",
            "truncation": True,
            "output_dimension": 256,
            "encoding_format": None,
        },
    ),
    Case(
        name="mistral",
        model="mistral/codestral-embed",
        at="/mistral/v1",
        path="/mistral/v1/embeddings",
        dimensions=64,
        sent={"output_dimension": 64, "dimensions": None, "encoding_format": "float"},
    ),
    Case(
        name="jina",
        model="jina_ai/jina-embeddings-v3",
        at="/jina/v1",
        path="/jina/v1/embeddings",
        dimensions=64,
        params={"input_type": "query"},
        sent={"task": "retrieval.query", "dimensions": 64, "input_type": None},
    ),
    Case(
        name="dashscope",
        model="dashscope/text-embedding-v4",
        at="/dashscope/v1",
        path="/dashscope/v1/embeddings",
        dimensions=64,
        sent={"dimensions": 64},
    ),
    Case(
        name="nvidia",
        model="nvidia_nim/nvidia/nv-embedqa-e5-v5",
        at="/nvidia/v1",
        path="/nvidia/v1/embeddings",
        params={"input_type": "search_query"},
        sent={"input_type": "query", "encoding_format": "float", "extra_body": None},
    ),
    Case(
        name="together",
        model="together_ai/BAAI/bge-base-en-v1.5",
        at="/plain/v1",
        path="/plain/v1/embeddings",
        sent={"encoding_format": "float"},
    ),
    Case(
        name="fireworks",
        model="fireworks_ai/nomic-ai/nomic-embed-text-v1.5",
        at="/plain/v1",
        path="/plain/v1/embeddings",
        dimensions=64,
        sent={"dimensions": 64},
    ),
    Case(
        name="nebius",
        model="nebius/BAAI/bge-en-icl",
        at="/plain/v1",
        path="/plain/v1/embeddings",
        sent={"encoding_format": "float"},
    ),
    Case(
        name="databricks",
        model="databricks/databricks-gte-large-en",
        at="/databricks/serving-endpoints/x",
        path="/databricks/serving-endpoints/x/embeddings",
    ),
    Case(
        name="huggingface",
        model="huggingface/BAAI/bge-m3",
        at="/hf",
        path="/hf",
        sent={"parameters": None},
    ),
    Case(
        name="ollama",
        model="ollama/nomic-embed-text",
        path="/api/embed",
        params={"truncate": True},
        sent={"truncate": True},
    ),
    Case(
        name="watsonx",
        model="watsonx/ibm/slate-125m-english-rtrvr",
        config={"api_key": "unused-key", "watsonx_token": KEY, "project_id": "p"},
        path="/ml/v1/text/embeddings",
        sent={"project_id": "p"},
    ),
    Case(
        name="oci",
        model="oci/cohere.embed-v4.0",
        config=_OCI,
        path="/20231130/actions/embedText",
        dimensions=256,
        params={"input_type": "query"},
        sent={"inputType": "SEARCH_QUERY", "outputDimensions": 256},
    ),
)


def google_account(url: str) -> str:
    """Write a service account whose tokens are handed out at `url`."""
    account = {
        "type": "service_account",
        "project_id": "p",
        "private_key_id": "1",
        "private_key": rsa_key(),
        "client_email": "pool@p.iam.gserviceaccount.com",
        "token_uri": f"{url}/token",
    }
    return json.dumps(account)


@cache
def rsa_key() -> str:
    """Make a private key as a PEM."""
    key = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()
