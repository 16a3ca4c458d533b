"""Pure state machines: events in, effects out. No socket, thread, clock or randomness of their own."""
