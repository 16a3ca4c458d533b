"""A message that another thread's look at the socket has let in is found, though the descriptor stays silent for it."""

from __future__ import annotations

import select
import threading

from ray_transport_zmq.transport import ZmqTransport


def test_it_is_found_though_the_poller_has_just_found_nothing(folders):
    folder = folders()
    server, client = ZmqTransport(folder), ZmqTransport(folder)
    out = client.connect(server.listen("server"))
    out.send([b"hello"])
    events = []
    while not events:
        events = server.poll(10.0)
    [(accepted, _)] = events
    while client.poll(0.1):
        pass
    (hub,) = client._hubs
    look, has_come = hub.has_messages, threading.Event()

    def look_too_early():
        found = look()
        if not found and not has_come.is_set():
            has_come.set()
            accepted.send([b"news"])
            assert select.select([hub.fds[0]], [], [], 10.0)[0]
            sender = threading.Thread(target=client._wake_for_messages)  # as after each send
            sender.start()
            sender.join()
        return found

    hub.has_messages = look_too_early
    out.send([b"touches the socket"])
    events = []
    for _ in range(10):
        events += client.poll(1.0)
        if events:
            break
    assert has_come.is_set()
    assert [[bytes(frame) for frame in frames] for _, frames in events] == [[b"news"]]
    for transport in (client, server):
        transport.close()
