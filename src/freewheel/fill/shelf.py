"""wheels/filled/: what was built without patches and proof, in an index of its own.

Beside each wheel lie its record and the lock of its build requirements. What could not be built is
kept too, so that a second run does not try the same again.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from packaging.utils import canonicalize_name
from packaging.version import Version
from pydantic import BaseModel, ConfigDict, ValidationError

from freewheel.audit.available import Offers
from freewheel.audit.target import Target, wheel_name
from freewheel.base import files
from freewheel.base.code import code_digest
from freewheel.base.errors import UnprovenError
from freewheel.base.wheel_archive import WheelArchive, open_wheel
from freewheel.base.workspace import Workspace
from freewheel.build import buildinfo, check, index, sbom, static_checks
from freewheel.build.grafts import Grafted
from freewheel.fill import making
from freewheel.fill.making import Builder, Made
from freewheel.fill.orders import Absent, Order
from freewheel.machine import layer
from freewheel.machine.image import BuilderImage, acceptable_identities
from freewheel.recipe.building import Build, SystemPackages
from freewheel.recipe.recipe import Recipe
from freewheel.recipe.targets import Targets

UNPROVEN = "freewheel:unproven"  # the property in the SBOM
WHY = "built from upstream's sdist without patches; nobody has proven anything about it"
_CODE = ("fill/making", "fill/shelf")
# auditwheel puts a part of the content's digest into the name: libmariadb-0123abcd.so.3
_GRAFTED = re.compile(r"^([^.]+)-[0-9a-f]{8}(?=\.)")
_TOOLS = ("build", "cibuildwheel", "cyclonedx-python-lib")


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled:
    """A wheel in wheels/filled/; ``fresh`` says that an earlier run built it."""

    project: str
    version: str
    path: Path
    sha256: str
    seconds: float
    fresh: bool
    again: tuple[str, ...] | None = None


class _Failure(BaseModel):
    """What could not be built, of which inputs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    inputs: dict[str, str]
    cause: str
    remedy: str
    lacks_packages: bool


def simple(workspace: Workspace) -> Path:
    """The index of the filled wheels."""
    return workspace.filled / "simple"


def find(workspace: Workspace, order: Order) -> Filled | None:
    """The wheel of an earlier run, if it was made of the same inputs."""
    record = buildinfo.find_record(
        workspace.filled, project=order.project, version=order.version, target=order.target
    )
    lock = recorded_lock(workspace, order)
    if record is None or lock is None:
        return None
    order = _with_packages(order, record.inputs)
    names = {"project": record.project, "version": record.version, "sha256": record.sha256}
    if _stale(record.inputs, _inputs(order, lock), order) or not check.recall(
        record.wheel, **names
    ):
        return None
    seconds = float(record.details.get("seconds", 0))
    return Filled(
        project=record.project,
        version=record.version,
        path=record.wheel,
        sha256=record.sha256,
        seconds=seconds,
        fresh=True,
    )


def _with_packages(order: Order, inputs: Mapping[str, str]) -> Order:
    """The order with the system packages that an earlier build had."""
    try:
        packages = SystemPackages.model_validate_json(inputs.get("system packages", "{}"))
    except ValidationError:
        return order
    return replace(order, packages=packages)


def find_failure(workspace: Workspace, order: Order, *, may_add_packages: bool) -> Absent | None:
    """What an earlier run found out about a build that fails, if nothing has changed since."""
    try:
        kept = _Failure.model_validate_json(_failure_path(workspace, order).read_bytes())
    except (OSError, ValidationError):
        return None
    order = _with_packages(order, kept.inputs)
    if _stale(kept.inputs, _failed(order), order) or (may_add_packages and kept.lacks_packages):
        return None
    return Absent(
        project=order.project, version=order.version, cause=kept.cause, remedy=kept.remedy
    )


def keep_failure(
    workspace: Workspace, order: Order, error: making.NotBuilt, image: BuilderImage
) -> None:
    """Remember that a build fails."""
    kept = _Failure(
        inputs={**_failed(order), "image": image.identity},
        cause=error.absent.cause,
        remedy=error.absent.remedy,
        lacks_packages=isinstance(error, making.Lacking),
    )
    files.write_text(_failure_path(workspace, order), kept.model_dump_json(indent=1) + "\n")


def recorded_lock(workspace: Workspace, order: Order) -> str | None:
    """The lock of the build requirements of an earlier build of the same sdist."""
    path = _lock_path(workspace, order)
    return path.read_text(encoding="utf-8") if path.is_file() else None


def place(workspace: Workspace, order: Order, made: Made, builder: Builder) -> Filled:
    """Mark the wheel as unproven, and put it into wheels/filled/ and its index."""
    wheel = marked(workspace, order, made, builder)
    target = workspace.filled / wheel.name
    digest = files.sha256(wheel)
    files.write_text(_lock_path(workspace, order), made.lock)
    files.copy(wheel, target)
    image = builder.container.image
    buildinfo.write_record(
        buildinfo.Record(
            wheel=target,
            project=order.project,
            version=order.version,
            sha256=digest,
            size=target.stat().st_size,
            inputs={
                **_inputs(order, made.lock),
                "image": image.identity,
                "image manifest": image.manifest,
            },
            details={
                "unproven": WHY,
                "seconds": round(made.seconds, 1),
                "interpreter": builder.interpreter.version,
                "system packages": order.packages.model_dump(),
                "extension modules": static_checks.extension_modules(wheel),
            },
        )
    )
    known = check.recall(target, project=order.project, version=order.version, sha256=digest)
    if known is not None:
        _forget_other_bytes(workspace, known)
        index.add(simple(workspace), known)
        index.attach(simple(workspace), order.project, target, buildinfo.SUFFIX)
    _failure_path(workspace, order).unlink(missing_ok=True)
    return Filled(
        project=order.project,
        version=order.version,
        path=target,
        sha256=digest,
        seconds=made.seconds,
        fresh=False,
    )


def marked(workspace: Workspace, order: Order, made: Made, builder: Builder) -> Path:
    """The wheel with the SBOM that says that it is unproven, in the scratch directory."""
    packed = workspace.work / f"fill-{order.slug}" / "packed"
    return making.repacked(made, _added(order, made, builder), packed)


def records(workspace: Workspace) -> list[buildinfo.Record]:
    """The records of all filled wheels."""
    return buildinfo.read_records(workspace.filled)


def named(
    workspace: Workspace, names: Sequence[str], projects: Sequence[str] = ()
) -> list[check.KnownWheel]:
    """The filled wheels that are named, each of them unproven.

    Raises UnprovenError for one of ``projects`` that is only there as such a wheel, and for a name
    that no filled wheel has.
    """
    found: dict[str, list[check.KnownWheel]] = {}
    for record in records(workspace):
        known_as = {"project": record.project, "version": record.version, "sha256": record.sha256}
        if wheel := check.recall(record.wheel, **known_as):
            found.setdefault(record.project, []).append(wheel)
    wanted = [canonicalize_name(name) for name in names]
    problems = [
        f"{name}: wheels/filled/ has no wheel of it" for name in wanted if name not in found
    ]
    problems += [
        f"{name}: its wheel is unproven; --unproven {name} publishes it all the same"
        for name in map(canonicalize_name, projects)
        if name in found
        and name not in wanted
        and not (workspace.recipes / f"{name}.toml").exists()
    ]
    if problems:
        raise UnprovenError(
            "not all that was named can be published",
            problems=problems,
            hint="fill it first (`nox -s fill`), or write a recipe and prove it",
        )
    return [wheel for name in wanted for wheel in found[name]]


def retired(workspace: Workspace, offers: Offers) -> dict[str, str]:
    """The filled wheels that nobody needs any more, and the wheel that an index has instead."""
    found = {}
    records_now = records(workspace)
    answers = offers.ask(record.project for record in records_now)
    for record in records_now:
        target = Target(*record.inputs["target"].split("-", 1))
        for offer in answers[record.project].offers:
            name = wheel_name(offer.filename)
            fits = name is not None and target.rank(name) is not None
            if fits and offer.version == Version(record.version) and not offer.yanked:
                found[record.wheel.name] = offer.filename
    return found


def _forget_other_bytes(workspace: Workspace, wheel: check.KnownWheel) -> None:
    """These wheels carry upstream's version, so other inputs give other bytes under one name."""
    listed = simple(workspace) / wheel.project / wheel.path.name
    if listed.is_file() and files.sha256(listed) != wheel.sha256:
        listed.unlink()


def _failure_path(workspace: Workspace, order: Order) -> Path:
    return workspace.filled / "not-built" / f"{order.slug}.json"


def _lock_path(workspace: Workspace, order: Order) -> Path:
    return workspace.filled / "requirements" / f"{order.slug}.txt"


def _inputs(order: Order, lock: str) -> dict[str, str]:
    """All that shapes the wheel but the image."""
    return {
        "version": order.version,
        "target": order.target,
        "source archive": order.sha256,
        "build requirements": hashlib.sha256(lock.encode()).hexdigest(),
        "system packages": order.packages.model_dump_json(),
        "pipeline": code_digest(_CODE),
        **{tool: importlib.metadata.version(tool) for tool in _TOOLS},
    }


def _failed(order: Order) -> dict[str, str]:
    """All that shapes what is said of a build that failed but the image."""
    return {**_inputs(order, ""), "rules": code_digest(("fill/causes",))}


def _stale(recorded: Mapping[str, str], now: Mapping[str, str], order: Order) -> list[str]:
    """What has changed since."""
    images = [layer.identity(base, order.packages) for base in acceptable_identities(order.target)]
    return buildinfo.changed(recorded, now, images=images)


# -------------------------------------------------------------------------------------- the SBOM


def _added(order: Order, made: Made, builder: Builder) -> dict[str, bytes]:
    """The SBOM, which says that nothing is proven, as a member of the wheel."""
    with open_wheel(made.path) as archive:
        headers = archive.headers("METADATA")
        member = f"{archive.dist_info}/{sbom.MEMBER}"
        brought = tuple(_grafts(archive, builder))
    recipe = Recipe(
        path=Path(f"{order.project}.toml"),
        name=order.project,
        summary=str(headers["Summary"] or order.project)[:80],
        import_name=canonicalize_name(order.project).replace("-", "_"),
        source_url="",
        build=Build(version=(), requires=()),
        targets=Targets(served=(order.target,)),
        releases=(made.release,),
    )
    text = sbom.make(
        sbom.Contents(
            file_name=made.path.name,
            recipe=recipe,
            release=made.release,
            licence=str(headers["License-Expression"] or ""),
            series=(),
            requirements=made.lock,
            image=builder.container.image,
            grafts=brought,
        )
    )
    return {member: _unproven(text, order).encode()}


def _unproven(text: str, order: Order) -> str:
    """The SBOM of a patched wheel, turned into that of one that is upstream's own and unproven."""
    local = f"{order.version}+ft.1"
    document = json.loads(
        text.replace(local, order.version).replace(local.replace("+", "%2B"), order.version)
    )
    main = document["metadata"]["component"]
    main["description"] = f"{order.project} {order.version}, {WHY}"
    main.setdefault("properties", []).append({"name": UNPROVEN, "value": WHY})
    return json.dumps(document, indent=2) + "\n"


def _grafts(archive: WheelArchive, builder: Builder) -> Iterator[Grafted]:
    """The shared libraries that the repair copied, and the packages that they are of."""
    members = {
        member: _GRAFTED.sub(r"\1", PurePosixPath(member).name)
        for member in sorted(static_checks.grafted(archive.names))
    }
    if not members:
        return
    image = builder.container.image
    owners = layer.owners_of(builder.engine, image, sorted(set(members.values())))
    for member, library in members.items():
        yield Grafted(
            library=library,
            member=member,
            sha256=hashlib.sha256(archive.read(member)).hexdigest(),
            licence=making.ANY_GRAFT.licence,
            owner=owners[library],
        )
