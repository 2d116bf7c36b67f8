"""Statements that are built without stopping the threads of the other event loops.

SQLAlchemy (2.0 and 2.1) keeps the cache key of each statement in a function that it makes, and then
gives that function a name and a docstring. CPython 3.14 without the GIL stops all threads of the
process to set either of them: twice for each statement. Here the function keeps the name that it
was made with; nothing else is different.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy.sql.cache_key import CacheKey, HasCacheKey, MemoizedHasCacheKey

_METHOD = "_generate_cache_key"


def _generate_cache_key(self: Any) -> CacheKey | None:  # noqa: ANN401 - any statement
    key = HasCacheKey._generate_cache_key(self)
    self.__dict__[_METHOD] = lambda: key
    self._memoized_keys |= {_METHOD}  # a statement that is derived from this one drops them
    return key


def keep_threads_running() -> None:
    """Make it so, for all statements of the process; to be called before the first is built."""
    if _METHOD not in vars(MemoizedHasCacheKey):
        raise RuntimeError(
            "SQLAlchemy keeps cache keys in another way now: see whether this is due"
        )
    setattr(MemoizedHasCacheKey, _METHOD, _generate_cache_key)
