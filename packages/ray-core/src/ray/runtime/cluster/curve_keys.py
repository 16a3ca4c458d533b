"""Keys for CURVE, as ZeroMQ takes them, made without ZeroMQ: a key is a point of Curve25519 (RFC 7748), in Z85."""

from __future__ import annotations

import base64
import secrets

_PRIME = 2**255 - 19
_A24 = 121665
_BASE = 9
_KEY_BYTES = 32
#: Base 85 as Python has it, and as ZeroMQ has it: the same but for the letters.
_PYTHON = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~"
_Z85 = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
_TO_Z85 = bytes.maketrans(_PYTHON, _Z85)


def make_pair() -> tuple[str, str]:
    """A fresh ``(public key, secret key)``."""
    secret = secrets.token_bytes(_KEY_BYTES)
    return _z85(public_key(secret)), _z85(secret)


def public_key(secret: bytes) -> bytes:
    """The public key that belongs to 32 secret bytes."""
    clamped = bytearray(secret)
    clamped[0] &= 248
    clamped[31] = clamped[31] & 127 | 64
    return _multiple_of_base(int.from_bytes(clamped, "little")).to_bytes(_KEY_BYTES, "little")


def _z85(data: bytes) -> str:
    return base64.b85encode(data).translate(_TO_Z85).decode()


def _multiple_of_base(scalar: int) -> int:
    """Montgomery's ladder, with the names of RFC 7748, section 5."""
    x2, z2, x3, z3, swapped = 1, 0, _BASE, 1, 0
    for position in reversed(range(255)):
        bit = scalar >> position & 1
        if bit != swapped:
            x2, x3, z2, z3 = x3, x2, z3, z2
        swapped = bit
        a, b, c, d = x2 + z2, x2 - z2, x3 + z3, x3 - z3
        aa, bb, da, cb = a * a, b * b, d * a, c * b
        e = aa - bb
        x3, z3 = pow(da + cb, 2, _PRIME), _BASE * pow(da - cb, 2, _PRIME) % _PRIME
        x2, z2 = aa * bb % _PRIME, e * (aa + _A24 * e) % _PRIME
    if swapped:
        x2, z2 = x3, z3
    return x2 * pow(z2, _PRIME - 2, _PRIME) % _PRIME
