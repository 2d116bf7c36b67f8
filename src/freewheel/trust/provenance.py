"""In-toto provenance: who built a wheel from what, as a signed statement beside the wheel.

The statement is an in-toto Statement v1 with a SLSA provenance v1 predicate, in a DSSE envelope,
one to a line of ``<wheel>.intoto.jsonl``. It holds no times: the same build, the same statement.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import CryptoSigner, SSlibKey

from freewheel import __version__
from freewheel.base import decoding, files
from freewheel.base.errors import AttestationError
from freewheel.base.workspace import PINS
from freewheel.build import index_pages
from freewheel.build.buildinfo import Record
from freewheel.proof import certificate

SUFFIX = index_pages.PROVENANCE
SIGNING_KEY = "FREEWHEEL_SIGNING_KEY"  # a private key, PEM (PKCS #8), or the file that has it
TRUSTED_KEYS = "FREEWHEEL_TRUSTED_KEYS"  # names a directory of public keys, PEM
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "urn:freewheel:build:1"
_PEM = "-----BEGIN"
_PAYLOAD_TYPE = "application/vnd.in-toto+json"
_DIGESTS = ("source archive", "build requirements")  # inputs that are SHA-256 digests of files


def statement(record: Record) -> dict[str, Any]:
    """The statement about a finished build (in-toto Statement v1, SLSA provenance v1)."""
    dependencies = [
        {"name": name, "digest": {"sha256": value}}
        for name, value in sorted(record.inputs.items())
        if name in _DIGESTS or name.startswith("patch ")
    ]
    return {
        "_type": STATEMENT_TYPE,
        "subject": [
            {"name": path.name, "digest": {"sha256": digest}}
            for path, digest in _subjects(record).items()
        ],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {
                    "project": record.project,
                    "version": record.version,
                    "target": record.inputs["target"],
                },
                "internalParameters": dict(record.inputs),
                "resolvedDependencies": dependencies,
            },
            "runDetails": {
                "builder": {
                    "id": f"urn:freewheel:builder:{record.inputs['image']}",
                    "version": {"freewheel": __version__},
                },
            },
        },
    }


def _subjects(record: Record) -> dict[Path, str]:
    """The wheel, and the certificate beside it if there is one, with their digests."""
    subjects = {record.wheel: record.sha256}
    certified = certificate.path_of(record.wheel)
    if certified.is_file():
        subjects[certified] = files.sha256(certified)
    return subjects


def attest(record: Record) -> Path:
    """Sign the statement about ``record`` and put it beside the wheel, replacing an older one.

    The key is the one that ``FREEWHEEL_SIGNING_KEY`` names, or holds, as where a secret is handed
    over in the environment. Raises AttestationError.
    """
    named = os.environ.get(SIGNING_KEY)
    if not named:
        raise AttestationError(
            "there is no key to sign with",
            hint=f"set {SIGNING_KEY} to a PEM file; src/freewheel/pins/keys/README.md makes one",
        )
    try:
        pem = named.encode() if named.startswith(_PEM) else Path(named).read_bytes()
        private = load_pem_private_key(pem, password=None)
        signer = CryptoSigner(private)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise AttestationError(
            f"{SIGNING_KEY} names {_shown(named)}, which is no private key to sign with: {error}",
            hint="name a PEM file (PKCS #8) without a passphrase",
        ) from error
    payload = json.dumps(statement(record), sort_keys=True).encode()
    envelope = Envelope(payload, _PAYLOAD_TYPE, {})
    envelope.sign(signer)
    path = record.wheel.with_name(record.wheel.name + SUFFIX)
    with files.writing_to(record.wheel.parent):
        files.write_text(path, json.dumps(envelope.to_dict(), sort_keys=True) + "\n")
    return path


def _shown(named: str) -> str:
    return "text" if named.startswith(_PEM) else named


def trusted_keys() -> dict[str, SSlibKey]:
    """The public keys to trust, by who they belong to. Raises AttestationError."""
    default = PINS / "keys"
    directory = Path(os.environ.get(TRUSTED_KEYS) or default)
    keys: dict[str, SSlibKey] = {}
    for path in sorted(directory.glob("*.pem")):
        try:
            keys[path.stem] = SSlibKey.from_crypto(load_pem_public_key(path.read_bytes()))
        except (OSError, ValueError, UnsupportedAlgorithm) as error:
            raise AttestationError(
                f"{path} is no public key: {error}",
                hint="it must be PEM, as `openssl pkey -pubout` writes it",
            ) from error
    return keys


def signers(
    bundle: Path, sha256: str, keys: Mapping[str, SSlibKey], *, beside: Collection[str] = ()
) -> list[str]:
    """Who has signed that the wheel with that digest was built as the bundle says.

    ``beside`` are digests of files that lie beside the wheel, which must be signed with it.

    Raises AttestationError for a bundle that cannot be read, that is about another wheel, or that
    nobody trusted has signed.
    """
    found: list[str] = []
    for envelope in _envelopes(bundle):
        for who, key in keys.items():
            try:
                envelope.verify([key], 1)
            except VerificationError:
                continue
            _check_subject(envelope, bundle, sha256, beside)
            found.append(who)
    if not found:
        raise AttestationError(
            f"{bundle.name} is not signed by a key that is trusted",
            problems=[f"trusted: {', '.join(keys) or 'nobody'}"],
            hint=f"put the signer's public key into src/freewheel/pins/keys/, or set "
            f"{TRUSTED_KEYS}; if it is there, the bundle was changed: do not use the wheel",
        )
    return found


def _envelopes(bundle: Path) -> Iterable[Envelope]:
    try:
        text = decoding.text_of(decoding.read_bytes(bundle), bundle.name)
        decoded = [
            decoding.from_json(line, bundle.name) for line in text.splitlines() if line.strip()
        ]
        envelopes = decoding.looked_into(
            lambda: [Envelope.from_dict(content) for content in decoded], bundle.name
        )
    except decoding.DecodeError as error:
        raise AttestationError(
            f"{bundle.name} is no bundle of attestations, or was cut short: {error.summary}",
            hint="fetch it again from where the wheel came from",
        ) from error
    if not envelopes:
        raise AttestationError(f"{bundle.name} is empty", hint="fetch it again")
    return envelopes


def _check_subject(envelope: Envelope, bundle: Path, sha256: str, beside: Collection[str]) -> None:
    """The signature holds; now the statement must be about these bytes."""
    try:
        content = decoding.from_json(envelope.payload, "the statement")
        subjects, kinds = decoding.looked_into(
            lambda: (
                {str(subject["digest"]["sha256"]) for subject in content["subject"]},
                (content["_type"], content["predicateType"]),
            ),
            "the statement",
        )
    except decoding.DecodeError as error:
        raise AttestationError(
            f"{bundle.name} is signed, but is no in-toto statement: {error.summary}",
            hint="ask who signed it",
        ) from error
    if sha256 not in subjects or kinds != (STATEMENT_TYPE, PREDICATE_TYPE):
        raise AttestationError(
            f"{bundle.name} is about another wheel",
            problems=[f"the wheel's digest is {sha256}", f"signed for: {', '.join(subjects)}"],
            hint="do not use the wheel: its bytes are not those that were signed",
        )
    if unsigned := set(beside) - subjects:
        raise AttestationError(
            f"{bundle.name} does not speak of the certificate beside the wheel",
            problems=[f"the certificate's digest is {digest}" for digest in sorted(unsigned)],
            hint="it was made or changed after the signature: do not rely on it, or sign again",
        )
