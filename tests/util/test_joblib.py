"""``ray.util.joblib``: what the tests of joblib ask of a backend with processes, by the same names."""

import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import BrokenExecutor

import numpy
import pytest
from tests.signs import touch, wait_for

import ray
from ray.exceptions import UnpicklableError
from ray.testing import inside
from ray.util.joblib import register_ray

joblib = pytest.importorskip("joblib")
delayed, Parallel = joblib.delayed, joblib.Parallel


def square(x):
    return x * x


def power(x, exponent=2):
    return x**exponent


def fail_at_3(x):
    if x == 3:
        raise KeyError(x)
    return x


def stay(_):
    time.sleep(600)


def die(_):
    os.kill(os.getpid(), signal.SIGKILL)


def nested(x, level=1):
    inner = nested if level else square
    args = (level - 1,) if level else ()
    return sum(Parallel(n_jobs=2)(delayed(inner)(i, *args) for i in range(x)))


def backend_name(_=None):
    backend, _ = joblib.parallel.get_active_backend()
    return type(backend).__name__, backend.nesting_level


class Holder:
    def __init__(self, array):
        self.array = array


def address(value, _=None):
    array = value.array if isinstance(value, Holder) else value
    return array.sum(), array.flags.writeable


@pytest.fixture(autouse=True)
def backend():
    register_ray()
    with joblib.parallel_config("ray", n_jobs=2):
        yield


@pytest.fixture
def session(start):
    return start(num_cpus=2)


@pytest.mark.usefixtures("session")
class TestInASession:
    def test_simple_parallel(self):
        assert Parallel()(delayed(square)(i) for i in range(300)) == [i * i for i in range(300)]
        assert Parallel(n_jobs=-1, batch_size=7)(delayed(square)(i) for i in range(30)) == [i * i for i in range(30)]
        assert Parallel(n_jobs=1)(delayed(square)(i) for i in range(3)) == [0, 1, 4]
        assert Parallel(n_jobs=8)(delayed(square)(i) for i in range(30)) == [i * i for i in range(30)]

    def test_parallel_kwargs(self):
        assert Parallel()(delayed(power)(i, exponent=3) for i in range(5)) == [0, 1, 8, 27, 64]

    def test_lambda_expression(self):
        assert Parallel()(delayed(lambda x: x + 1)(i) for i in range(10)) == list(range(1, 11))

    def test_effective_n_jobs(self):
        assert joblib.effective_n_jobs(-1) == 2
        assert joblib.effective_n_jobs(-2) == 1
        assert joblib.effective_n_jobs(5) == 5
        with pytest.raises(ValueError, match="n_jobs == 0"):
            Parallel(n_jobs=0)(delayed(square)(i) for i in range(3))

    def test_parallel_as_context_manager(self):
        with Parallel() as parallel:
            for _ in range(3):
                assert parallel(delayed(square)(i) for i in range(10)) == [i * i for i in range(10)]
            with pytest.raises(KeyError):
                parallel(delayed(fail_at_3)(i) for i in range(10))
            assert parallel(delayed(square)(i) for i in range(3)) == [0, 1, 4]

    def test_error_capture(self):
        with pytest.raises(KeyError) as caught:
            Parallel()(delayed(fail_at_3)(i) for i in range(1000))
        assert "raise KeyError(x)" in str(caught.value)

    def test_error_in_task_iterator(self):
        def items():
            for i in range(20):
                if i == 10:
                    raise ValueError("iterator")
                yield delayed(square)(i)

        for pre_dispatch in ("all", 2, "2*n_jobs"):
            with pytest.raises(ValueError, match="iterator"):
                Parallel(pre_dispatch=pre_dispatch)(items())

    def test_unpicklable(self):
        lock = threading.Lock()
        with pytest.raises(UnpicklableError, match="lock"):
            Parallel()(delayed(square)(lock) for _ in range(3))

    def test_a_worker_that_dies(self):
        with pytest.raises(BrokenExecutor, match="SIGKILL"):
            Parallel()(delayed(die)(i) for i in range(3))
        assert Parallel()(delayed(square)(i) for i in range(3)) == [0, 1, 4]

    def test_parallel_timeout_success(self):
        assert len(Parallel(timeout=30)(delayed(square)(i) for i in range(10))) == 10

    def test_parallel_timeout_fail(self):
        began = time.monotonic()
        with pytest.raises(joblib.parallel.TimeoutError):
            Parallel(timeout=0.2)(delayed(stay)(i) for i in range(3))
        for return_as in ("generator", "generator_unordered"):
            with pytest.raises(joblib.parallel.TimeoutError):
                list(Parallel(timeout=0.2, return_as=return_as)(delayed(stay)(i) for i in range(3)))
        assert time.monotonic() - began < 20

    def test_abort_backend(self):
        began = time.monotonic()
        with pytest.raises(TypeError):
            Parallel()(delayed(time.sleep)(i) for i in ["wrong", *[600] * 10])
        assert time.monotonic() - began < 20

    def test_return_as_generator(self, tmp_path):
        results = Parallel(return_as="generator")(
            delayed(wait_for)(path) for path in [tmp_path, *[tmp_path / "go"] * 3]
        )
        assert next(results) == tmp_path.name
        touch(tmp_path / "go")
        assert list(results) == ["go"] * 3

    def test_parallel_unordered_generator_returns_fastest_first(self, tmp_path):
        results = Parallel(return_as="generator_unordered", batch_size=1)(
            delayed(wait_for)(path) for path in [tmp_path / "go", tmp_path]
        )
        assert next(results) == tmp_path.name
        touch(tmp_path / "go")
        assert list(results) == ["go"]

    @pytest.mark.filterwarnings("ignore:.*tasks .*:UserWarning")
    def test_a_generator_that_is_dropped_ends_its_calls(self, tmp_path):
        results = Parallel(return_as="generator", batch_size=1)(
            delayed(wait_for)(path) for path in [tmp_path, *[tmp_path / "never"] * 10]
        )
        assert next(results) == tmp_path.name
        results.close()
        assert Parallel()(delayed(square)(i) for i in range(3)) == [0, 1, 4]

    def test_parallel_with_exhausted_iterator(self):
        assert Parallel()(iter([])) == []

    def test_dispatch_race_condition(self):
        for n_tasks, n_jobs, pre_dispatch, batch_size in (
            (0, 2, "all", "auto"),
            (10, 2, "all", 1),
            (10, 4, "n_jobs", "auto"),
            (23, 3, 4, 2),
        ):
            parallel = Parallel(n_jobs=n_jobs, pre_dispatch=pre_dispatch, batch_size=batch_size)
            assert parallel(delayed(square)(i) for i in range(n_tasks)) == [i * i for i in range(n_tasks)]

    def test_background_thread_parallelism(self):
        results = []

        def run():
            with joblib.parallel_config("ray", n_jobs=2):
                results.append(Parallel()(delayed(square)(i) for i in range(4)))

        thread = threading.Thread(target=run)
        thread.start()
        thread.join(30)
        assert results == [[0, 1, 4, 9]]

    def test_as_many_run_at_a_time_as_there_are_jobs(self, tmp_path):
        def together(i):
            touch(tmp_path / str(i))
            return [wait_for(tmp_path / str(j)) for j in range(3)]

        found = Parallel(n_jobs=3, batch_size=1, timeout=20)(delayed(together)(i) for i in range(3))
        assert found == [["0", "1", "2"]] * 3

    # --- nested ---

    def test_nested_loop(self):
        assert Parallel()(delayed(nested)(i) for i in range(4)) == [nested_sum(i) for i in range(4)]

    def test_backend_nesting_level(self):
        assert Parallel()(delayed(backend_name)(i) for i in range(2)) == [("RayBackend", 1)] * 2

    def test_nested_exception(self):
        def outer():
            return Parallel(n_jobs=2)(delayed(fail_at_3)(i) for i in range(5))

        with pytest.raises(KeyError):
            Parallel()(delayed(outer)() for _ in range(2))

    # --- arrays ---

    def test_arrays_are_put_once(self):
        array = numpy.ones(1 << 20)
        before = inside.stored_bytes()
        results = Parallel(return_as="generator", batch_size=1)(
            delayed(address)(value, i) for i, value in enumerate([array, Holder(array)] * 10)
        )
        assert next(results) == (1 << 20, False)
        assert array.nbytes <= inside.stored_bytes() - before < 1.5 * array.nbytes
        assert set(results) == {(1 << 20, False)}
        del results
        end = time.monotonic() + 10
        while inside.stored_bytes() > before and time.monotonic() < end:
            gc.collect()
            time.sleep(0.01)
        assert inside.stored_bytes() == before

    def test_arrays_that_change_between_calls(self):
        array = numpy.ones(1 << 18)
        with Parallel() as parallel:
            assert parallel(delayed(address)(array) for _ in range(2)) == [(1 << 18, False)] * 2
            array *= 2
            assert parallel(delayed(address)(array) for _ in range(2)) == [(1 << 19, False)] * 2

    def test_max_nbytes(self):
        array = numpy.ones(1 << 18)
        assert Parallel(max_nbytes=None)(delayed(address)(array) for _ in range(2)) == [(1 << 18, True)] * 2
        assert Parallel(max_nbytes="1K")(delayed(address)(array[:256]) for _ in range(2)) == [(256, False)] * 2

    def test_auto_memmap_on_arrays_from_generator(self):
        found = Parallel(batch_size=1)(delayed(address)(numpy.full(1 << 17, i)) for i in range(20))
        assert found == [(i << 17, False) for i in range(20)]

    def test_references(self):
        ref = ray.put(5)
        assert Parallel()(delayed(ray.get)(ref) for _ in range(3)) == [5, 5, 5]

    # --- options ---

    def test_parameterized_backend_context_manager(self):
        def cpus(_):
            return ray.get_runtime_context().resources["CPU"]

        with joblib.parallel_config("ray", n_jobs=2, num_cpus=0.5):
            assert Parallel()(delayed(cpus)(i) for i in range(2)) == [0.5, 0.5]
        with joblib.parallel_config("ray", n_jobs=2, inner_max_num_threads=2):
            assert Parallel()(delayed(cpus)(i) for i in range(2)) == [2, 2]
        with (
            joblib.parallel_config("ray", n_jobs=2, num_cpu=1),
            pytest.raises(ValueError, match="Did you mean 'num_cpus'"),
        ):
            Parallel()(delayed(square)(i) for i in range(2))


def nested_sum(x, level=1):
    return sum(nested_sum(i, level - 1) if level else square(i) for i in range(x))


def test_without_a_session():
    assert Parallel(n_jobs=2)(delayed(square)(i) for i in range(5)) == [0, 1, 4, 9, 16]
    assert not ray.is_initialized()
    with Parallel(n_jobs=2) as parallel:
        assert parallel(delayed(square)(i) for i in range(5)) == [0, 1, 4, 9, 16]
        assert ray.is_initialized()
    assert not ray.is_initialized()


def test_joblib_is_not_imported_before_it_is_asked_for():
    code = "import sys, ray.util, ray.util.joblib; assert 'joblib' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=50)


def test_functions_of_a_script(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent("""
        import joblib
        from ray.util.joblib import register_ray

        class Model:
            def __init__(self, factor):
                self.factor = factor

            def predict(self, x):
                return self.factor * x

        register_ray()
        with joblib.parallel_config("ray", n_jobs=2):
            print(joblib.Parallel()(joblib.delayed(Model(3).predict)(i) for i in range(4)))
        """)
    )
    ran = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=50)
    assert ran.stdout == "[0, 3, 6, 9]\n", ran.stderr


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_grid_search_of_scikit_learn(start):
    pytest.importorskip("sklearn")
    from sklearn.datasets import load_digits
    from sklearn.model_selection import GridSearchCV
    from sklearn.svm import SVC

    start(num_cpus=2)
    digits, targets = load_digits(return_X_y=True)
    search = GridSearchCV(SVC(), {"C": [1, 10], "gamma": [0.001, 0.0001]}, cv=3)
    search.fit(digits, targets)
    assert search.best_score_ > 0.97
    with joblib.parallel_config("sequential"):
        alone = GridSearchCV(SVC(), {"C": [1, 10], "gamma": [0.001, 0.0001]}, cv=3).fit(digits, targets)
    assert (search.cv_results_["mean_test_score"] == alone.cv_results_["mean_test_score"]).all()
