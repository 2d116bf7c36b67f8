# /// script
# requires-python = ">=3.14,<3.16"
# dependencies = ["SQLAlchemy==2.1.9"]
#
# [tool.freewheel.probe]
# defect = "S10"
# title = "statements with a construct of the application are never cached"
# releases = "<=2.1.9"
# use = "supported"
# passes = "annotated constructs have a cache key, wherever the thread is held that annotates first"
# fails-by = ["wrong answer"]
# runs = { baseline = 10, patched = 30 }
# seconds = 120
# ///
"""S10: statements with a construct of the application are never cached.

Releases:   SQLAlchemy up to 2.0.58 and 2.1.9, without the GIL; with it, if it is handed over there.
Use:        a class of one's own, as the documentation of custom SQL constructs shows, that several
            threads use in ORM statements first.
Symptom:    every statement with it is compiled anew, as long as the process lives, and a warning
            says that its class does not set inherit_cache, which it does.
Cause:      the ORM annotates elements, with a class made for each class of elements. Other threads
            find that as soon as it is there, before it says how it is cached; and that it cannot
            be cached is noted for good.

Shows:      nothing is left to luck. One thread annotates a construct of a new class, held at each
            line that makes the class in turn; another does so as well. Both must get a cache key,
            and all who ask later.
"""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor, wait

from sqlalchemy import Integer
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.sql.expression import FunctionElement
from sqlalchemy.sql.visitors import InternalTraversal

WRONG_ANSWER = 3  # docs/probes.md
A_MOMENT = 5  # seconds for a thread that waits for the other; none does here


def interleave(first, second, place, where, *, opcodes=False):
    """Do `first` in a thread up to a place, then `second` in another, then the rest of `first`.

    Places are counted: lines, or instructions, of the functions that `where` is true for. Should
    `second` wait for `first`, that goes on. Return whether `first` has got to the place.
    """
    held, go, left = threading.Event(), threading.Event(), [place]

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

    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(traced)
        held.wait()
        other = pool.submit(second)
        wait([other], A_MOMENT)
        go.set()
        one.result()
        other.result()
    return left[0] <= 0


def makes(code):
    return code.co_name == "_new_annotation_type"


def column():
    internals = [("v", InternalTraversal.dp_string)]
    names = {"_traverse_internals": internals, "type": Integer(), "v": "x"}
    return type("Own", (ColumnElement,), names)()


def function():
    return type("Own", (FunctionElement,), {"inherit_cache": True, "type": Integer()})()


def main():
    failed = False
    for make in (column, function):
        wrong, place, more = [], 1, True
        while more:
            element, keys, kinds = make(), [], set()

            def use(element=element, keys=keys, kinds=kinds):
                annotated = element._annotate({"x": 1})  # noqa: SLF001
                kinds.add(type(annotated))
                keys.append(annotated._generate_cache_key())  # noqa: SLF001

            more = interleave(use, use, place, makes)
            use()
            if any(key is None for key in keys) or len(kinds) > 1:
                wrong.append(place)
            place += 1
        failed |= bool(wrong)
        print(f"S10: {make.__name__}: held at {place - 2} lines, not cached at {wrong}")
    return WRONG_ANSWER if failed else 0


if __name__ == "__main__":
    sys.exit(main())
