"""A session is opened by the master key alone, and by nothing else that looks like its cookie."""

from __future__ import annotations

import hashlib
import hmac
from base64 import urlsafe_b64encode

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from embedpool_api.status.sessions import COOKIE, LIFE_S, Sessions, cookie_header
from embedpool_shared.sealing import Secrets

SECRETS = Secrets("a secret that is long enough")
MASTER = "sk-the-master-key-of-this-test"
SESSIONS = Sessions(MASTER, SECRETS)
NOW = 1_800_000_000.0
NONCE = "Zm9yIG9uY2U"


def cookie(*, of: Sessions = SESSIONS, now_s: float = NOW) -> str:
    return of.begin(now_s=now_s, nonce=NONCE)


@given(st.floats(0, LIFE_S - 1))
def test_a_session_goes_on_for_its_hours(passed_s: float) -> None:
    assert SESSIONS.is_open(cookie(), now_s=NOW + passed_s)


def test_a_session_lasts_twelve_hours_at_most() -> None:
    assert LIFE_S <= 12 * 3_600
    assert not SESSIONS.is_open(cookie(), now_s=NOW + LIFE_S)


@given(st.integers(0, 200), st.integers(1, 127))
def test_no_letter_of_a_cookie_can_be_changed(at: int, by: int) -> None:
    genuine = cookie()
    at %= len(genuine)
    forged = genuine[:at] + chr((ord(genuine[at]) + by) % 128) + genuine[at + 1 :]

    # The last letter of base64 before its padding has bits that mean nothing.
    means_the_same = at == len(genuine) - 2

    assert means_the_same or not SESSIONS.is_open(forged, now_s=NOW)


@given(st.text(max_size=300))
def test_nothing_made_up_is_a_session(made_up: str) -> None:
    assert not SESSIONS.is_open(made_up, now_s=NOW)


@pytest.mark.parametrize(
    "said",
    ["", ".", "..", "a.b.c", "9999999999", "9999999999.", "9999999999.x.", "-1.x.", "9e9.x.AAAA",
     "٩٩٩٩٩٩٩٩٩٩.x.AAAA", "9999999999.x.ü", "9" * 5_000 + ".x.AAAA"],
)  # fmt: skip
def test_what_is_misshapen_is_no_session(said: str) -> None:
    assert not SESSIONS.is_open(said, now_s=NOW)


def test_hours_cannot_be_added() -> None:
    until, nonce, signature = cookie().split(".")

    assert not SESSIONS.is_open(f"{int(until) + 60}.{nonce}.{signature}", now_s=NOW)


def test_another_master_key_ends_every_session() -> None:
    assert not Sessions("sk-a-new-master-key", SECRETS).is_open(cookie(), now_s=NOW)


def test_another_secret_ends_every_session_even_while_the_old_one_is_read() -> None:
    rotated = Secrets("a newer secret of some length", ["a secret that is long enough"])

    assert not Sessions(MASTER, rotated).is_open(cookie(), now_s=NOW)


def test_processes_with_the_same_secret_know_each_others_sessions() -> None:
    other = Sessions(MASTER, Secrets("a secret that is long enough"))

    assert other.is_open(cookie(), now_s=NOW)


def test_what_the_secret_signs_or_names_elsewhere_is_no_session() -> None:
    until = f"{int(NOW) + LIFE_S}.{NONCE}"
    content = SESSIONS._bound(until)
    others = [bytes.fromhex(SECRETS.digest(content)), bytes.fromhex(SECRETS.cache_digest(content))]
    forged = [f"{until}.{urlsafe_b64encode(other).decode()}" for other in others]
    genuine = f"{until}.{urlsafe_b64encode(SECRETS.sign(content)).decode()}"

    assert SESSIONS.is_open(genuine, now_s=NOW)
    assert not any(SESSIONS.is_open(one, now_s=NOW) for one in forged)


def test_cookies_are_signed_with_a_key_for_nothing_else() -> None:
    def signed(use: bytes) -> bytes:
        derive = HKDF(algorithm=SHA256(), length=32, salt=None, info=use)
        key = derive.derive(b"a secret that is long enough")
        return hmac.new(key, b"content", hashlib.sha256).digest()

    uses = (b"embedpool digest 1", b"embedpool seal 1", b"embedpool cache 1")

    assert SECRETS.sign(b"content") == signed(b"embedpool cookie 1")
    assert SECRETS.sign(b"content") not in {signed(use) for use in uses}


def test_a_signature_is_of_its_content_alone() -> None:
    assert SECRETS.is_signed(b"content", SECRETS.sign(b"content"))
    assert not SECRETS.is_signed(b"contents", SECRETS.sign(b"content"))
    assert not SECRETS.is_signed(b"content", b"")


def test_only_the_master_key_is_the_master_key() -> None:
    assert SESSIONS.is_master(MASTER.encode())
    assert not any(map(SESSIONS.is_master, (b"", MASTER[:-1].encode(), f"{MASTER} ".encode())))


def test_the_cookie_is_for_our_own_pages_and_no_script() -> None:
    header = cookie_header("v", is_secure=False)

    assert header == f"{COOKIE}=v; Path=/pool; Max-Age={LIFE_S}; HttpOnly; SameSite=Strict"
    assert cookie_header("v", is_secure=True) == f"{header}; Secure"


def test_an_empty_cookie_ends_the_session() -> None:
    assert "Max-Age=0;" in cookie_header("", is_secure=False)


def test_no_repr_tells_a_secret() -> None:
    assert MASTER not in repr(SESSIONS)
    assert repr(SESSIONS) == "Sessions(…)"
