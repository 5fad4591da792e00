"""Public keys that verify tokens: the key in a PEM file, or the keys that the issuer publishes as a JWKS.

The type of a key decides its algorithm.
"""

import json
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import jwt
import requests
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from resources.failures import PermanentFailure
from resources.settings import Settings

LOG = logging.getLogger("services.jwt_verifier")
PublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey
MIN_RSA_BITS = 2048
REFRESH_S = 300.0
REFETCH_INTERVAL_S = 30.0
"""Seconds between fetches after a failure or for unknown key ids, so that random key ids do not flood the issuer."""
MAX_KEY_AGE_S = 24 * 3600.0
"""Seconds after which fetched keys are no longer trusted."""
MAX_WAIT_S = 5.0
"""Seconds for which a token with an unknown key id waits for a fetch that is under way."""
FETCH_TIMEOUT_S = 10.0
MAX_JWKS_BYTES = 256 * 1024
SUPPORTED_KEYS = "use RSA with at least 2048 bits, EC P-256 or Ed25519"


class KeysUnavailable(Exception):
    """No key can be trusted now: the issuer's keys were never read, or too long ago."""


@dataclass(frozen=True)
class VerificationKey:
    """A public key and the only algorithm that it may verify."""

    algorithm: str
    public: PublicKey


def algorithm_of(public: object) -> str:
    """Algorithm for a key of this type. Raises ValueError if the type is not supported or the key is too short."""
    if isinstance(public, RSAPublicKey) and public.key_size >= MIN_RSA_BITS:
        return "RS256"
    if isinstance(public, EllipticCurvePublicKey) and isinstance(public.curve, SECP256R1):
        return "ES256"
    if isinstance(public, Ed25519PublicKey):
        return "EdDSA"
    raise ValueError(f"the type of the key is not supported: {SUPPORTED_KEYS}")


class PemKey:
    """The key in a PEM file, for tokens with any key id. The file is read again when it changes.

    If the changed file has no usable key, the previous key stays in force: files are not always replaced in one step.
    """

    is_fetching = False
    age_s = 0.0

    def __init__(self, path: Path, algorithm: str | None = None) -> None:
        self._path = path
        self._algorithm = algorithm
        self._stamp: tuple[int, ...] = ()
        self._key = self._read()

    def find(self, key_id: str | None, wait_s: float = MAX_WAIT_S) -> VerificationKey:  # noqa: ARG002
        if self._stamp != _stamp(self._path):
            self.refresh()
        return self._key

    def refresh(self) -> None:
        try:
            self._key = self._read()
        except PermanentFailure as failure:
            LOG.error("the previous key stays in force: %s", failure)  # noqa: TRY400 - the traceback says no more
        else:
            LOG.info("read the key of %s", self._path)

    def close(self) -> None:
        """Do nothing: no file stays open between reads."""

    def _read(self) -> VerificationKey:
        self._stamp = _stamp(self._path)
        try:
            text = self._path.read_bytes()
        except OSError as error:
            raise PermanentFailure(f"JWT_PUBLIC_KEY_PATH {self._path} cannot be read: {error.strerror}") from None
        if b"PRIVATE KEY" in text:
            raise self._unfit("holds a private key, which must stay with the issuer: use openssl pkey -pubout")
        if text.count(b"-----BEGIN ") != 1:
            raise self._unfit("must hold exactly one public key; only the JWKS of JWT_JWKS_URL can hold several")
        try:
            public = load_pem_public_key(text)
            algorithm = algorithm_of(public)
        except (ValueError, UnsupportedAlgorithm):
            raise self._unfit(f"holds no public key of a supported type: {SUPPORTED_KEYS}") from None
        if self._algorithm not in (None, algorithm):
            raise self._unfit(f"holds a key for {algorithm}, and JWT_ALGORITHM is {self._algorithm}")
        return VerificationKey(algorithm, public)  # type: ignore[arg-type]

    def _unfit(self, fault: str) -> PermanentFailure:
        return PermanentFailure(f"JWT_PUBLIC_KEY_PATH {self._path} {fault}")


class JwksKeys:
    """The keys that the issuer publishes at a fixed address. A thread fetches them, from the first use on.

    The thread fetches the keys every five minutes and, at most every thirty seconds, for an unknown key id. If the
    issuer does not answer or publishes no usable key, the last keys stay in force for a day.
    """

    def __init__(
        self,
        url: str,
        algorithm: str | None = None,
        *,
        fetch: Callable[[str], bytes] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = url
        self._algorithm = algorithm
        self._fetch = fetch or fetch_jwks
        self._clock = clock
        self._keys: dict[str | None, VerificationKey] = {}
        self._fetched_at = self._began_at = float("-inf")
        self._thread: threading.Thread | None = None
        self._closed = False
        self._state = threading.Condition()
        self._wake = threading.Event()
        self.is_fetching = False
        """Whether a fetch is under way, which may bring an unknown key within seconds."""

    @property
    def age_s(self) -> float:
        """Seconds since the keys were last read from their source; infinite if they never were."""
        return self._clock() - self._fetched_at

    def find(self, key_id: str | None, wait_s: float = MAX_WAIT_S) -> VerificationKey | None:
        """The key with this id, or None. Raises KeysUnavailable if no key can be trusted."""
        with self._state:
            key = self._current_key(key_id)
            if key is None:
                if self._clock() - self._began_at >= REFETCH_INTERVAL_S:
                    self.refresh()
                self._state.wait_for(lambda: not self.is_fetching, wait_s)
                key = self._current_key(key_id)
            if key is None and self.age_s > MAX_KEY_AGE_S:
                raise KeysUnavailable
            return key

    def refresh(self) -> None:
        """Read the keys again soon."""
        with self._state:
            if self._thread is None:
                self._thread = threading.Thread(target=self._fetch_repeatedly, name="jwks", daemon=True)
                self._thread.start()
            self._began_at = self._clock()
            self.is_fetching = True
            self._wake.set()

    def close(self) -> None:
        self._closed = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(FETCH_TIMEOUT_S)

    def _current_key(self, key_id: str | None) -> VerificationKey | None:
        if self.age_s > MAX_KEY_AGE_S:
            return None
        if key_id is None and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        return self._keys.get(key_id)

    def _fetch_repeatedly(self) -> None:
        pause = REFRESH_S
        while True:
            self._wake.wait(pause)
            self._wake.clear()
            if self._closed:
                return
            pause = REFRESH_S if self._fetch_once() else REFETCH_INTERVAL_S

    def _fetch_once(self) -> bool:
        with self._state:
            self._began_at = self._clock()
            self.is_fetching = True
        keys = None
        try:
            keys = parse_jwks(self._fetch(self._url), self._algorithm) or None
            if keys is None:
                LOG.warning("no key at JWT_JWKS_URL may verify tokens: the keys read before stay in force")
        except Exception as error:  # noqa: BLE001 - no response of the issuer may end the thread
            LOG.warning("the keys at JWT_JWKS_URL cannot be read: %s", _safe_words(error))
        with self._state:
            if keys is not None:
                self._keys = keys
                self._fetched_at = self._clock()
            self.is_fetching = False
            self._state.notify_all()
        return keys is not None


KeySource = PemKey | JwksKeys
"""A source in which `tokens` finds the key of a token."""


def key_source(settings: Settings) -> KeySource:
    """The source that is set. Raises PermanentFailure if none or both are set, or if the file has no usable key."""
    path, url = settings.jwt_public_key_path, settings.jwt_jwks_url
    if path is not None and url is None:
        return PemKey(path, settings.jwt_algorithm)
    if url is not None and path is None:
        return JwksKeys(url, settings.jwt_algorithm)
    raise PermanentFailure(
        "set JWT_PUBLIC_KEY_PATH (a PEM file with the issuer's public key) or JWT_JWKS_URL (where the issuer "
        "publishes its keys), but not both"
    )


def fetch_jwks(url: str) -> bytes:
    """The document at this address, without redirects. Raises ValueError, or an error of `requests`."""
    give_up = time.monotonic() + FETCH_TIMEOUT_S
    body = b""
    headers = {"Accept": "application/json"}
    with requests.get(url, headers=headers, timeout=(3, 5), allow_redirects=False, stream=True) as answer:
        if answer.status_code != requests.codes.ok:
            raise ValueError(f"status {answer.status_code}")
        for part in answer.iter_content(16 * 1024):
            body += part
            if len(body) > MAX_JWKS_BYTES:
                raise ValueError(f"more than {MAX_JWKS_BYTES} bytes")
            if time.monotonic() > give_up:
                raise ValueError(f"not read within {FETCH_TIMEOUT_S:.0f} s")
    return body


def parse_jwks(document: bytes, algorithm: str | None = None) -> dict[str | None, VerificationKey]:
    """The usable keys of a JWKS, by id. Raises ValueError if it is not a JWKS, or if two keys have the same id."""
    parsed = json.loads(document)
    entries = parsed.get("keys") if isinstance(parsed, dict) else None
    if not isinstance(entries, list):
        raise ValueError("not a JWKS: it has no list `keys`")  # noqa: TRY004 - the text is wrong, not a caller
    keys: dict[str | None, VerificationKey] = {}
    for entry in entries:
        key = _usable_key(entry)
        if key is None or algorithm not in (None, key.algorithm):
            continue
        if entry.get("kid") in keys:
            raise ValueError("two keys have the same id")
        keys[entry.get("kid")] = key
    return keys


def _usable_key(entry: object) -> VerificationKey | None:
    if not isinstance(entry, dict) or not isinstance(entry.get("kid"), str | None):
        return None
    if entry.get("use", "sig") != "sig" or "verify" not in entry.get("key_ops", ["verify"]) or "d" in entry:
        return None
    algorithm = {"RSA": "RS256", "EC": "ES256", "OKP": "EdDSA"}.get(str(entry.get("kty")))
    if algorithm is None or entry.get("alg", algorithm) != algorithm:
        return None
    try:
        public = jwt.PyJWK(entry, algorithm).key
        return VerificationKey(algorithm_of(public), public)
    except (jwt.InvalidKeyError, ValueError, UnsupportedAlgorithm):
        return None


def _stamp(path: Path) -> tuple[int, ...]:
    try:
        status = path.stat()
    except OSError:
        return ()
    return status.st_mtime_ns, status.st_size, status.st_ino


def _safe_words(error: Exception) -> str:
    """Our own message, or only the type of another error, whose message may quote the issuer's response."""
    return str(error) if type(error) is ValueError else type(error).__name__
