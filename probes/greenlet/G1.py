# /// script
# requires-python = "==3.14.*"
# dependencies = ["greenlet==3.5.6"]
#
# [tool.freewheel.probe]
# defect = "G1"
# title = "a collection frees what suspended greenlets are still using"
# releases = "<=3.5.6"
# use = "supported"
# passes = "in every case the objects outlive the collection, and no longer than the greenlet"
# fails-by = ["wrong answer"]
# runs = { baseline = 10, patched = 40 }
# seconds = 60
# ///
"""G1: a collection frees what suspended greenlets are still using.

Use:        a greenlet is suspended inside a function whose other references go away (a module
            is reloaded, a function replaced, the name of a class rebound); something collects
            garbage; the greenlet is resumed. One thread is enough.
Symptom:    segmentation fault, or the wrong code runs.
Cause:      free-threaded CPython, with the GIL on or off, does not count most references from
            frames to functions, code, classes and modules; its collector looks for them in the
            frames of running threads. The frames of greenlets that are suspended are not among
            those.

Shows:      greenlets are suspended while their frames have the only references to such objects;
            garbage is collected; weak references tell if the objects are still there. Only if
            they are, the greenlet is resumed, so that nothing crashes. At the end, the objects
            have to be gone.
"""

import gc
import os
import sys
import sysconfig
import threading
import weakref

from greenlet import getcurrent, greenlet

WRONG_ANSWER, LEAK, NOT_RUN = 3, 4, 77  # docs/probes.md


def fail(code, what):
    print(f"G1: {what}", flush=True)
    os._exit(code)  # what is suspended in freed code must not be touched again


class Case:
    """Names that can be forgotten, and weak references to what they named."""

    def __init__(self, source, **names):
        self.names = dict(names, __name__="case")
        exec(source, self.names)
        self.watched = {}

    def watch(self, *names):
        for name in names:
            value = self.names[name]
            self.watched[name] = weakref.ref(value)
            if hasattr(value, "__code__"):
                self.watched[f"{name}'s code"] = weakref.ref(value.__code__)

    def forget(self):
        for name in self.watched:
            self.names.pop(name, None)

    def gone(self):
        return [name for name, reference in self.watched.items() if reference() is None]


def collect():
    for _ in range(2):
        gc.collect()


def collect_in_thread():
    thread = threading.Thread(target=collect)
    thread.start()
    thread.join()


FUNCTION = """
def start(pause):
    value = 41
    pause()
    return value + one
one = 1
"""

NESTED = """
def inner(pause, depth):
    if depth:
        return inner(pause, depth - 1) + 1
    pause()
    return 0
def middle(pause):
    return sum(map(lambda function: function(pause, 40), [inner]))
def start(pause):
    return middle(pause) + 2
"""

GENERATOR = """
def items(pause):
    yield 40
    pause()
    yield 2
def start(pause):
    return sum(items(pause))
"""

EXCEPTION = """
class Error(Exception):
    pass
def fail():
    raise Error(42)
def start(pause):
    try:
        try:
            fail()
        finally:
            pause()
    except Error as error:
        pause()
        return error.args[0]
"""

CLASS_ON_STACK = """
class Answer:
    value = 42
    def __init__(self, ignored):
        pass
def start(pause):
    return Answer(pause()).value
"""

CLASS_IN_LOCAL = """
class Answer:
    value = 42
def start(pause):
    kind = Answer
    pause()
    return kind.value
"""

METHOD = """
class Answer:
    def method(self, pause):
        pause()
        return 42
def start(pause):
    return Answer().method(pause)
"""

MODULE = """
import types
module = types.ModuleType("module")
module.value = 42
def start(pause):
    local = module
    pause()
    return local.value
"""

CASES = {
    "function": (FUNCTION, ["start"]),
    "nested calls": (NESTED, ["start", "middle", "inner"]),
    "generator": (GENERATOR, ["start", "items"]),
    "exception": (EXCEPTION, ["start", "fail"]),
    "class on the stack": (CLASS_ON_STACK, ["start", "Answer"]),
    "class in a local variable": (CLASS_IN_LOCAL, ["start", "Answer"]),
    "method": (METHOD, ["start", "Answer"]),
    "module in a local variable": (MODULE, ["start", "module"]),
}


def suspended(case, collect, where):
    """The greenlet is suspended."""
    one = greenlet(case.names["start"])
    result = one.switch(getcurrent().switch)
    case.forget()
    while not one.dead:
        collect()
        check_kept(case, where)
        result = one.switch()
    return result


def parent(case, collect, where):
    """The greenlet has a child that is running."""

    def child():
        case.forget()
        collect()
        check_kept(case, where)

    def pause():
        greenlet(child).switch()

    return greenlet(case.names["start"]).switch(pause)


def check_kept(case, where):
    gone = case.gone()
    if gone:
        fail(WRONG_ANSWER, f"{where}: gone while a frame uses it: {', '.join(gone)}")


def main():
    if not sysconfig.get_config_var("Py_GIL_DISABLED"):
        print("G1: this needs free-threaded CPython")
        sys.exit(NOT_RUN)
    for how in (suspended, parent):
        for collector in (collect, collect_in_thread):
            for name, (source, names) in CASES.items():
                where = f"{name}, {how.__name__}, {collector.__name__}"
                case = Case(source)
                case.watch(*names)
                result = how(case, collector, where)
                if result != 42:
                    fail(WRONG_ANSWER, f"{where}: the result is {result!r}")
                collect()
                left = [name for name in case.watched if name not in case.gone()]
                if left:
                    fail(LEAK, f"{where}: left over: {', '.join(left)}")
    print(f"G1: nothing gone and nothing left over in {4 * len(CASES)} cases")


if __name__ == "__main__":
    main()
