"""Keys of approvers: an approval for live is signed by the approver's own Ed25519 key (T39). Only public keys reach the ledger."""

from __future__ import annotations

import base64
import binascii
import os
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from trading_platform.contracts.errors import InputError


def make_key(path: Path, password: str = "") -> str:
    """Write a new private key (PEM, readable by its owner alone) and return its public key, base64. InputError where a file is already."""
    key = Ed25519PrivateKey.generate()
    lock = BestAvailableEncryption(password.encode()) if password else NoEncryption()
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise InputError("there is a file already", str(path), "name another file: a key is never overwritten") from error
    with os.fdopen(handle, "wb") as file:
        file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock))
    return _text(key.public_key())


def read_key(path: Path, password: str = "") -> Ed25519PrivateKey:
    """The private key of a file. InputError where it is none, or the password is wrong."""
    try:
        key = load_pem_private_key(Path(path).read_bytes(), password.encode() or None)
    except (OSError, ValueError, TypeError) as error:
        raise InputError(
            f"no readable private key: {type(error).__name__}", str(path), "make one: trading-platform models key FILE"
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise InputError("not an Ed25519 key", str(path), "make one: trading-platform models key FILE")
    return key


def public_key(key: Ed25519PrivateKey) -> str:
    """Its public key, base64."""
    return _text(key.public_key())


def _text(key: Ed25519PublicKey) -> str:
    return base64.b64encode(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).decode("ascii")


def check_public_key(text: str) -> str:
    """The text, if it is an Ed25519 public key. InputError otherwise."""
    try:
        Ed25519PublicKey.from_public_bytes(base64.b64decode(text, validate=True))
    except (ValueError, binascii.Error) as error:
        raise InputError("not an Ed25519 public key", text[:16], "give the line that `models key FILE` printed") from error
    return text


def sign(key: Ed25519PrivateKey, message: bytes) -> str:
    """Signature of a message, base64."""
    return base64.b64encode(key.sign(message)).decode("ascii")


def is_signed(public: str, signature: str, message: bytes) -> bool:
    """Whether the signature of the message was made with this public key's private one."""
    try:
        Ed25519PublicKey.from_public_bytes(base64.b64decode(public, validate=True)).verify(
            base64.b64decode(signature, validate=True), message
        )
    except (InvalidSignature, ValueError, binascii.Error):
        return False
    return True
