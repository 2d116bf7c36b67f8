"""G3: a greenlet dropped by another thread is never killed.

Releases:   all greenlet releases; free-threaded builds only, also with PYTHON_GIL=1.
Use:        a thread hands suspended greenlets to another one, and that drops the last reference:
            a queue of work, a cache, a traceback.
Symptom:    as long as the other thread lives, the greenlets' `finally` blocks do not run.
Cause:      only its own thread can kill a greenlet, so the thread that drops it brings it back to
            life and puts it on a list for its own thread. In doing that, it becomes the owner of
            the object. So when the right thread drops the reference from the list, that is only a
            request to the owner, which finds that it cannot kill the greenlet and puts it on the
            list again.

Shows:      a thread suspends greenlets in `try: ... finally: ...`; another one drops them and
            lives on. The first makes greenlet calls for as long as this can take. Some are
            instances of a subclass that has a __del__ method, some were created by the other
            thread.

Pass (0):   each `finally` block ran once, in its greenlet's thread; so did each __del__.
Fail (1):   otherwise, or if a call does not return (that's G2), or the process dies.
Not run (2): no greenlet.
"""

import sys

TIMEOUT = 3  # seconds; without the defect this takes a few milliseconds
CALLS = 100
EACH = 4


def child():
    import faulthandler
    import threading
    import time

    from greenlet import getcurrent, greenlet

    faulthandler.dump_traceback_later(TIMEOUT, exit=True)

    class WithDel(greenlet):
        def __del__(self):
            deleted.append(self.kind)

    main = getcurrent()
    kinds = ("greenlet", "subclass", "created elsewhere")
    ran, deleted, box = [], [], []
    taken, given, dropped, end = (threading.Event() for _ in range(4))
    created = threading.Event()

    def suspended(kind):
        try:
            main.switch()
        finally:
            ran.append((kind, threading.get_ident()))

    def drop():
        for _ in range(EACH):
            box.append(greenlet(suspended, main))
        created.set()
        start.wait()
        taken_over = box[:]
        taken.set()
        given.wait()
        del taken_over[:]  # the last references
        dropped.set()
        while not end.wait(0.001):
            pass  # run Python code, so that what is queued for this thread gets done

    start = threading.Event()
    other = threading.Thread(target=drop, daemon=True)
    other.start()
    created.wait()
    for _ in range(EACH):
        box.append(greenlet(suspended))
        box.append(WithDel(suspended))
    for index, one in enumerate(box):
        kind = kinds[2] if index < EACH else kinds[(index - EACH) % 2]
        if kind == "subclass":
            one.kind = kind
        one.switch(kind)
    del one
    start.set()
    taken.wait()
    box.clear()
    given.set()
    dropped.wait()
    for _ in range(CALLS):
        greenlet(int).switch()
        getcurrent()
        if len(ran) == len(kinds) * EACH and len(deleted) == EACH:
            break
        time.sleep(0.002)
    end.set()
    other.join()
    faulthandler.cancel_dump_traceback_later()

    failed = False
    for kind in kinds:
        threads = [thread for what, thread in ran if what == kind]
        right = threads.count(threading.get_ident())
        failed |= right != EACH or len(threads) != EACH
        print(f"G3: {kind}: {len(threads)} of {EACH} killed, {right} in the right thread")
    if len(deleted) != EACH:
        failed = True
        print(f"G3: {EACH} instances, but {len(deleted)} calls of __del__")
    return 1 if failed else 0


def main():
    import subprocess

    import greenlet  # noqa: F401

    try:
        result = subprocess.run(
            [sys.executable, __file__, "child"],
            capture_output=True,
            check=False,
            text=True,
            timeout=3 * TIMEOUT,
        )
    except subprocess.TimeoutExpired:
        print("G3: the process does not end")  # too late for the child to say so itself
        return 1
    sys.stdout.write(result.stdout)
    if "Timeout" in result.stderr:
        print("G3: a call does not return")
    elif result.returncode not in (0, 1) or not result.stdout:
        print(f"G3: exit status {result.returncode}: {result.stderr[-500:]}")
    return 1 if result.returncode else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["child"]:
        sys.exit(child())
    try:
        status = main()
    except Exception as error:
        print(f"G3: could not run: {error!r}")
        status = 2
    sys.exit(status)
