# /// script
# requires-python = "==3.14.*"
# dependencies = ["greenlet==3.3.1"]
#
# [tool.freewheel.probe]
# defect = "G9"
# title = "a collection frees what C functions of suspended greenlets still need"
# releases = ">=3.3.1,<3.5.4"
# use = "supported"
# passes = "every object outlives the collection, and no longer than the greenlet"
# fails-by = ["wrong answer", "crash"]
# runs = { baseline = 10, patched = 20 }
# seconds = 60
# ///
"""G9: a collection frees what C functions of suspended greenlets still need.

Free-threaded CPython does not count most references to functions, classes, static methods and the
like; its collector looks for them in the frames of running threads (defect G1), and, as C functions
have no frames, in a list in the thread state, the elements of which are on the C stack. A greenlet
that is suspended takes its list with it, and so does one that starts another. From then on nobody
shows it to the collector.

Here, a greenlet looks up an attribute of an object. CPython finds it in the class first, but still
has to look into the object's own dictionary. That has a key of the same hash, and comparing the two
suspends the greenlet, or starts another one. Meanwhile the attribute is deleted from the class, and
garbage is collected. A weak reference tells if the value is still there. Only if it is, the lookup
goes on, and has to find it.
"""

import gc
import os
import sys
import sysconfig
import threading
import weakref

from greenlet import getcurrent, greenlet

WRONG_ANSWER, LEAK, NOT_RUN = 3, 4, 77


class Key(str):
    """Equal to nothing; finding that out calls ``pause`` the first time."""

    __slots__ = ("pause",)

    def __new__(cls, text, pause):
        self = super().__new__(cls, text)
        self.pause = pause
        return self

    def __eq__(self, other):
        pause, self.pause = self.pause, None
        if pause:  # a lookup may compare a key more than once
            pause()
        return False

    __hash__ = str.__hash__


def function():
    names = {}
    exec("def value(self): return 42", names)  # references to nested functions are counted
    return names.pop("value")


def static_method():
    class StaticMethod(staticmethod):  # a subclass can be referenced weakly
        pass

    return StaticMethod(lambda: 42)


def nested_class():
    class Value:
        def __new__(cls, *args):
            return 42

    return Value


class Lookup:
    """Looking up an attribute of an object, with a pause before it is found."""

    def __init__(self, kind, pause, depth=0):
        value = kind()
        self.watched = weakref.ref(value)
        self.owner = type("Owner", (), {"value": value})
        self.object = self.owner()
        self.inner = Lookup(kind, pause, depth - 1) if depth else None
        self.object.__dict__[Key("value", self.inner or pause)] = None

    def __call__(self):
        """Return 42."""
        name = "value"
        return getattr(self.object, name)()  # not self.object.value, which takes a shortcut

    def everything(self):
        return [self, *(self.inner.everything() if self.inner else ())]

    def forget(self):
        del self.owner.value

    def gone(self):
        return self.watched() is None


def collect():
    for _ in range(2):
        gc.collect()


def collect_in_thread():
    thread = threading.Thread(target=collect)
    thread.start()
    thread.join()


def collect_in_greenlets():
    """Use the part of the C stack that was the suspended greenlet's."""
    main = getcurrent()

    def recurse(depth):
        if depth:
            return max([depth], key=lambda _: recurse(depth - 1))
        collect()
        main.switch()
        collect()
        return 0

    greenlets = [greenlet(recurse) for _ in range(3)]
    for depth, one in enumerate(greenlets):
        one.switch(3 * depth)
    for one in greenlets:
        one.switch()


def forget_and_collect(lookup, collect):
    """Go no further if something that is still needed is gone."""
    for each in lookup.everything():
        each.forget()
    collect()
    if any(each.gone() for each in lookup.everything()):
        finish(WRONG_ANSWER, "the value is gone")


def suspended(kind, depth, collect):
    """The lookup is in a greenlet that is suspended."""
    lookup = Lookup(kind, getcurrent().switch, depth)
    one = greenlet(lookup)
    one.switch()
    forget_and_collect(lookup, collect)
    return lookup, one.switch()


def parent(kind, depth, collect):
    """The lookup is in a greenlet that has started another one."""

    def pause():
        greenlet(forget_and_collect).switch(lookup, collect)

    lookup = Lookup(kind, pause, depth)
    return lookup, lookup()


def check(where, kind, depth, collect):
    lookup, found = where(kind, depth, collect)
    if found != 42:
        finish(WRONG_ANSWER, "another value was found")
    collect()
    if not all(each.gone() for each in lookup.everything()):
        finish(LEAK, "the value is left over")


case = None  # what is being tried


def finish(status, message):
    print(f"G9: {case}: {message}", flush=True)
    os._exit(status)  # what may be freed must not be touched again


def main():
    global case
    if not sysconfig.get_config_var("Py_GIL_DISABLED"):
        print("G9: not a free-threaded interpreter")
        return NOT_RUN
    for where in (suspended, parent):
        for how in (collect, collect_in_thread, collect_in_greenlets):
            for kind in (function, static_method, nested_class):
                for depth in (0, 3):
                    case = f"{kind.__name__}, {where.__name__}, {how.__name__}, depth {depth}"
                    check(where, kind, depth, how)
    return 0


if __name__ == "__main__":
    sys.exit(main())
