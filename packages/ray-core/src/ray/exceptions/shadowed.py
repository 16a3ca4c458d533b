"""Files of the program that Python takes for a module of the same name which is needed: what to say of an import."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator

_MODULE = re.compile(r"module '([\w.]+)'")


def explain(error: Exception) -> None:
    """Raise an ``ImportError`` that names the file, if such a one has led to ``error``; where that is caught."""
    sentence = shadowing(error)
    if sentence:
        raise ImportError(sentence) from error


def shadowing(error: BaseException) -> str:
    """What to say of such a file if it has led to ``error``, which has come out of an import; else nothing."""
    seen: set[str] = set()
    for name in _names(error):
        top = name.partition(".")[0]
        if top not in seen:
            seen.add(top)
            sentence = _sentence(top)
            if sentence:
                return sentence
    return ""


def shadowed() -> list[str]:
    """What to say of files of the program that have been imported in the place of modules of Python's library."""
    main = getattr(sys.modules.get("__main__"), "__file__", None)
    try:
        folder = os.path.dirname(os.path.abspath(main)) if isinstance(main, str) else os.getcwd()
    except FileNotFoundError:  # the working directory has been removed: nothing is imported from there
        return []
    names = [
        name
        for name in sys.stdlib_module_names & sys.modules.keys()
        if str(getattr(sys.modules[name], "__file__", "")).startswith(folder + os.sep)
    ]
    return [sentence for name in sorted(names) if (sentence := _sentence(name))]


def _names(error: BaseException) -> Iterator[str]:
    """Modules that may be to blame: those that the error and its causes name, and whose code they have come through."""
    each: BaseException | None = error
    while each is not None:
        if isinstance(each, (ImportError, AttributeError)):
            yield (isinstance(each, ImportError) and each.name) or ""
            yield from _MODULE.findall(str(each))
        frame = each.__traceback__
        while frame is not None:
            folder, file = os.path.split(frame.tb_frame.f_code.co_filename)
            yield os.path.basename(folder) if file == "__init__.py" else file.removesuffix(".py")
            frame = frame.tb_next
        each = each.__cause__ or each.__context__


def _sentence(name: str) -> str:
    from importlib.machinery import PathFinder

    if not name.isidentifier() or name in sys.builtin_module_names or name == "ray":
        return ""
    files: list[str] = []
    for entry in dict.fromkeys(sys.path):
        spec = PathFinder.find_spec(name, [entry])
        if spec is not None and spec.origin is not None and not any(_same(file, spec.origin) for file in files):
            files.append(spec.origin)
            if len(files) == 2:
                break
    else:
        return ""
    loaded = getattr(sys.modules.get(name), "__file__", None) or files[0]
    if not _same(loaded, files[0]):
        return ""
    return (
        f"The file {files[0]} takes the place of the module {name!r} that is needed, {files[1]}: give your file "
        "another name."
    )


def _same(first: str, second: str) -> bool:
    """Whether two paths lead to one file; paths of what lies in an archive or has been removed are compared as text."""
    try:
        return os.path.samefile(first, second)
    except OSError:
        return first == second
