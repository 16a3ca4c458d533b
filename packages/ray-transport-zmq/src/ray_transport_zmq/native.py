"""The functions of ZeroMQ that move data, called past pyzmq.

pyzmq lets signal handlers run inside its calls, and on Python 3.12 and newer finalisers too: when ZeroMQ has sent or
received a part, and the caller does not know of it yet. What they send would come between the parts of a message.
``ctypes`` lets nothing run inside a call, and nothing runs between calls that C code makes, such as ``map``. So a
sequence of calls, and the record of what they did, is one step of the interpreter if iterators make it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from itertools import dropwhile, repeat, starmap
from typing import Any, Final

import zmq
from zmq.backend.cython import _zmq

_pointer, _size, _int = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
_SIGNATURES: Final[dict[str, tuple[Any, list[Any]]]] = {
    "zmq_errno": (_int, []),
    "zmq_connect": (_int, [_pointer, ctypes.c_char_p]),
    "zmq_disconnect": (_int, [_pointer, ctypes.c_char_p]),
    "zmq_getsockopt": (_int, [_pointer, _int, _pointer, _pointer]),
    "zmq_setsockopt": (_int, [_pointer, _int, _pointer, _size]),
    "zmq_send": (_int, [_pointer, _pointer, _size, _int]),
    "zmq_recv": (_int, [_pointer, _pointer, _size, _int]),
    "zmq_msg_init": (_int, [_pointer]),
    "zmq_msg_init_size": (_int, [_pointer, _size]),
    "zmq_msg_close": (_int, [_pointer]),
    "zmq_msg_send": (_int, [_pointer, _pointer, _int]),
    "zmq_msg_recv": (_int, [_pointer, _pointer, _int]),
    "zmq_msg_get": (_int, [_pointer, _int]),
    "zmq_msg_data": (_pointer, [_pointer]),
    "zmq_msg_size": (_size, [_pointer]),
}


#: What pyzmq is linked to.
_library = ctypes.PyDLL(_zmq.__file__)
#: Whether it shows all of them.
IS_COMPLETE: Final = all(hasattr(_library, name) for name in _SIGNATURES)


def _function(name: str) -> Any:
    result, arguments = _SIGNATURES[name]
    function = getattr(_library, name, None)
    if function is not None:
        function.restype, function.argtypes = result, arguments
    return function


errno: Callable[[], int] = _function("zmq_errno")
connect = _function("zmq_connect")
disconnect = _function("zmq_disconnect")
get_option = _function("zmq_getsockopt")
set_option = _function("zmq_setsockopt")
send = _function("zmq_send")
receive = _function("zmq_recv")
send_message = _function("zmq_msg_send")
receive_message = _function("zmq_msg_recv")
_init = _function("zmq_msg_init")
_init_size = _function("zmq_msg_init_size")
_close = _function("zmq_msg_close")
_get = _function("zmq_msg_get")
_data = _function("zmq_msg_data")
_length = _function("zmq_msg_size")
_make_bytes: Any = ctypes.pythonapi.PyBytes_FromStringAndSize
_make_bytes.restype, _make_bytes.argtypes = ctypes.py_object, [_pointer, ctypes.c_ssize_t]

NOW = _int(zmq.NOBLOCK)
NOW_MORE = _int(zmq.NOBLOCK | zmq.SNDMORE)
#: A signal can interrupt a call before it has done anything; each try would need another one.
TRIES = 10

_has_failed = (0).__gt__


def again(function: Any, arguments: tuple[Any, ...], tries: int = TRIES) -> Iterator[int]:
    """When advanced, calls until that succeeds and yields the result; ends if it does not succeed."""
    return dropwhile(_has_failed, starmap(function, repeat(arguments, tries)))


def take(arguments: tuple[Any, ...], address: int, tries: int = TRIES) -> Iterator[bytes]:
    """When advanced, receives a part by way of the memory at ``address``, and yields it; ends if there is none."""
    return map(_make_bytes, (address,), again(receive, arguments, tries))


class Number:
    """An option of a socket that ZeroMQ tells."""

    def __init__(self, handle: ctypes.c_void_p, option: int) -> None:
        self._value, self._size = _int(), _size(ctypes.sizeof(_int))
        self.arguments = (handle, _int(option), ctypes.byref(self._value), ctypes.byref(self._size))

    @property
    def value(self) -> int:
        """As it was when ``get_option`` was called last."""
        return self._value.value


class Message:
    """What ZeroMQ keeps of one part."""

    __slots__ = ("_as_parameter_",)

    def __init__(self, data: Any = None) -> None:
        """Empty, to be received into, or with a copy of ``data``."""
        self._as_parameter_ = (ctypes.c_uint64 * 8)()
        if data is None:
            _init(self)
        else:
            view = memoryview(data)
            if _init_size(self, view.nbytes):
                _init(self)
                raise MemoryError(f"no memory for a message of {view.nbytes} bytes")
            self.buffer[:] = view

    @property
    def buffer(self) -> memoryview:
        """Its content, where ZeroMQ keeps it."""
        memory: Any = (ctypes.c_ubyte * _length(self)).from_address(_data(self))
        memory.message = self  # which ends with the last view
        return memoryview(memory).cast("B")

    @property
    def bytes(self) -> bytes:
        """A copy of its content."""
        return _make_bytes(_data(self), _length(self))  # type: ignore[no-any-return]

    def descriptor(self) -> int:
        """That of the socket it came from; -1 if that is not known."""
        return _get(self, zmq.SRCFD)  # type: ignore[no-any-return]

    def __del__(self) -> None:
        _close(self)
