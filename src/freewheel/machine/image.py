"""Choose the builder image: the official one, pinned by digest, or one made on this machine.

Which image made a wheel is one of the wheel's inputs, so each image has an identity that can be
known without asking a container engine.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from configparser import ConfigParser
from dataclasses import dataclass
from importlib.resources import files as resources
from typing import Literal

from freewheel.base import console
from freewheel.base.errors import CommandFailed, MachineError
from freewheel.base.workspace import Workspace
from freewheel.machine import local_image, native
from freewheel.machine.engine import Engine
from freewheel.recipe.platforms import find_platform
from freewheel.recipe.targets import in_container

_PULL_TIMEOUT = 900.0  # seconds to bring about half a gigabyte

Origin = Literal["official", "local", "custom", "native"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BuilderImage:
    """An image that cibuildwheel can build in, present in the engine; or what stands for it.

    ``identity`` is one of ``acceptable_identities``, except for a custom image without a digest
    in its reference: there it is the image's id. ``manifest`` is the digest of the list of exactly
    what a local image was made of, which it has as /freewheel-manifest.txt; "" for other images.
    Where there is no container, on macOS and Windows, it is ``native``: the CPython that
    cibuildwheel brings, with a digest over the machine's own compiler as the manifest.
    """

    reference: str
    identity: str
    origin: Origin
    manifest: str = ""


# ------------------------------------------------------------------------------------ identities


def acceptable_identities(target: str) -> tuple[str, ...]:
    """The identities of the images that a build for ``target`` may use, without asking an engine.

    ``target`` is a cibuildwheel build identifier such as ``cp314t-manylinux_x86_64``. For a custom
    image that is not named by digest the answer is empty: what it is now, only the engine knows.
    """
    if not in_container(target):
        return (native.identity(target),)
    forced = forced_image(os.environ)
    official = official_reference(target)
    locals_ = tuple(specification.identity for specification in local_image.specifications(target))
    match forced:
        case "official":
            return (official,) if official else ()
        case "local":
            return locals_
        case "":
            return (*((official,) if official else ()), *locals_)
        case reference:
            return (reference,) if "@sha256:" in reference else ()


def forced_image(environ: Mapping[str, str]) -> str:
    """What ``FREEWHEEL_IMAGE`` asks for: official, local, an image reference, or "" for none."""
    return environ.get("FREEWHEEL_IMAGE", "").strip()


def official_reference(target: str) -> str:
    """The image that the installed cibuildwheel pins for ``target``, with digest; "" if none."""
    platform = find_platform(target)
    pins = ConfigParser()
    pins.read_string(
        (resources("cibuildwheel") / "resources" / "pinned_docker_images.cfg").read_text("utf-8")
    )
    value = pins.get(platform.machine, platform.policy, fallback="") if platform else ""
    return value.split()[0] if value else ""


# ------------------------------------------------------------------------------------- the choice


def native_builder(target: str) -> BuilderImage:
    """What this machine builds ``target`` with, outside a container."""
    found = native.toolchain(target)
    return BuilderImage(
        reference=found.name, identity=found.identity, origin="native", manifest=found.manifest
    )


def find_or_make_image(workspace: Workspace, engine: Engine, target: str) -> BuilderImage:
    """The image to build ``target`` in; present in the engine when this returns.

    The official one or a local one that is there already, else the official one pulled, else a
    local one made. ``FREEWHEEL_IMAGE`` (official, local or a reference) leaves only that way.
    Raises MachineError.
    """
    forced = forced_image(os.environ)
    if forced not in ("", "official", "local"):
        return _custom(engine, forced)
    problems: list[str] = []
    for found in _found(engine, target, forced):
        return found
    if forced != "local":
        pulled = _pull_official(engine, target, problems)
        if pulled:
            return pulled
    if forced != "official":
        return _local(local_image.make(workspace, engine, target, problems))
    raise MachineError(
        f"no official builder image for {target}",
        problems=problems,
        hint="let the engine reach the registry, or unset FREEWHEEL_IMAGE",
    )


def find_image(engine: Engine, target: str) -> BuilderImage | None:
    """The image that would be used and is present already; nothing is pulled or made."""
    forced = forced_image(os.environ)
    if forced not in ("", "official", "local"):
        identifier = engine.ask_image(forced, "{{.Id}}")
        return _custom_image(forced, identifier) if identifier else None
    return next(_found(engine, target, forced), None)


def _found(engine: Engine, target: str, forced: str) -> Iterator[BuilderImage]:
    official = official_reference(target)
    if forced != "local" and official and engine.ask_image(official, "{{.Id}}"):
        yield BuilderImage(reference=official, identity=official, origin="official")
    if forced != "official" and (local := local_image.find(engine, target)):
        yield _local(local)


def _local(image: local_image.LocalImage) -> BuilderImage:
    return BuilderImage(
        reference=image.specification.reference,
        identity=image.specification.identity,
        origin="local",
        manifest=image.manifest,
    )


def _custom(engine: Engine, reference: str) -> BuilderImage:
    identifier = engine.ask_image(reference, "{{.Id}}")
    if not identifier:
        console.note(f"pulling {reference}, as FREEWHEEL_IMAGE asks")
        try:
            engine.call("pull", "--quiet", reference, timeout=_PULL_TIMEOUT)
        except CommandFailed as error:
            raise MachineError(
                f"FREEWHEEL_IMAGE names {reference}, which is not available",
                problems=error.output.strip().splitlines()[-2:],
                hint="correct it, or unset it to let Freewheel choose",
            ) from error
        identifier = engine.ask_image(reference, "{{.Id}}")
    return _custom_image(reference, identifier)


def _custom_image(reference: str, identifier: str) -> BuilderImage:
    identity = reference if "@sha256:" in reference else identifier
    return BuilderImage(reference=reference, identity=identity, origin="custom")


def _pull_official(engine: Engine, target: str, problems: list[str]) -> BuilderImage | None:
    reference = official_reference(target)
    if not reference:
        problems.append(f"cibuildwheel pins no image for {target}")
        return None
    console.note(f"looking for the official builder image, {reference.partition('@')[0]}")
    problem = ""
    for _ in range(2):
        try:
            engine.call("pull", "--quiet", reference, timeout=_PULL_TIMEOUT)
        except CommandFailed as error:
            problem = (error.output.strip().splitlines() or [error.summary])[-1]
        else:
            return BuilderImage(reference=reference, identity=reference, origin="official")
    problems.append(f"official image: {problem}")
    console.note(f"it is not available: {problem}")
    return None
