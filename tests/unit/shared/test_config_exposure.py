from __future__ import annotations

import pytest

from embedpool_shared.config.exposure import has_weak_master_key, refuse_exposure
from embedpool_shared.config.file import load_config
from embedpool_shared.config.settings import Config
from embedpool_shared.errors import ConfigInvalid
from embedpool_shared.hosts import is_loopback

EVERYWHERE = "0.0.0.0"  # noqa: S104 (the address is what is tested)


def _with_key(key: str) -> Config:
    return load_config(None, {"EMBEDPOOL_MASTER_KEY": key}).config


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "::1", "[::1]", "localhost"])
def test_an_open_pool_may_listen_on_loopback(host: str) -> None:
    assert is_loopback(host)
    refuse_exposure(Config(), host)


@pytest.mark.parametrize("host", [EVERYWHERE, "::", "10.0.0.1", "localhost.example.org", ""])
def test_an_open_pool_listens_nowhere_else(host: str) -> None:
    with pytest.raises(ConfigInvalid, match=r"set general_settings\.master_key"):
        refuse_exposure(Config(), host)


@pytest.mark.parametrize("key", ["sk-1234", "changeme", "CHANGEME", "short"])
def test_a_placeholder_is_refused_beyond_loopback_unless_allowed(key: str) -> None:
    config = _with_key(key)

    assert has_weak_master_key(config)
    refuse_exposure(config, "127.0.0.1")
    refuse_exposure(config, EVERYWHERE, allow_weak_master_key=True)
    with pytest.raises(ConfigInvalid, match="--allow-weak-master-key"):
        refuse_exposure(config, EVERYWHERE)


def test_a_good_key_may_listen_anywhere() -> None:
    refuse_exposure(_with_key("sk-" + "5f" * 16), EVERYWHERE)


def test_a_placeholder_is_a_warning_that_does_not_repeat_it() -> None:
    (notice,) = load_config(None, {"EMBEDPOOL_MASTER_KEY": "sk-1234"}).notices

    assert notice.path == "general_settings.master_key"
    assert "1234" not in notice.reason
