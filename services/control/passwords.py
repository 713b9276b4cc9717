"""The trust password: stored as a salted scrypt hash, compared without telling by time how much was right."""

from __future__ import annotations

import hashlib
import hmac
import os

SALT = 32
LENGTH = 64
COST = {"n": 1 << 14, "r": 8, "p": 1}


def hashed(password: str) -> str:
    """Salt and hash as hex."""
    salt = os.urandom(SALT)
    return (salt + _derive(password, salt)).hex()


def matches(password: str, stored: str) -> bool:
    """Whether the password is the one that was hashed."""
    raw = bytes.fromhex(stored)
    return hmac.compare_digest(_derive(password, raw[:SALT]), raw[SALT:])


def _derive(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, dklen=LENGTH, **COST)
