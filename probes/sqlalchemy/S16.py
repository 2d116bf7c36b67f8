# /// script
# requires-python = ">=3.14,<3.16"
# dependencies = ["SQLAlchemy==2.1.9"]
#
# [tool.freewheel.probe]
# defect = "S16"
# title = "the garbage of one thread takes living objects out of another's session"
# releases = "<=2.1.9"
# use = "supported"
# passes = "the session has the object that is in use, wherever the other thread is held"
# fails-by = ["wrong answer"]
# runs = { baseline = 10, patched = 30 }
# seconds = 120
# ///
"""S16: the garbage of one thread takes living objects out of another's session.

Releases:   SQLAlchemy up to 2.0.58 and 2.1.9, without the GIL; with it, if it is handed over there.
Use:        a thread uses a session; objects of it that are not used any more are collected in
            another thread, as happens to all that refer to each other: the collector runs in any
            thread.
Symptom:    a row is loaded twice, as two objects, in one session, and what is changed in one is
            not seen in the other. Or a flush ends in AttributeError: _instance_dict.
Cause:      who frees an object asks whether the session's identity map has its state under its key,
            and removes what is there under that key afterwards. Between the two, the other thread
            may have loaded the row again.

Shows:      nothing is left to luck. One thread frees an object, held at each line of that in turn,
            while the session is used in another: it loads the same row again, or flushes a new
            object of the same key. Then the session must have that object.
"""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

from sqlalchemy import StaticPool, create_engine, delete, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

WRONG_ANSWER = 3  # docs/probes.md
TASKS = Path("/proc/self/task")
# How often a thread must be seen asleep, and how many seconds apart, until it counts as waiting.
LOOKS, A_MOMENT = (3 if TASKS.exists() else 50), 0.001


class Base(DeclarativeBase):
    pass


class Row(Base):
    __tablename__ = "row"
    id: Mapped[int] = mapped_column(primary_key=True)


def interleave(first, second, place, where, *, opcodes=False):
    """Do `first` in a thread up to a place, then `second` in another, then the rest of `first`.

    Places are counted: lines, or instructions, of the functions that `where` is true for. Should
    `second` wait for `first`, that goes on. Return whether `first` has got to the place.
    """
    held, go, left, other_is = threading.Event(), threading.Event(), [place], []

    def trace(frame, event, _):
        if not where(frame.f_code):
            return None
        frame.f_trace_opcodes = opcodes
        if event == ("opcode" if opcodes else "line"):
            left[0] -= 1
            if left[0] == 0:
                held.set()
                go.wait()
                sys.settrace(None)  # from here on at full speed
        return trace

    def traced():
        sys.settrace(trace)
        try:
            first()
        finally:
            sys.settrace(None)
            held.set()

    def named():
        other_is.append(threading.get_native_id())
        second()

    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(traced)
        held.wait()
        other = pool.submit(named)
        until_it_waits(other, other_is)
        go.set()
        one.result()
        other.result()
    return left[0] <= 0


def until_it_waits(future, thread):
    """Wait until a thread is through, or waits for the other: it is asleep whenever looked at."""
    looks, before = 0, None
    while looks < LOOKS and not wait([future], A_MOMENT).done:
        now = times_asleep(thread[0]) if thread else None
        looks = looks + 1 if now is not None and now == before else 0
        before = now


def times_asleep(thread):
    """How often a thread has gone to sleep, as Linux says, if it is asleep now; else None."""
    if not TASKS.exists():
        return 0
    lines = Path(TASKS, str(thread), "status").read_text().splitlines()
    says = dict(line.split(":", 1) for line in lines)
    return says["voluntary_ctxt_switches"] if "sleeping" in says["State"] else None


freeing = threading.Event()


def frees(code):
    there = code.co_filename.endswith("orm/identity.py") or code.co_name == "_cleanup"
    return there and freeing.is_set()


def load(session):
    return session.get(Row, 1)


def load_all(session):
    return session.scalars(select(Row)).one()


def write(session):
    row = Row(id=1)
    session.execute(delete(Row).execution_options(synchronize_session=False))
    session.add(row)
    session.flush()
    return row


def wrong_at(engine, place, use):
    """What went wrong when a thread was held at the place, and whether there was such a place."""
    errors, kept = [], []
    sys.unraisablehook = lambda what: errors.append(repr(what.exc_value))
    with Session(engine) as session:

        def free():
            row = session.get(Row, 1)
            freeing.set()
            del row
            freeing.clear()

        def again():
            try:
                kept.append(use(session))
            except Exception as error:
                errors.append(repr(error))

        reached = interleave(free, again, place, frees)
        if kept and session.get(Row, 1) is not kept[0]:
            errors.append("the row has two objects")
        session.rollback()
    return errors, reached


def main():
    arguments = {"check_same_thread": False}
    engine = create_engine("sqlite://", poolclass=StaticPool, connect_args=arguments)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(Row(id=1))
        session.commit()
    failed = False
    for use in (load, load_all, write):
        wrong, place, more = {}, 1, True
        while more:
            errors, more = wrong_at(engine, place, use)
            if errors:
                wrong[place] = errors
            place += 1
        failed |= bool(wrong)
        print(f"S16: {use.__name__}: held at {place - 2} lines, wrong: {wrong}")
    return WRONG_ANSWER if failed else 0


if __name__ == "__main__":
    sys.exit(main())
