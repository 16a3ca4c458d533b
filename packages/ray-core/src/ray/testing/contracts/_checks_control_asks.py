"""How every control store must answer, also where it is late or closed. Checks raise ``ContractViolationError``."""

from __future__ import annotations

import contextlib
import select
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

from ray.abc.blocking_control import BlockingControl
from ray.abc.control import ControlStore
from ray.abc.control_operations import Append, Get, Incr, Items, Keys, Put
from ray.clock import monotonic, sleep
from ray.exceptions import ControlKindError, ControlStoreError, ControlTimeoutError, ControlUnavailableError
from ray.testing.contracts import _expect
from ray.testing.contracts._asking import Check, ControlSubject, answer_to, answers_to, expect_answer
from ray.testing.contracts._expect import eventually, expect, expect_equal, expect_raises, in_time, on_threads

_SOON_S = 0.05


def _is_readable(control: ControlStore, timeout_s: float = 0.0) -> bool:
    poll = select.poll()
    poll.register(control.fileno(), select.POLLIN)
    return bool(poll.poll(timeout_s * 1000))


def answers_come_in_deliver(subject: ControlSubject) -> None:
    control = subject.control
    came: list[tuple[str, int]] = []
    where = "ask"
    for number in range(10):
        control.ask(Put("a", b"%d" % number), lambda _: came.append((where, threading.get_ident())))
    where = "between"
    sleep(_SOON_S)
    where = "deliver"

    def all_answered() -> bool:
        nonlocal where
        where = "deliver"
        control.deliver()
        where = "between"
        sleep(0.001)
        return len(came) >= 10

    eventually(all_answered, "what is asked is answered")
    wanted = [("deliver", threading.get_ident())] * 10
    expect_equal(came, wanted, "answers come in deliver, on the thread that calls it, each once")


def the_descriptor_tells_of_answers(subject: ControlSubject) -> None:
    control = subject.control
    fd = control.fileno()
    answer_to(control, Put("a", b"1"))

    def quiet() -> bool:
        control.deliver()
        return not _is_readable(control)

    for number in range(3):
        # It may have been made readable for an answer that an earlier deliver had found already.
        eventually(quiet, "the descriptor is not readable when there is nothing to deliver")
        answers: list[Any] = []
        for _ in range(5):
            control.ask(Get("a"), answers.append)

        def all_answered(answers: list[Any] = answers) -> bool:
            if _is_readable(control, 0.01):
                control.deliver()
            return len(answers) == 5

        eventually(all_answered, f"the descriptor is readable while there is something to deliver (round {number})")
    expect_equal(control.fileno(), fd, "the descriptor is always the same")


def hints_come_in_deliver(subject: ControlSubject) -> None:
    control, other = subject.control, subject.connect()
    came: list[tuple[str, int]] = []
    where = "between"
    end = control.subscribe("a", lambda key: came.append((where, threading.get_ident())))

    def hinted() -> bool:
        nonlocal where
        answer_to(other, Put("a", b"x"))
        if _is_readable(control, 0.01):
            where = "deliver"
            control.deliver()
            where = "between"
        return bool(came)

    eventually(hinted, "the descriptor tells of hints")
    end()
    other.close()
    expect_equal(set(came), {("deliver", threading.get_ident())}, "hints come in deliver, on the thread that calls it")


def asks_keep_their_order(subject: ControlSubject) -> None:
    """What one thread asks is done and answered in its order."""
    control = subject.control
    order: list[Any] = []
    for number in range(100):
        control.ask(Append("list", b"%d" % number), lambda answer: order.append(("append", answer)))
        control.ask(Incr("count"), lambda answer: order.append(("incr", answer)))
        control.ask(Append("count", b"x"), lambda answer: order.append(("wrong", type(answer))))

    def all_answered() -> bool:
        control.deliver()
        return len(order) == 300

    eventually(all_answered, "what is asked is answered")
    kinds = (("append", int), ("incr", int), ("wrong", None))
    wanted = [(kind, ControlKindError if of is None else index) for index in range(1, 101) for kind, of in kinds]
    expect_equal(order, wanted, "what one thread asks is answered in its order, errors too")
    items = answer_to(control, Items("list"))
    expect_equal(items, [b"%d" % number for number in range(100)], "what one thread asks is done in its order")


def many_may_ask_at_once(subject: ControlSubject) -> None:
    control = subject.control
    answers: dict[int, list[Any]] = {index: [] for index in range(8)}
    asking = threading.Event()

    def ask(index: int) -> None:
        for _ in range(100):
            control.ask(Incr("count"), answers[index].append)

    def deliver_meanwhile() -> None:
        while not asking.is_set():
            control.deliver()
            sleep(0.0005)

    def ask_all() -> None:
        try:
            on_threads(8, ask, "any thread may ask")
        finally:
            asking.set()

    threading.Thread(target=ask_all, daemon=True).start()
    in_time(deliver_meanwhile, "threads may ask while another delivers")

    def all_answered() -> bool:
        control.deliver()
        return sum(map(len, answers.values())) >= 800

    eventually(all_answered, "what is asked is answered")
    sleep(_SOON_S)
    control.deliver()
    counts = [count for counted in answers.values() for count in counted]
    expect_equal(sorted(counts), list(range(1, 801)), "each ask is done once and answered once")
    expect(all(counted == sorted(counted) for counted in answers.values()), "each thread is answered in its order")


def what_is_called_may_fail(subject: ControlSubject) -> None:
    control = subject.control
    answers: list[Any] = []

    def fails(answer: object) -> None:
        raise RuntimeError(f"answered {answer!r}, as the check wants")

    for number in range(3):
        control.ask(Put("a", b"%d" % number), fails)
        control.ask(Get("a"), answers.append)

    def all_answered() -> bool:
        try:
            control.deliver()
        except Exception as error:
            expect(False, f"deliver does not raise what it calls raises: {error!r}")
        return len(answers) == 3

    eventually(all_answered, "one that fails does not keep the others from their answers")
    expect_equal(answers, [b"0", b"1", b"2"], "one that fails changes nothing of what was asked")


def an_answer_may_ask(subject: ControlSubject) -> None:
    """And ``deliver`` returns even so: a loop has other things to do."""
    control = subject.control
    answers: list[Any] = []
    going = True

    def again(answer: object) -> None:
        answers.append(answer)
        if going:
            control.ask(Incr("count"), again)

    control.ask(Incr("count"), again)

    def some_answered() -> bool:
        in_time(control.deliver, "deliver returns, though each answer asks again")
        return len(answers) >= 20

    try:
        eventually(some_answered, "an answer may ask")
        expect_equal(answers[:20], list(range(1, 21)), "an answer may ask")
        _wait_readable(control, "what was asked in deliver makes the descriptor readable again")
    finally:
        going = False


def _wait_readable(control: ControlStore, rule: str) -> None:
    expect(_is_readable(control, _expect.DEADLINE_S), rule)


def close_answers_what_is_unanswered(subject: ControlSubject) -> None:
    handle = subject.connect()
    answers: list[Any] = []
    for number in range(20):
        handle.ask(Append("list", b"%d" % number), answers.append)
    in_time(handle.close, "close does not wait for long")
    expect_equal(len(answers), 20, "when close returns everything is answered")
    for answer in answers:
        expect(
            isinstance(answer, (int, ControlUnavailableError)),
            f"close answers what is unanswered with ControlUnavailableError, not {answer!r}",
        )
    done = len(answer_to(subject.control, Items("list")))
    told = sum(isinstance(answer, int) for answer in answers)
    expect(told <= done, f"what is answered is done: {told} answers, {done} items")
    sleep(_SOON_S)
    handle.deliver()
    expect_equal(len(answers), 20, "after close nothing is answered")


def a_closed_handle_refuses(subject: ControlSubject) -> None:
    handle = subject.connect()
    answers: list[Any] = []
    seen: list[str] = []
    handle.subscribe("a", seen.append)
    handle.close()
    answer_to(subject.control, Put("a", b"1"))
    rule = "a closed handle raises ControlUnavailableError where it is asked"
    with expect_raises(ControlUnavailableError, rule):
        handle.ask(Get("a"), answers.append)
    with expect_raises(ControlUnavailableError, "a closed handle raises ControlUnavailableError where one subscribes"):
        handle.subscribe("a", seen.append)
    try:
        handle.deliver()
        handle.close()
        handle.deliver()
    except Exception as error:
        expect(False, f"deliver and close of a closed handle do nothing: {error!r}")
    expect_equal((answers, seen), ([], []), "a closed handle calls nobody")


def an_answer_may_close(subject: ControlSubject) -> None:
    handle = subject.connect()
    answers: list[Any] = []

    def close(answer: object) -> None:
        answers.append(answer)
        handle.close()

    for _ in range(3):
        handle.ask(Keys(""), close)
    handle.ask(Keys(""), answers.append)

    def all_answered() -> bool:
        handle.deliver()
        return len(answers) >= 4

    eventually(all_answered, "an answer may close the handle, and the others are answered even so")
    sleep(_SOON_S)
    expect_equal(len(answers), 4, "each is answered once")


def one_may_wait(subject: ControlSubject) -> None:
    """As command lines do."""
    control = BlockingControl(subject.control)

    def wait() -> None:
        expect_equal(control.ask(Put("a", b"1")), True, "one may wait for an answer")
        expect_equal(control.ask(Get("a")), b"1", "one may wait for an answer")
        with expect_raises(ControlKindError, "an error is raised where one waits for the answer"):
            control.ask(Items("a"))

    in_time(wait, "a thread that waits for an answer goes on when it is there")


# --- with a store that says nothing -----------------------------------------------------------------------------------


@contextlib.contextmanager
def _silent(subject: ControlSubject) -> Iterator[tuple[ControlStore, AbstractContextManager[object]]]:
    """A handle of its own, and the silence around it."""
    assert subject.silence is not None
    handle = subject.connect()
    try:
        yield handle, subject.silence(handle)
    finally:
        handle.close()


def nobody_waits_for_a_silent_store(subject: ControlSubject) -> None:
    with _silent(subject) as (handle, silence):
        answers: list[Any] = []
        with silence:

            def ask() -> None:
                for _ in range(200):
                    handle.ask(Incr("count"), answers.append)
                    handle.deliver()
                handle.subscribe("a", lambda key: None)()

            in_time(ask, "ask, deliver and subscribe do not wait for a store that says nothing")
            sleep(_SOON_S)
            handle.deliver()
            expect_equal(answers, [], "a store that says nothing answers nothing")

        def all_answered() -> bool:
            handle.deliver()
            return len(answers) >= 200

        eventually(all_answered, "what was asked is done when the store speaks again")
        expect_equal(answers, list(range(1, 201)), "what was asked is done in its order, once")


def every_ask_has_an_end(subject: ControlSubject) -> None:
    with _silent(subject) as (handle, silence):
        late: list[Any] = []
        others: list[Any] = []
        with silence:
            start = monotonic()
            handle.ask(Incr("patient"), others.append, timeout_s=60.0)
            for _ in range(5):
                handle.ask(Incr("count"), late.append, timeout_s=0.1)

            def over() -> bool:
                if _is_readable(handle, 0.01):
                    handle.deliver()
                return len(late) >= 5

            eventually(over, "what has no answer in its time is answered with an error, and the descriptor tells")
            expect(monotonic() - start > 0.09, "an answer may take its time")
        for answer in late:
            expect(isinstance(answer, ControlTimeoutError), f"it is answered with ControlTimeoutError, not {answer!r}")
            expect_equal((answer.operation, answer.key), ("Incr", "count"), "an error says what was asked")

        def answered() -> bool:
            handle.deliver()
            return bool(others)

        eventually(answered, "a question with more time is answered later")
        expect_equal(others, [1], "a question with more time is answered later")
        sleep(_SOON_S)
        handle.deliver()
        expect_equal(len(late), 5, "an answer that comes too late is dropped")
        expect_answer(subject.control, Get("count"), None, "what has not begun in its time does not begin any more")
        expect_equal(answers_to(handle, [Incr("count")]), [1], "the handle goes on")


def close_does_not_wait_for_a_silent_store(subject: ControlSubject) -> None:
    with _silent(subject) as (handle, silence), silence:
        answers: list[Any] = []
        for _ in range(10):
            handle.ask(Incr("count"), answers.append, timeout_s=60.0)
        in_time(handle.close, "close does not wait for a store that says nothing")
        expect_equal(len(answers), 10, "when close returns everything is answered")
        rule = "close answers what is unanswered with ControlUnavailableError"
        expect_equal({type(answer) for answer in answers}, {ControlUnavailableError}, rule)


def who_waits_for_a_silent_store_is_told(subject: ControlSubject) -> None:
    with _silent(subject) as (handle, silence), silence:
        with expect_raises(ControlTimeoutError, "a wait for a store that says nothing ends with a ControlTimeoutError"):
            in_time(lambda: BlockingControl(handle).ask(Get("a"), timeout_s=0.1), "a wait has an end")
        try:
            handle.close()
        except ControlStoreError as error:
            expect(False, f"close does not raise: {error!r}")


REQUIRED: tuple[Check, ...] = (
    answers_come_in_deliver,
    the_descriptor_tells_of_answers,
    hints_come_in_deliver,
    asks_keep_their_order,
    many_may_ask_at_once,
    what_is_called_may_fail,
    an_answer_may_ask,
    close_answers_what_is_unanswered,
    a_closed_handle_refuses,
    an_answer_may_close,
    one_may_wait,
)
#: Of stores that can be silenced.
SILENT: tuple[Check, ...] = (
    nobody_waits_for_a_silent_store,
    every_ask_has_an_end,
    close_does_not_wait_for_a_silent_store,
    who_waits_for_a_silent_store_is_told,
)
