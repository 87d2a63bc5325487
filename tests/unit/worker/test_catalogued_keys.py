"""The catalogue names every key whose state workers share, so that whoever looks can find it."""

from __future__ import annotations

from unit.worker.fleets import one_model
from unit.worker.test_catalogue import catalog_of


def test_every_key_of_a_deployment_is_named_and_no_secret_is() -> None:
    catalog = catalog_of(one_model("openai/text-embedding-3-small", "api_keys: [sk-a, sk-b]"))

    assert len(catalog.keys) == 2
    assert not any("sk-" in key.id for key in catalog.keys)
    assert [key.id.rpartition("#")[2] for key in catalog.keys] == ["1", "2"]


def test_a_server_that_wants_no_key_is_known_by_its_own_name() -> None:
    model = one_model("hosted_vllm/e5", "api_base: http://127.0.0.1:1/v1")

    (key,) = catalog_of(model).keys

    assert "#" not in key.id


def test_what_cannot_be_called_and_what_is_in_the_process_has_no_key() -> None:
    assert catalog_of(one_model("openai/text-embedding-3-small")).keys == ()
    assert catalog_of(one_model("wordllama/wordllama")).keys == ()
