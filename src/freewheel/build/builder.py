"""What builds wheels for a target: an engine with an image, or this machine itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from freewheel.base.console import Board
from freewheel.base.errors import BuildError
from freewheel.base.workspace import Workspace
from freewheel.build import libraries, wheel
from freewheel.build.grafts import Grafted, find_grafts
from freewheel.build.job import Job
from freewheel.machine import compiler_cache, layer
from freewheel.machine.engine import find_engine, remove_leftovers
from freewheel.machine.image import BuilderImage, find_or_make_image, native_builder
from freewheel.machine.interpreter import Interpreter, find_interpreter
from freewheel.recipe.building import Graft
from freewheel.recipe.pythons import python_of
from freewheel.recipe.targets import in_container


@dataclass(frozen=True, slots=True, kw_only=True)
class Builder:
    """What all jobs of a run for one target share; ``container`` is None where builds are native.

    ``image`` is the container's, or what stands for it. ``interpreter`` is what wheels are imported
    with where there is no container.
    """

    container: wheel.Container | None
    image: BuilderImage
    interpreter: Interpreter | None

    def grafts(
        self, built: wheel.Wheel, allowed: Sequence[Graft], of_recipe: Mapping[str, layer.Owner]
    ) -> tuple[Grafted, ...]:
        """What was grafted into a wheel, by the image's own word and the recipe's libraries."""
        if self.container is None:
            return ()
        owners = partial(layer.owners_of, self.container.engine, self.image)
        return find_grafts(built.path, allowed, owners, of_recipe)


def stages(jobs: Sequence[Job]) -> int:
    """How many stages it takes to make the builders of those jobs ready."""
    targets = {job.target for job in jobs}
    builds = [job.recipe.build for job in jobs]
    layers = sum(bool(build.system_packages) + bool(build.libraries) for build in builds)
    return sum(2 if in_container(target) else 1 for target in targets) + layers


def ready_builder(workspace: Workspace, target: str, board: Board) -> Builder:
    """The builder for a target, made ready where it is not. Raises MachineError."""
    if not in_container(target):
        with board.stage("builder", "interpreter"):
            interpreter = find_interpreter(workspace, python_of(target))
        return Builder(container=None, image=native_builder(target), interpreter=interpreter)
    with board.stage("builder", "container engine"):
        engine = find_engine(workspace, may_install=True)
        remove_leftovers(engine)
    with board.stage("builder", "image"):
        image = find_or_make_image(workspace, engine, target)
    container = wheel.Container(engine=engine, image=image)
    return Builder(container=container, image=image, interpreter=None)


def layered(base: str, job: Job) -> str:
    """The identity of an image with the layers that the job's recipe needs."""
    build = job.recipe.build
    return libraries.identity(layer.identity(base, build.system_packages), build.libraries)


def with_layers(workspace: Workspace, job: Job, builder: Builder, board: Board) -> Builder:
    """The builder with the system packages that the recipe names, and the libraries it builds.

    A compiler cache is added where the job wants one.
    """
    packages, built = job.recipe.build.system_packages, job.recipe.build.libraries
    if not (packages or built or job.compiler_cache):
        return builder
    if builder.container is None:
        key = "system-packages" if packages else "libraries"
        raise BuildError(
            f"{job.title}: {f'build.{key}' if packages or built else '--compiler-cache'} needs a "
            "container",
            hint=f"exclude {job.target} in {job.recipe.path.name}, or build without the cache",
        )
    engine, image = builder.container.engine, builder.image
    if packages:
        with board.stage(job.title, "system packages"):
            image = layer.find_or_make_layer(workspace, engine, image, packages)
    if built:
        with board.stage(job.title, "libraries"):
            image = libraries.find_or_make(workspace, engine, image, built)
    compilers = None
    if job.compiler_cache:
        compilers = compiler_cache.prepare(workspace, image, job.recipe.name, job.target)
    container = wheel.Container(engine=engine, image=image, compilers=compilers)
    return Builder(container=container, image=image, interpreter=None)
