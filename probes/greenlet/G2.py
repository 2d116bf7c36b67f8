"""G2: a greenlet dropped by another thread makes its own thread hang, or is never killed.

Releases:   the hang 3.4.0 to 3.5.6, that it is never killed all releases; free-threaded builds
            only, also with PYTHON_GIL=1.
Use:        a thread hands a suspended greenlet to another one, and that drops the last reference:
            a queue of work, a cache, a traceback.
Symptom:    the next greenlet call in the thread the greenlet belongs to, even getcurrent(), never
            returns. Or it does, but the greenlet's `finally` blocks never run (G3).
Cause:      only its own thread can kill a greenlet, so the other one puts it on a list. The first
            holds the list's lock while it deletes the greenlets on it, and comes back for the lock
            in doing so (G2). If the other thread lives on, it does not get as far: the object was
            made the property of that thread, and goes back there for deletion, and then on the
            list again (G3).

Shows:      a thread suspends a greenlet in `try: ... finally: ...`; another thread drops it, and
            then ends, or stays. Then the first one makes greenlet calls. In a process of its own,
            which is watched: either the call returns and the block ran in its thread, or not.

Pass (0):   for both, the calls return and the `finally` block ran, in the greenlet's own thread.
Fail (1):   a call does not return, or the process dies, or the block did not run or not there.
Not run (2): no greenlet.
"""

import sys

TIMEOUT = 2  # seconds; without the defect this takes a few milliseconds


def drop_elsewhere(stays, calls):
    """Return the identifiers of the owner thread and of the thread that ran the finally block."""
    import threading
    import time

    from greenlet import getcurrent, greenlet

    main = getcurrent()
    ran = []

    def suspended():
        try:
            main.switch()
        finally:
            ran.append(threading.get_ident())

    box = [greenlet(suspended)]
    box[0].switch()
    taken, given, dropped, end = (threading.Event() for _ in range(4))

    def drop():
        taken_over = box[0]
        taken.set()
        given.wait()
        del taken_over  # the last reference
        dropped.set()
        while stays and not end.wait(0.001):
            pass  # run Python code, so that what is queued for this thread gets done

    other = threading.Thread(target=drop, daemon=True)
    other.start()
    taken.wait()
    box.clear()
    given.set()
    dropped.wait()
    if not stays:
        other.join()
    for _ in range(100):
        if calls == "getcurrent()":
            getcurrent()
        else:
            greenlet(int).switch()
        if ran:
            break
        time.sleep(0.005)
    end.set()
    other.join()
    return threading.get_ident(), ran


def child(stays, calls):
    import faulthandler

    faulthandler.dump_traceback_later(TIMEOUT, exit=True)
    owner, ran = drop_elsewhere(stays, calls)
    faulthandler.cancel_dump_traceback_later()
    if not ran:
        print("never killed")
    elif ran != [owner]:
        print("killed in the wrong thread")
    else:
        print("killed")


def main():
    import subprocess

    import greenlet  # noqa: F401

    failed = False
    for stays in (False, True):
        for calls in ("getcurrent()", "switch()"):
            try:
                result = subprocess.run(
                    [sys.executable, __file__, "child", "stays" if stays else "", calls],
                    capture_output=True,
                    check=False,
                    text=True,
                    timeout=3 * TIMEOUT,
                )
            except subprocess.TimeoutExpired:
                print(f"G2: {calls}: the process does not end")  # too late for it to say so
                failed = True
                continue
            if "Timeout" in result.stderr:
                outcome = "hangs"
            elif result.returncode:
                outcome = f"exit status {result.returncode}"
            else:
                outcome = result.stdout.strip()
            failed |= outcome != "killed"
            thread = "stays" if stays else "ends"
            print(f"G2: dropped by a thread that {thread}, {calls}: {outcome}")
    return 1 if failed else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["child"]:
        child(bool(sys.argv[2]), sys.argv[3])
        sys.exit(0)
    try:
        status = main()
    except Exception as error:
        print(f"G2: could not run: {error!r}")
        status = 2
    sys.exit(status)
