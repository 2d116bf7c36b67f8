"""Print what every thread of a process is at: ``stacks.py PID``.

It stands alone, for it runs in the interpreter of that process, whose own reader it uses to find
the Python frames in the memory of another process; that stops nobody, and needs no GIL.
"""

import contextlib
import importlib
import sys
from pathlib import Path
from typing import Any


def frames(pid: int) -> dict[int, list[str]]:
    """The Python frames of each thread, the innermost first, by the system's id of the thread."""
    reader: Any = importlib.import_module("_remote_debugging")  # CPython 3.14 and later
    found = {}
    for each in reader.RemoteUnwinder(pid, all_threads=True).get_stack_trace():
        for thread in getattr(each, "threads", [each]):  # 3.15 has them by interpreter
            found[thread.thread_id] = [
                f"{frame.funcname} {frame.filename}:{line_of(frame)}" for frame in thread.frame_info
            ]
    return found


def line_of(frame: Any) -> int:  # noqa: ANN401  the interpreter's own type
    """The line that a frame is at; 3.15 has a tuple with its end and columns, None for C."""
    if hasattr(frame, "lineno"):
        return int(frame.lineno)
    return int(frame.location[0]) if frame.location else 0


def own_id(task: Path) -> int:
    """What a thread takes for its id: in a namespace of processes, another one than here."""
    with contextlib.suppress(OSError):
        for line in (task / "status").read_text().splitlines():
            if line.startswith("NSpid:"):
                return int(line.split()[-1])
    return int(task.name)


def describe(task: Path, stack: list[str]) -> str:
    """A thread, its state, what it waits for in the kernel, and its frames."""
    state = where = ""
    with contextlib.suppress(OSError):
        state = (task / "stat").read_text().rpartition(")")[2].split()[0]
        where = (task / "wchan").read_text().strip("0")
    head = f"thread {task.name}, state {state}{f', in {where}' if where else ''}"
    return "\n".join([head, *(f"  {frame}" for frame in stack)])


def main() -> None:
    """Print all threads."""
    pid = int(sys.argv[1])
    found: dict[int, list[str]] = {}
    lines: list[str] = []
    try:
        found = frames(pid)
    except Exception as error:  # noqa: BLE001  whatever it is, the rest can be reported
        lines.append(f"(no Python frames: {error!r})")
    tasks = sorted(Path(f"/proc/{pid}/task").glob("*"), key=lambda path: int(path.name))
    lines += [describe(task, found.get(own_id(task), [])) for task in tasks]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
