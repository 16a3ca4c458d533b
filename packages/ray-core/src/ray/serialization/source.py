"""Code that travels by value keeps its file name, and brings its source along where no file holds it.

Tracebacks, warnings and ``inspect.getsource`` find lines by the name of the file. cloudpickle from 3.1.3 on gives all
code one name that says nothing, so that equal functions have equal pickles wherever they are defined; here a line that
a person can look up is worth more.
"""

from __future__ import annotations

import linecache
from types import CodeType
from typing import Any

#: Sources longer than this stay at home.
_MAX_SOURCE = 256 * 1024


def reduce_code(code: CodeType) -> tuple[Any, ...]:
    """Reduce value of a code object; cloudpickle pickles the constants in it, nested code among them."""
    arguments = (
        code.co_argcount,
        code.co_posonlyargcount,
        code.co_kwonlyargcount,
        code.co_nlocals,
        code.co_stacksize,
        code.co_flags,
        code.co_code,
        code.co_consts,
        code.co_names,
        code.co_varnames,
        code.co_filename,
        code.co_name,
        code.co_qualname,
        code.co_firstlineno,
        code.co_linetable,
        code.co_exceptiontable,
        code.co_freevars,
        code.co_cellvars,
    )
    return make_code, (arguments, _text_of(code.co_filename))


def make_code(arguments: tuple[Any, ...], text: str) -> CodeType:
    """Called by the pickle: the code object, with its source where this process can find it."""
    code = CodeType(*arguments)
    name = code.co_filename
    if text and name not in linecache.cache:
        # Without a time of change it is kept, and never compared with a file.
        linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    return code


def _text_of(name: str) -> str:
    """The source under a name that is no file's: a cell of a notebook, a line typed at a prompt; empty if unknown."""
    entry = linecache.cache.get(name)
    # A time of change is a file's. Looking for the file would block, and this may be the thread of an event loop.
    if entry is None or len(entry) == 1 or entry[0] > _MAX_SOURCE or entry[1] is not None:
        return ""
    return "".join(entry[2])
