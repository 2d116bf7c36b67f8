# /// script
# requires-python = ">=3.14"
# dependencies = ["asyncpg==0.32.0"]
#
# [tool.freewheel.probe]
# defect = "P6C"
# title = "where there is no memory for a list of records to use again, decoding a row fails"
# releases = ">=0.31,<=0.32.0"
# use = "supported"
# passes = "a record is made, and no error is set"
# fails-by = ["exception"]
# runs = { baseline = 10, patched = 30 }
# seconds = 30
# ///
"""P6C: where there is no memory for a list of records to use again, decoding a row fails.

Releases:   asyncpg 0.31.0 and 0.32.0, also with the GIL.
Use:        a thread that makes its first record is short of memory for its free list.
Symptom:    SystemError: ... returned a result with an exception set.
Cause:      get_freelist_state sets MemoryError; make_record goes on without the list, as it can,
            but leaves the error set.

Shows:      in new threads, CPython's calloc is replaced by one that has nothing to give, while
            one record is made, which needs it for nothing else.
"""

import ctypes
import sys
import threading

NOT_RUN = 77
THREADS = 20
PYMEM_DOMAIN_MEM = 1


class Allocator(ctypes.Structure):
    """PyMemAllocatorEx."""

    _fields_ = [(name, ctypes.c_void_p) for name in ("ctx", "malloc", "calloc", "realloc", "free")]


def nothing_to_give():
    """The address of a C function that returns NULL where calloc gets a context of NULL."""
    return ctypes.cast(ctypes.CDLL(None).labs, ctypes.c_void_p).value


def make_one(descriptor, kind):
    usual, failing = Allocator(), Allocator()
    api = ctypes.pythonapi
    api.PyMem_GetAllocator(PYMEM_DOMAIN_MEM, ctypes.byref(usual))
    api.PyMem_GetAllocator(PYMEM_DOMAIN_MEM, ctypes.byref(failing))
    if failing.ctx is not None:
        raise NotImplementedError("the allocator has a context")
    failing.calloc = nothing_to_give()
    arguments = ctypes.byref(usual), ctypes.byref(failing)
    api.PyMem_SetAllocator(PYMEM_DOMAIN_MEM, arguments[1])
    try:
        return descriptor.make_record(kind, 1)
    finally:
        api.PyMem_SetAllocator(PYMEM_DOMAIN_MEM, arguments[0])


def main():
    import asyncpg
    from asyncpg.protocol.record import RecordDescriptor

    descriptor = RecordDescriptor({"a": 0}, ("a",))
    errors = []

    def work():
        try:
            make_one(descriptor, asyncpg.Record)
        except BaseException as error:
            errors.append(error)

    for _ in range(THREADS):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    print(f"P6C: {len(errors)} of {THREADS} records failed")
    for error in errors:
        if isinstance(error, NotImplementedError):
            return NOT_RUN
        raise error
    return 0


if __name__ == "__main__":
    sys.exit(main())
