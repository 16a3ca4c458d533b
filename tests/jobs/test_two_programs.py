"""Two programs on one node: each has its own workers, path, directory, output and failures."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.nodes import Node, line, tell, write_module

SPEAKS = """
@ray.remote
def speak(word):
    print(f"said by a task: {word}")
    return os.getpid()

@ray.remote
def fail(word):
    raise ValueError(word)

word = told()
pids = sorted(set(ray.get([speak.remote(word) for _ in range(20)])))
try:
    ray.get(fail.remote(word))
except ValueError:
    pass
print([row["message"].split(":")[1].split(" in ")[0].strip() for row in ray.error_info()])
print(pids)
print(ray.get_runtime_context().job_id)
"""


def test_no_program_hears_another_one(started: Node, running) -> None:
    programs = {word: running(SPEAKS) for word in ("spring", "autumn")}
    for word, program in programs.items():
        tell(program, word)
    said, pids, jobs = {}, {}, set()
    for word, program in programs.items():
        out, err = program.communicate(timeout=50)
        assert program.returncode == 0, err
        lines = out.splitlines()
        said[word] = [text for text in lines if "said by a task" in text]
        failures, own, job = (text for text in lines if text not in said[word])
        assert failures == f"['{word}']"
        pids[word] = own
        jobs.add(job)
        other = next(each for each in programs if each != word)
        assert other not in out + err
    for word, texts in said.items():
        assert len(texts) == 20
        assert all(word in text for text in texts)
    assert pids["spring"] != pids["autumn"]
    assert len(jobs) == 2


def test_failures_of_another_program(started: Node) -> None:
    """They can be asked for by the number of the job, also after its end."""
    said, _ = started.run(
        """
        @ray.remote
        def fail():
            raise ValueError("spring")
        ray.wait([fail.remote()])
        while not ray.error_info():
            time.sleep(0.01)
        print(ray.get_runtime_context().job_id)
        """
    )
    lines, _ = started.run(
        f"""
        @ray.remote
        def ask(job):
            return [row["function"] for row in ray.error_info(job)]
        for job in (None, {said[0]!r}, "00ffffff"):
            print([row["function"] for row in ray.error_info(job_id=job)], ray.get(ask.remote(job)))
        """
    )
    assert lines == ["[] []", "['fail'] ['fail']", "[] []"]


def test_each_has_its_modules_and_its_directory(started: Node, tmp_path: Path) -> None:
    """A worker of one program is never used for another, however short their lives are."""
    program = """
    sys.path.insert(0, os.getcwd())
    import mine  # not known when workers were told where to look: they ask

    @ray.remote
    def here():
        import mine
        return mine.WORD, os.getcwd(), sorted(os.listdir("."))

    print(ray.get(here.remote()))
    """
    for word in ("spring", "autumn", "winter"):
        folder = tmp_path / word
        folder.mkdir()
        write_module(folder, "mine", f"WORD = {word!r}")
        (said,), _ = started.run(program, cwd=folder)
        assert said.startswith(f"('{word}', '{folder}', ['__pycache__', 'mine.py']") or said == str(
            (word, str(folder), ["mine.py"])
        )


def test_a_directory_that_is_removed_meanwhile(started: Node, running, tmp_path: Path) -> None:
    """Workers that start later are there all the same, as children of the program itself would be."""
    folder = tmp_path / "short lived"
    folder.mkdir()
    program = running(
        """
        @ray.remote
        def where():
            return os.path.exists("."), os.readlink("/proc/self/cwd")
        print("ready", flush=True)
        told()
        print(ray.get(where.remote()), flush=True)
        """,
        cwd=folder,
    )
    assert line(program) == "ready"
    folder.rmdir()
    tell(program)
    assert line(program) == str((True, f"{folder} (deleted)"))


def test_files_of_tasks_have_the_rights_that_the_program_gives(started: Node, tmp_path: Path) -> None:
    started.run(
        """
        @ray.remote
        def make(path):
            open(path, "w").close()
        ray.get(make.remote("made"))
        """,
        cwd=tmp_path,
        umask=0o027,
    )
    assert (tmp_path / "made").stat().st_mode & 0o777 == 0o640


def test_namespaces_are_of_a_job(started: Node) -> None:
    """Names are looked for where the program says; by default all are in one."""
    program = """
    ray.shutdown()
    ray.init(address={address!r}, namespace="garden")

    @ray.remote
    def where():
        return ray.get_runtime_context().namespace
    print(ray.get(where.remote()), ray.get_runtime_context().namespace)
    """
    (said,), _ = started.run(program.replace("{address!r}", repr(started.address)))
    assert said == "garden garden"


def test_many_programs_come_and_go(started: Node) -> None:
    program = """
    @ray.remote
    def double(number):
        return 2 * number
    print(sum(ray.get([double.remote(number) for number in range(50)])))
    """
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: started.run(program)[0], range(12)))
    assert results == [["2450"]] * 12
    assert started.is_free()


def test_a_program_that_floods_leaves_room_for_another(started: Node, running) -> None:
    flood = running(
        """
        @ray.remote
        def work():
            time.sleep(0.05)
        refs = [work.remote() for _ in range(2000)]
        ray.get(refs[4])
        print("busy", flush=True)
        told()
        """
    )
    assert line(flood) == "busy"
    (said,), _ = started.run(
        """
        @ray.remote
        def one():
            return 1
        start = time.monotonic()
        print(sum(ray.get([one.remote() for _ in range(20)])), time.monotonic() - start)
        """
    )
    total, took_s = said.split()
    assert (int(total), float(took_s) < 20) == (20, True)


def test_another_program_finds_a_named_actor(started: Node, running) -> None:
    """Values and refs cross from job to job."""
    keeper = running(
        """
        @ray.remote
        class Box:
            def put(self, value):
                self.value = value
                return os.getpid()
            def get(self):
                return self.value
            def ref(self):
                return [ray.put(bytes(1_000_000))]
        box = Box.options(name="box").remote()
        print(ray.get(box.put.remote("old")), flush=True)
        told()
        print(ray.get(box.get.remote()), flush=True)
        told()
        """
    )
    pid = line(keeper)
    lines, _ = started.run(
        """
        box = ray.get_actor("box")
        print(ray.get(box.get.remote()), ray.get(box.put.remote("new")))
        (ref,) = ray.get(box.ref.remote())
        print(len(ray.get(ref)))
        """
    )
    assert lines == [f"old {pid}", "1000000"]
    tell(keeper)
    assert line(keeper) == "new"
