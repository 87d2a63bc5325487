from __future__ import annotations

import pytest

from embedpool_shared.errors import KeyRejected
from embedpool_worker.caps import Caps
from embedpool_worker.deployments import Adapter, Deployment
from embedpool_worker.providers.port import ProviderCall
from embedpool_worker.providers.sending import dims_sent, dims_wanted, key_sent


def deployment(native: int | None = 1_536, *, forwards: bool = True) -> Deployment:
    return Deployment(
        id="d",
        provider="openai",
        upstream_model="m",
        adapter=Adapter.OPENAI_WIRE,
        caps=Caps(max_items=1, max_item_tokens=1),
        native_dimensions=native,
        forwards_dimensions=forwards,
    )


def call(dimensions: int | None = None, secret: str | None = None) -> ProviderCall:
    return ProviderCall(model="m", inputs=["x"], dimensions=dimensions, secret=secret)


@pytest.mark.parametrize(
    ("native", "asked", "wanted", "sent"),
    [
        (1_536, None, 1_536, None),
        (1_536, 1_536, 1_536, None),
        (1_536, 256, 256, 256),
        (None, 256, 256, 256),
        (None, None, None, None),
    ],
)
def test_a_models_own_size_is_checked_but_never_sent(
    native: int | None, asked: int | None, wanted: int | None, sent: int | None
) -> None:
    assert dims_wanted(deployment(native), call(asked)) == wanted
    assert dims_sent(deployment(native), call(asked)) == sent


def test_a_size_is_not_sent_where_it_is_not_understood() -> None:
    assert dims_sent(deployment(forwards=False), call(256)) is None


@pytest.mark.parametrize("secret", ["sk-a\r\nx-evil: 1", "schlüssel", "\x00"])
def test_a_key_that_fits_no_header_is_rejected(secret: str) -> None:
    with pytest.raises(KeyRejected):
        key_sent(call(secret=secret))


@pytest.mark.parametrize("secret", [None, "sk-test"])
def test_any_other_key_is_sent_as_it_is(secret: str | None) -> None:
    assert key_sent(call(secret=secret)) == secret
