"""Notes from the thread that takes messages to event loops: one wake-up for many, a few per turn, none lost."""

import asyncio
import gc
import threading
import time
import weakref

from ray.runtime.refs.awaiting import NOTES_PER_TURN, notes_of


class Note:
    def __init__(self, arrived):
        self.arrived = arrived


def test_many_notes_take_one_wake_up_and_several_turns():
    turns, wakes = [], []

    async def main():
        loop = asyncio.get_running_loop()
        notes, number, wake = notes_of(loop), 10 * NOTES_PER_TURN + 1, loop.call_soon_threadsafe
        assert notes_of(loop) is notes
        loop.call_soon_threadsafe = lambda *args, **kwargs: (wakes.append(args), wake(*args, **kwargs))

        def post():
            for _ in range(number):
                notes.post(Note(lambda: turns.append(turn)))

        poster = threading.Thread(target=post)
        poster.start()
        poster.join()  # the loop stands still meanwhile
        turn = 0
        while len(turns) < number:
            turn += 1
            await asyncio.sleep(0)

    asyncio.run(main())
    assert len(wakes) == 1
    assert max(turns.count(turn) for turn in set(turns)) == NOTES_PER_TURN
    assert len(set(turns)) == 11


def test_no_note_is_lost_between_threads():
    got = []

    async def main():
        notes = notes_of(asyncio.get_running_loop())

        def post(thread):
            for i in range(2000):
                notes.post(Note(lambda i=i: got.append((thread, i))))
                if i % 50 == 0:
                    time.sleep(0)

        posters = [threading.Thread(target=post, args=(number,)) for number in range(4)]
        for poster in posters:
            poster.start()
        end = time.monotonic() + 20
        while len(got) < 8000 and time.monotonic() < end:  # noqa: ASYNC110 - other threads post
            await asyncio.sleep(0.001)
        for poster in posters:
            poster.join()

    asyncio.run(main())
    assert sorted(got) == [(thread, i) for thread in range(4) for i in range(2000)]
    for thread in range(4):
        assert [i for number, i in got if number == thread] == [*range(2000)]


def test_notes_for_a_closed_loop_are_dropped():
    loop = asyncio.new_event_loop()
    notes = notes_of(loop)
    loop.close()
    for _ in range(3):
        notes.post(Note(lambda: 1 / 0))
    assert not notes._posted
    gone = weakref.ref(loop)
    del loop
    gc.collect()
    assert gone() is None
    notes.post(Note(lambda: 1 / 0))
    assert not notes._posted
