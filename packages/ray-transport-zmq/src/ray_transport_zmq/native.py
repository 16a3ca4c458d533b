"""The functions of ZeroMQ that move data, called past pyzmq.

pyzmq lets signal handlers run inside its calls, and on Python 3.12 and newer finalisers too: when ZeroMQ has sent or
received a part, and the caller does not know of it yet. What they send would come between the parts of a message.
``ctypes`` lets nothing run inside a call, and nothing runs between calls that C code makes, such as ``map``. So a
sequence of calls, and the record of what they did, is one step of the interpreter if iterators make it.

On Python 3.11 the collector runs finalisers wherever an object is made that it watches, also inside such a step. So
none is made there: arguments come as tuples that there are already, and each has the very class that the function asks
for, or is an int or bytes for a pointer. Of all others ``ctypes`` asks their class, by a bound method that is made.
"""

from __future__ import annotations

import ctypes
import io
import operator
from collections.abc import Callable, Iterator
from itertools import dropwhile, repeat, starmap
from typing import Any, Final

import zmq
from zmq.backend.cython import _zmq

_pointer, _int = ctypes.c_void_p, ctypes.c_int
#: A ``size_t``, which is as wide as a pointer; an int may be given for it as it is.
_size = ctypes.c_void_p
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
    "zmq_msg_size": (ctypes.c_size_t, [_pointer]),
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

NAME = _int(zmq.CONNECT_ROUTING_ID)
NOW = _int(zmq.NOBLOCK)
NOW_MORE = _int(zmq.NOBLOCK | zmq.SNDMORE)
#: A signal can interrupt a call before it has done anything; each try would need another one.
TRIES = 10

_has_failed = (0).__gt__


def again(function: Any, arguments: tuple[Any, ...], tries: int = TRIES) -> Iterator[int]:
    """When advanced, calls until that succeeds and yields the result; ends if it does not succeed."""
    return dropwhile(_has_failed, starmap(function, repeat(arguments, tries)))


class _File(io.BytesIO):
    """A file whose memory is in use for as long as it lives; Python would close it before it ends."""

    def close(self) -> None:
        """Nothing."""


class Memory:
    """Memory that parts are received into one after the other, and read from in the same step."""

    def __init__(self, nbytes: int) -> None:
        self._file = _File(bytes(nbytes))
        self._view = self._file.getbuffer()  # keeps it in its place
        self._address = _pointer(ctypes.addressof(ctypes.c_ubyte.from_buffer(self._view)))

    def receiving(self, handle: ctypes.c_void_p, nbytes: int) -> tuple[Any, ...]:
        """The arguments for ``take``; of a larger part no more is kept."""
        return handle, self._address, nbytes, NOW

    def take(self, arguments: tuple[Any, ...], tries: int = TRIES) -> Iterator[bytes]:
        """When advanced, receives a part and yields it; ends if there is none."""
        start, file = starmap(self._file.seek, ((0,),)), self._file
        return map(file.read, map(operator.add, start, again(receive, arguments, tries)))


class Number:
    """An option of a socket that ZeroMQ tells."""

    def __init__(self, handle: ctypes.c_void_p, option: int) -> None:
        self._value, self._size = _int(), ctypes.c_size_t(ctypes.sizeof(_int))
        addresses = ctypes.addressof(self._value), ctypes.addressof(self._size)
        self.arguments = (handle, _int(option), *addresses)

    @property
    def value(self) -> int:
        """As it was when ``get_option`` was called last."""
        return self._value.value


class Message:
    """What ZeroMQ keeps of one part."""

    __slots__ = ("_memory", "pointer")

    def __init__(self, data: Any = None) -> None:
        """Empty, to be received into, or with a copy of ``data``."""
        self._memory = (ctypes.c_uint64 * 8)()
        #: For functions of ZeroMQ; a reference to it keeps the message as well.
        self.pointer = _pointer(ctypes.addressof(self._memory))
        if data is None:
            _init(self.pointer)
        else:
            view = memoryview(data)
            if _init_size(self.pointer, view.nbytes):
                _init(self.pointer)
                raise MemoryError(f"no memory for a message of {view.nbytes} bytes")
            self.buffer[:] = view

    @property
    def buffer(self) -> memoryview:
        """Its content, where ZeroMQ keeps it."""
        memory: Any = (ctypes.c_ubyte * _length(self.pointer)).from_address(_data(self.pointer))
        memory.message = self  # which ends with the last view
        return memoryview(memory).cast("B")

    @property
    def bytes(self) -> bytes:
        """A copy of its content."""
        return ctypes.string_at(_data(self.pointer), _length(self.pointer))

    def descriptor(self) -> int:
        """That of the socket it came from; -1 if that is not known."""
        return _get(self.pointer, zmq.SRCFD)  # type: ignore[no-any-return]

    def __del__(self) -> None:
        _close(self.pointer)
