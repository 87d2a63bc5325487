"""What the documents of other products show, as they print it, and what their pages had lost.

A page that was copied loses indentation, braces, newlines and whole lines of a file, and it names
hosts and keys that nobody has. `restored` says what stands in the place of what, and nothing else
of a snippet is touched.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

Restored = tuple[tuple[str, str], ...]
"""What is printed, and what stands there again; `{url}` and `{key}` are the test's own."""


@dataclass(frozen=True, slots=True)
class Snippet:
    """One thing a reader would copy."""

    product: str
    about: str
    printed: str
    restored: Restored = ()

    def text(self, **places: str) -> str:
        """Write it as it must have been, for the hosts and keys of a test."""
        text = self.printed
        for lost, found in self.restored:
            assert lost in text, f"{self.product}, {self.about}: {lost!r} is not printed"
            text = text.replace(lost, found)
        for name, place in places.items():
            text = text.replace(f"{{{name}}}", place)
        return text


RELAY: Final = "Relay"
PROXY: Final = "LiteLLM proxy"
MONO: Final = "MonoRelay"
PLATFORM: Final = "the platform"

_RELAY_CURL: Final = (
    r'curl https://relay.company.com/v1/embeddings \ -H "Authorization: Bearer {}" \ '
    r'-H "Content-Type: application/json" \ '
    r"""-d '{{"model": "text-embedding-3-small", "input": "Hello world"}}'"""
)
_RELAY_LOST: Final = (
    ("\\ -", "\\\n  -"),  # newlines
    ("https://relay.company.com", "{url}"),  # host
)
_PROXY_HERE: Final = (("http://localhost:4000", "{url}"), ("sk-litellm-xxx", "{key}"))
_PROXY_IMPORT: Final = """\
import openai

client = openai.OpenAI(
    api_key="sk-litellm-xxx",
    base_url="http://localhost:4000"
)

"""
_NO_HOST: Final = ("--location ''", "--location '{url}/embeddings'")

CURL: Final = (
    Snippet(
        RELAY,
        "a key it issued",
        _RELAY_CURL.format("gr-..."),
        (*_RELAY_LOST, ("gr-...", "{key}")),
    ),
    Snippet(
        RELAY,
        "a key of OpenAI's, passed through",
        _RELAY_CURL.format("sk-..."),
        (*_RELAY_LOST, ("sk-...", "{own_key}")),
    ),
    Snippet(
        PROXY,
        "basic request",
        r"""curl -X POST http://localhost:4000/v1/embeddings \
  -H "Content-Type: application/json" \
  -H "Authorization: Bearer sk-litellm-xxx" \
  -d '{
    "model": "text-embedding-3-small",
    "input": "The quick brown fox jumps over the lazy dog"
  }'""",
        _PROXY_HERE,
    ),
    Snippet(
        PLATFORM,
        "create embeddings",
        r"""curl "$BASE_URL/v1/embeddings" \
  -H "Authorization: Bearer $API_KEY" \
  -H "Content-Type: application/json" \
  -d '{
    "model": "your-embedding-model-or-deployment-id",
    "input": "The quick brown fox jumps over the lazy dog.",
    "encoding_format": "float"
  }'""",
    ),
)
"""Of the products whose configurations one pool can have together."""

PYTHON: Final = (
    (
        Snippet(
            RELAY,
            "SDK usage",
            "from openai import OpenAI\n"
            'client = OpenAI( api_key="gr-...", base_url="https://relay.company.com/v1",)\n'
            'response = client.embeddings.create( model="text-embedding-3-small", '
            'input="Hello world",)print(response.data[0].embedding)',
            (
                (",)print", ",)\nprint"),  # a newline
                ("https://relay.company.com", "{url}"),
                ("gr-...", "{key}"),
            ),
        ),
        r"\[-?\d\.\d+(e-\d+)?, .*\]\n",
    ),
    (
        Snippet(
            PROXY,
            "Python request",
            _PROXY_IMPORT
            + """\
response = client.embeddings.create(
    model="text-embedding-3-small",
    input="The quick brown fox"
)

print(response.data[0].embedding)
""",
            _PROXY_HERE,
        ),
        r"\[-?\d\.\d+(e-\d+)?, .*\]\n",
    ),
    (
        Snippet(
            PROXY,
            "batch embeddings",
            _PROXY_IMPORT
            + """\
texts = [
    "First document",
    "Second document",
    "Third document"
]

response = client.embeddings.create(
    model="text-embedding-3-small",
    input=texts
)

for i, embedding in enumerate(response.data):
    print(f"Document {i}: {len(embedding.embedding)} dimensions")
""",
            _PROXY_HERE,
        ),
        "".join(f"Document {i}: 1536 dimensions\n" for i in range(3)),
    ),
    (
        Snippet(
            PROXY,
            "with user tracking",
            _PROXY_IMPORT
            + """\
response = client.embeddings.create(
    model="text-embedding-3-small",
    input="Sample text",
    extra_headers={
        "x-litellm-user-id": "user-123"
    }
)
""",
            _PROXY_HERE,
        ),
        "",
    ),
    (
        Snippet(
            PROXY,
            "custom dimensions",
            _PROXY_IMPORT
            + """\
response = client.embeddings.create(
    model="text-embedding-3-small",
    input="Sample text",
    dimensions=512  # Reduce from default 1536
)

print(len(response.data[0].embedding))  # 512
""",
            _PROXY_HERE,
        ),
        "512\n",
    ),
    (
        Snippet(
            MONO,
            "two texts",
            """\
from openai import OpenAI

client = OpenAI(
    base_url="https://<host>/v1",
    api_key="<your-access-token>",
)

response = client.embeddings.create(
    model="text-embedding-3-small",
    input=["MonoRelay is an LLM relay server.", "It supports multiple providers."],
)

for item in response.data:
    print(f"Index {item.index}: {len(item.embedding)}-dimensional vector")
""",
            (("https://<host>", "{url}"), ("<your-access-token>", "{key}")),
        ),
        "Index 0: 1536-dimensional vector\nIndex 1: 1536-dimensional vector\n",
    ),
)
"""Programs, and what they print (a regular expression)."""

BODIES: Final = (
    Snippet(
        RELAY,
        "a text",
        '{ "model": "text-embedding-3-small", '
        '"input": "The quick brown fox jumps over the lazy dog"}',
    ),
    Snippet(
        RELAY,
        "two texts",
        '{ "model": "text-embedding-3-small", "input": ["first sentence", "second sentence"]}',
    ),
    Snippet(
        RELAY,
        "a text for the default model",
        '{ "model": "text-embedding-3-small", '
        '"input": "The quick brown fox jumps over the lazy dog"}',
        (('"model": "text-embedding-3-small", ', ""),),  # which may be left out, as it says
    ),
    Snippet(PROXY, "a text", '{\n  "input": "The quick brown fox"\n}'),
    Snippet(PROXY, "three texts", '{\n  "input": ["First text", "Second text", "Third text"]\n}'),
)
"""Bodies of requests; some products' name the model in the path, or leave it to the default."""

DEFAULT_MODEL: Final = Snippet(
    RELAY,
    "a default embedding model",
    "llm: default_embedding_model: text-embedding-3-small",
    (("llm: ", "llm:\n  "),),  # a newline and the indentation
)

THREE_CLOUDS: Final = Snippet(
    PROXY,
    "SageMaker, Bedrock and Azure",
    """\
- model_name: sagemaker-embeddings
model: "sagemaker/berri-benchmarking-gpt-j-6b-fp16"
- model_name: amazon-embeddings
model: "bedrock/amazon.titan-embed-text-v1"
- model_name: azure-embeddings
model: "azure/azure-embedding-model"
api_base: "os.environ/AZURE_API_BASE" # os.getenv("AZURE_API_BASE")
api_key: "os.environ/AZURE_API_KEY" # os.getenv("AZURE_API_KEY")
api_version: "2023-07-01-preview"

master_key: sk-1234 # [OPTIONAL] if set all calls to proxy will require either this key or a valid \
generated token
""",
    (
        # The keys of the mappings that these lines belong to, and the indentation.
        ("- model_name: sagemaker", "model_list:\n- model_name: sagemaker"),
        ("\nmodel: ", "\n  litellm_params:\n    model: "),
        ("\napi_", "\n    api_"),
        ("\nmaster_key", "\ngeneral_settings:\n  master_key"),
    ),
)
THREE_CLOUDS_CURL: Final = Snippet(
    PROXY,
    "the embedding call",
    r"""curl --location '' \
--header 'Authorization: Bearer sk-1234' \
--header 'Content-Type: application/json' \
--data '{
"input": "The food was delicious and the waiter..",
"model": "sagemaker-embeddings",
""",
    # The comma goes with the line it stood before; braces and quotes end what began.
    (_NO_HOST, ('embeddings",\n', "embeddings\"\n}'\n")),
)
HUGGING_FACE: Final = Snippet(
    PROXY,
    "Feature-Extraction models",
    """\
- model_name: deployed-codebert-base
# send request to deployed hugging face inference endpoint
model: huggingface/microsoft/codebert-base # add huggingface prefix so it routes to hugging face
api_key: hf_LdS # api key for hugging face inference endpoint
api_base: # your hf inference endpoint
- model_name: codebert-base
# no api_base set, sends request to hugging face free inference api
model: huggingface/microsoft/codebert-base # add huggingface prefix so it routes to hugging face
api_key: hf_LdS # api key for hugging face
""",
    (
        ("- model_name: deployed", "model_list:\n- model_name: deployed"),
        ("\nmodel: ", "\n  litellm_params:\n    model: "),
        ("\napi_", "\n    api_"),
        ("api_base:", "api_base: {endpoint}"),  # a host
    ),
)
HUGGING_FACE_CURL: Final = (
    Snippet(
        PROXY,
        "a deployed model",
        r"""curl --location '' \
--header 'Content-Type: application/json' \
--data ' {
"model": "deployed-codebert-base",
"input": ["write a litellm poem"]
""",
        (_NO_HOST, ('poem"]\n', "poem\"]\n}'\n")),
    ),
    Snippet(
        PROXY,
        "the request format",
        r"""curl --location '' \
--header 'Content-Type: application/json' \
--data ' {
"model": "text-embedding-ada-002",
"input": ["write a litellm poem"]
""",
        (_NO_HOST, ('poem"]\n', "poem\"]\n}'\n")),
    ),
)
