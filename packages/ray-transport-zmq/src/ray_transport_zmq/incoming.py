"""Taking units from a socket, part by part."""

from __future__ import annotations

import itertools
from typing import Any, cast

import zmq
from zmq.backend import Socket as _Base

_receive = cast("Any", _Base.recv)


class Incoming:
    """What arrives at a socket. Under the transport's lock, as all that uses the socket."""

    def __init__(self, socket: zmq.Socket[bytes]) -> None:
        self._how = ((socket, int(zmq.NOBLOCK), False),)
        #: Parts of the unit that is being received.
        self._unit: list[zmq.Frame] = []

    def take(self) -> list[zmq.Frame]:
        """The parts of the next unit; a call that interrupts this one goes on where it is.

        Raises:
            zmq.Again: there is nothing.
        """
        while True:
            unit = self._unit
            if unit and not unit[-1].more:
                rest: list[zmq.Frame] = []
                if self._unit is unit:
                    self._unit = rest
                    return unit
                continue
            part = itertools.starmap(_receive, self._how)
            if self._unit is unit and not (unit and not unit[-1].more):
                unit.extend(part)  # what is received is on record in the same step
