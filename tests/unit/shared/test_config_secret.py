from __future__ import annotations

import pytest

from embedpool_shared.config.exposure import has_weak_secret
from embedpool_shared.config.file import load_config
from embedpool_shared.config.secret import require_secret, secrets_of
from embedpool_shared.config.settings import Config
from embedpool_shared.errors import ConfigInvalid

SECRET = "8f14e45fceea167a5a36dedd4bea2543"
KEY = b"sk-ep-a-virtual-key"


def configured(**environ: str) -> Config:
    return load_config(None, {f"EMBEDPOOL_{name}": value for name, value in environ.items()}).config


def digests(config: Config) -> list[str]:
    secrets = secrets_of(config)
    assert secrets is not None
    return secrets.digests(KEY)


def test_without_a_secret_there_is_nothing_to_derive() -> None:
    assert secrets_of(Config()) is None


def test_the_same_secret_makes_the_same_digests_whoever_derives_them() -> None:
    assert digests(configured(SECRET=SECRET)) == digests(configured(AUTH_SECRET=SECRET))


def test_after_a_rotation_the_older_digests_are_still_known() -> None:
    [before] = digests(configured(SECRET=SECRET))

    current, older = digests(configured(SECRET="another-secret-of-ours", AUTH_OLD_SECRETS=SECRET))

    assert older == before
    assert current != before


def test_the_master_key_changes_no_digest() -> None:
    with_key = configured(SECRET=SECRET, MASTER_KEY="sk-a-long-and-random-master-key")

    assert digests(with_key) == digests(configured(SECRET=SECRET))


@pytest.mark.parametrize(
    ("environ", "need"),
    [
        ({"MASTER_KEY": "sk-canary-a-long-master-key"}, "a master key"),
        ({"AUTH_ALLOW_PASSTHROUGH_KEYS": "true"}, r"auth\.allow_passthrough_keys"),
    ],
)
def test_what_needs_a_secret_says_so_and_how_to_make_one(
    environ: dict[str, str], need: str
) -> None:
    with pytest.raises(ConfigInvalid, match=rf"^{need} needs.*EMBEDPOOL_SECRET") as refusal:
        require_secret(configured(**environ))

    assert "canary" not in refusal.value.message
    require_secret(configured(**environ, SECRET=SECRET))


def test_an_open_pool_needs_none() -> None:
    require_secret(Config())


@pytest.mark.parametrize("environ", [{"SECRET": "x" * 15}, {"AUTH_OLD_SECRETS": "x" * 15}])
def test_a_short_secret_is_refused_current_or_not(environ: dict[str, str]) -> None:
    with pytest.raises(ConfigInvalid, match="at least 16 characters"):
        configured(**environ)


@pytest.mark.parametrize(
    "environ",
    [
        {"SECRET": "changemechangeme"},
        {"SECRET": "PasswordPassword"},
        {"SECRET": "a" * 40},
        {"SECRET": "1212121212121212"},
        {"SECRET": "the-very-same-text", "MASTER_KEY": "the-very-same-text"},
        {"SECRET": SECRET, "AUTH_OLD_SECRETS": "secretsecretsecret"},
    ],
)
def test_a_secret_that_can_be_guessed_is_warned_of_and_not_repeated(
    environ: dict[str, str],
) -> None:
    loaded = load_config(None, {f"EMBEDPOOL_{name}": value for name, value in environ.items()})

    [reason] = [notice.reason for notice in loaded.notices if notice.path == "auth.secret"]
    assert "openssl rand" in reason
    assert not [value for value in environ.values() if value in reason]


def test_a_random_secret_is_not_warned_of() -> None:
    assert not has_weak_secret(configured(SECRET=SECRET, AUTH_OLD_SECRETS=SECRET[::-1]))
    assert not has_weak_secret(Config())
