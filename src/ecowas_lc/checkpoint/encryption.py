"""Encryption at rest: AES-GCM for every stored value, bound to its location, with keys that can be rotated."""

from __future__ import annotations

import hmac
import os
from collections.abc import Mapping
from hashlib import blake2b, sha256
from typing import TYPE_CHECKING, Any

from ecowas_lc._extras import install_command
from ecowas_lc.checkpoint.codec.allowlist import Allow
from ecowas_lc.checkpoint.codec.elements import SEALED, is_sealed
from ecowas_lc.checkpoint.codec.serializer import Serializer
from ecowas_lc.errors import ConfigurationError, DecryptionError, MissingExtraError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_NONCE_BYTES = 12
_KEY_BYTES = (16, 24, 32)


class EncryptedRedisSerializer(Serializer):
    """The default serializer, encrypting every value: ``RedisSaver(…, serde=EncryptedRedisSerializer(key))``.

    It uses AES-GCM (NIST SP 800-38D) with a random nonce for each value. The additional data binds a checkpoint's
    row to its prefix, thread, namespace and id, a channel's value to its channel and version, and a shared element
    to its thread and digest: a row that was moved or changed can't be decrypted. Digests are keyed by thread, so
    equal texts in two threads can't be recognised. Thread, namespace, checkpoint and channel names, sizes and
    times stay readable, because the server works with them.

    Args:
        keys: One key of 16, 24 or 32 bytes, or several by id (text). A value is decrypted with the key that
            encrypted it.
        current: The id of the key that encrypts new values; required with several keys.
        allow: As for :class:`~ecowas_lc.RedisSaver`.
        accept_plaintext: Also read rows that were written before encryption was turned on. They are encrypted as
            their threads continue. Off by default, so that nobody can replace encrypted rows with plain ones.

    Raises:
        ConfigurationError: A key has an unusable length, or ``current`` is not the id of a key.
        MissingExtraError: The extra ``encryption`` is not installed.
        DecryptionError: (from reads) the key is wrong, or a row was moved, changed or is not encrypted.
    """

    def __init__(
        self,
        keys: bytes | Mapping[str, bytes],
        *,
        current: str | None = None,
        allow: Allow = (),
        accept_plaintext: bool = False,
    ) -> None:
        super().__init__(allow)
        if not isinstance(keys, (bytes, Mapping)):
            raise ConfigurationError("keys must be one key as bytes, or a dict of several by id.")
        by_id = {"": keys} if isinstance(keys, bytes) else dict(keys)
        if current is None:
            if len(by_id) != 1:
                raise ConfigurationError("With several keys, current= must name the one that encrypts.")
            [current] = by_id
        if current not in by_id:
            raise ConfigurationError(f"current={current!r} is not the id of any key.")
        self.sealer = AesGcmSealer(by_id, current, accept_plaintext)

    def with_allowed(self, allow: Any) -> EncryptedRedisSerializer:
        """Return a serializer with the same keys that also allows these classes.

        Args:
            allow: Classes, or their names, such as ``"app.models.Order"``.
        """
        clone = object.__new__(type(self))
        clone.allowed = self.allowed.extended(allow)
        clone.sealer = self.sealer
        return clone

    with_msgpack_allowlist = with_allowed

    def __repr__(self) -> str:
        return f"{type(self).__name__}(current={self.sealer.current!r})"


class AesGcmSealer:
    """Encrypts payloads for :class:`EncryptedRedisSerializer`."""

    def __init__(self, keys: Mapping[str, bytes], current: str, accept_plaintext: bool) -> None:
        self.current = current
        self._accept_plaintext = accept_plaintext
        self._ciphers = {id_: _cipher(key, id_) for id_, key in keys.items()}
        self._head = SEALED + len(current.encode()).to_bytes(1, "big") + current.encode()
        self._secrets = {id_: _derive(key, b"digests") for id_, key in keys.items()}

    def digest_key(self, thread: bytes) -> bytes:
        """Return the key of a thread's digests and marks."""
        return blake2b(thread, key=self._secrets[self.current], digest_size=32).digest()

    def mark_keys(self, thread: bytes) -> list[bytes]:
        """Return the keys that a thread's marks may have been made with."""
        made = [blake2b(thread, key=secret, digest_size=32).digest() for secret in self._secrets.values()]
        return [*made, b""] if self._accept_plaintext else made

    def seal(self, payload: bytes, context: bytes) -> bytes:
        """Return ``payload`` encrypted with the current key and bound to ``context``."""
        nonce = os.urandom(_NONCE_BYTES)
        return self._head + nonce + self._ciphers[self.current].encrypt(nonce, payload, self._head + context)

    def open(self, sealed: bytes, context: bytes) -> bytes:
        """Return the payload that :meth:`seal` encrypted in the same context.

        Raises:
            DecryptionError: The payload has another key or context, was changed, or is not encrypted.
        """
        from cryptography.exceptions import InvalidTag

        if not is_sealed(sealed):
            if self._accept_plaintext:
                return sealed
            raise DecryptionError(
                "A stored value is not encrypted. If it was written before encryption was turned on, read it with "
                "EncryptedRedisSerializer(…, accept_plaintext=True)."
            )
        end = 3 + sealed[2] if len(sealed) > 2 else 3
        head, id_ = sealed[:end], sealed[3:end].decode("utf-8", "replace")
        cipher = self._ciphers.get(id_)
        if cipher is None:
            raise DecryptionError(f"A stored value was encrypted with the key {id_!r}, which was not passed.")
        try:
            return cipher.decrypt(sealed[end : end + _NONCE_BYTES], sealed[end + _NONCE_BYTES :], head + context)
        except (InvalidTag, ValueError):
            raise DecryptionError(
                "A stored value can't be decrypted: the key is wrong, or the value was moved or changed."
            ) from None


def _cipher(key: bytes, id_: str) -> AESGCM:
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError:
        raise MissingExtraError(f"Encryption needs cryptography. Run: {install_command('encryption')}") from None
    if not isinstance(key, bytes) or len(key) not in _KEY_BYTES:
        raise ConfigurationError("An encryption key is 16, 24 or 32 random bytes: os.urandom(32)")
    if not isinstance(id_, str) or len(id_.encode()) > 255:
        raise ConfigurationError("A key's id is text of at most 255 bytes.")
    return AESGCM(_derive(key, b"payloads"))


def _derive(key: bytes, purpose: bytes) -> bytes:
    # One HMAC-SHA-256 block of HKDF-Expand (RFC 5869): the keys for payloads and for digests are independent.
    return hmac.new(key, b"ecowas_lc " + purpose + b"\x01", sha256).digest()
