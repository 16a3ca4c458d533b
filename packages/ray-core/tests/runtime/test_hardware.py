"""Processors, memory and GPUs, on this machine and on made-up ones."""

import itertools
import os
import stat
import sys
import types

import psutil
import pytest

from ray.runtime.process import hardware

GIB = 1024**3


@pytest.fixture
def machine(tmp_path):
    """Write files of a made-up machine with 8 processors and 16 GiB; returns the function and its root."""

    def write(path, text):
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    write("sys/devices/system/cpu/online", "0-7\n")
    write("proc/meminfo", f"MemTotal:       {16 * GIB // 1024} kB\nMemFree: 1 kB\n")
    write("proc/self/status", "Name:\tx\nCpus_allowed:\tff\nCpus_allowed_list:\t0-7\n")
    write.root = str(tmp_path)
    return write


def version_1(write, cgroup="/", mounted="/"):
    write("proc/self/cgroup", f"9:name=systemd:/\n4:memory:{cgroup}\n3:cpuset:{cgroup}\n1:cpu,cpuacct:{cgroup}\n")
    write(
        "proc/self/mountinfo",
        "22 1 0:20 / /proc rw - proc proc rw\n"
        f"35 31 0:32 {mounted} /sys/fs/cgroup/memory rw,relatime shared:1 - cgroup cgroup rw,memory\n"
        f"33 31 0:30 {mounted} /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct\n"
        f"34 31 0:31 {mounted} /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset\n",
    )


def version_2(write, cgroup="/", mounted="/"):
    write("proc/self/cgroup", f"0::{cgroup}\n")
    write("proc/self/mountinfo", f"41 31 0:38 {mounted} /sys/fs/cgroup rw,relatime shared:2 - cgroup2 cgroup2 rw\n")


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="needs affinity masks")
def test_this_machine():
    seen = hardware.cpu_count()
    assert 1 <= seen <= min(psutil.cpu_count(), len(os.sched_getaffinity(0)))
    assert hardware._online("/") == psutil.cpu_count(), "without limits, the count is that of psutil"
    assert 0 < hardware.memory_limit_bytes() <= psutil.virtual_memory().total
    assert hardware.detect(environ={"CUDA_VISIBLE_DEVICES": "3"}).gpu_ids == ("3",)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="needs affinity masks")
def test_the_affinity_of_this_process():
    mask = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(mask)})
        assert hardware.cpu_count() == 1
    finally:
        os.sched_setaffinity(0, mask)


def test_no_limits(machine):
    assert hardware.cpu_count(machine.root) == 8
    assert hardware.memory_limit_bytes(machine.root) == 16 * GIB
    version_1(machine)
    machine("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")
    machine("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n")
    machine("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n")
    assert hardware.cpu_count(machine.root) == 8
    assert hardware.memory_limit_bytes(machine.root) == 16 * GIB
    version_2(machine)
    machine("sys/fs/cgroup/cpu.max", "max 100000\n")
    machine("sys/fs/cgroup/memory.max", "max\n")
    assert hardware.detect(machine.root, {}) == hardware.Hardware(8, 16 * GIB, ())


def test_affinity(machine):
    machine("proc/self/status", "Cpus_allowed_list:\t1-2,5\n")
    assert hardware.cpu_count(machine.root) == 3


@pytest.mark.parametrize(("quota", "cpus"), [(50_000, 1), (100_000, 1), (150_000, 2), (300_000, 3), (2_000_000, 8)])
def test_quota(machine, quota, cpus):
    version_2(machine, "/job")
    machine("sys/fs/cgroup/job/cpu.max", f"{quota} 100000\n")
    assert hardware.cpu_count(machine.root) == cpus
    version_1(machine, "/job")
    machine("sys/fs/cgroup/cpu/job/cpu.cfs_quota_us", f"{quota}\n")
    machine("sys/fs/cgroup/cpu/job/cpu.cfs_period_us", "100000\n")
    assert hardware.cpu_count(machine.root) == cpus


def test_cpuset(machine):
    version_2(machine, "/job")
    machine("sys/fs/cgroup/job/cpuset.cpus.effective", "0,4\n")
    assert hardware.cpu_count(machine.root) == 2
    version_1(machine, "/job")
    machine("sys/fs/cgroup/cpuset/job/cpuset.cpus", "0-3\n")
    assert hardware.cpu_count(machine.root) == 4


def test_limits_of_outer_groups_count(machine):
    version_2(machine, "/slice/job/step")
    machine("sys/fs/cgroup/slice/job/step/memory.max", "max\n")
    machine("sys/fs/cgroup/slice/job/memory.max", f"{4 * GIB}\n")
    machine("sys/fs/cgroup/slice/memory.max", f"{2 * GIB}\n")
    machine("sys/fs/cgroup/slice/cpu.max", "200000 100000\n")
    assert hardware.memory_limit_bytes(machine.root) == 2 * GIB
    assert hardware.cpu_count(machine.root) == 2


@pytest.mark.parametrize("mounted", ["/docker/abc", "/"])
def test_inside_a_container(machine, mounted):
    """The path is told from outside, while only the own group is mounted."""
    version_1(machine, "/docker/abc", mounted)
    inside = "" if mounted != "/" else "docker/abc/"
    machine(f"sys/fs/cgroup/memory/{inside}memory.limit_in_bytes", f"{GIB}\n")
    machine(f"sys/fs/cgroup/cpu/{inside}cpu.cfs_quota_us", "100000\n")
    machine(f"sys/fs/cgroup/cpu/{inside}cpu.cfs_period_us", "50000\n")
    assert hardware.memory_limit_bytes(machine.root) == GIB
    assert hardware.cpu_count(machine.root) == 2


def test_a_path_outside_of_the_mount(machine):
    version_2(machine, "/other", "/docker/abc")
    machine("sys/fs/cgroup/memory.max", f"{GIB}\n")
    assert hardware.memory_limit_bytes(machine.root) == GIB


def test_nonsense_is_no_limit(machine):
    version_2(machine)
    machine("sys/fs/cgroup/cpu.max", "a b c\n")
    machine("sys/fs/cgroup/memory.max", "0\n")
    machine("sys/fs/cgroup/cpuset.cpus.effective", "\n")
    assert hardware.cpu_count(machine.root) == 8
    assert hardware.memory_limit_bytes(machine.root) == 16 * GIB


def test_no_proc_at_all(tmp_path):
    assert hardware.cpu_count(str(tmp_path)) == os.cpu_count()
    assert hardware.memory_limit_bytes(str(tmp_path)) > 0


@pytest.mark.parametrize(
    ("value", "ids"),
    [
        ("", ()),
        ("0", ("0",)),
        ("2, 0", ("2", "0")),
        ("-1", ()),
        ("0,-1,1", ("0",)),
        ("NoDevFiles", ()),
        ("1,1", ("1",)),
        ("GPU-8932f937,MIG-GPU-1/0/0", ("GPU-8932f937", "MIG-GPU-1/0/0")),
    ],
)
def test_cuda_visible_devices_wins(machine, value, ids):
    machine("proc/driver/nvidia/gpus/0000:01:00.0/information", "")
    assert hardware.gpu_ids(machine.root, {"CUDA_VISIBLE_DEVICES": value}) == ids


def fake_nvml(monkeypatch, count):
    nvml = types.ModuleType("pynvml")
    nvml.nvmlInit = nvml.nvmlShutdown = lambda: None
    nvml.nvmlDeviceGetCount = count
    monkeypatch.setitem(sys.modules, "pynvml", nvml)


def fake_nvidia_smi(tmp_path, script):
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return {"PATH": str(program.parent)}


def test_without_a_driver_nobody_is_asked(machine, monkeypatch):
    fake_nvml(monkeypatch, lambda: pytest.fail("asked"))
    assert hardware.gpu_ids(machine.root, {}) == ()


def test_nvml_then_nvidia_smi_then_files(machine, monkeypatch, tmp_path):
    for number in range(4):
        machine(f"proc/driver/nvidia/gpus/0000:0{number}:00.0/information", "")
    environ = fake_nvidia_smi(tmp_path, "echo 'GPU 0: A (UUID: GPU-1)'; echo 'GPU 1: A (UUID: GPU-2)'; echo '  MIG 1g'")
    fake_nvml(monkeypatch, lambda: 3)
    assert hardware.gpu_ids(machine.root, environ) == ("0", "1", "2")

    def broken():
        raise RuntimeError("driver and library differ")

    fake_nvml(monkeypatch, broken)
    assert hardware.gpu_ids(machine.root, environ) == ("0", "1")
    assert hardware.gpu_ids(machine.root, {"PATH": "/nowhere"}) == ("0", "1", "2", "3")


def test_a_failing_nvidia_smi_is_no_answer(machine, monkeypatch, tmp_path):
    machine("proc/driver/nvidia/gpus/0000:01:00.0/information", "")
    monkeypatch.setitem(sys.modules, "pynvml", None)
    environ = fake_nvidia_smi(tmp_path, "exit 9")
    assert hardware.gpu_ids(machine.root, environ) == ("0",)


def test_a_nvidia_smi_that_never_answers(machine, monkeypatch, tmp_path):
    """Nor do its children hold anything up, or a clock of a program's tests that stands still."""
    machine("proc/driver/nvidia/gpus/0000:01:00.0/information", "")
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.setattr(hardware, "_NVIDIA_SMI_TIMEOUT_S", 0.1)
    end = tmp_path / "end"
    os.mkfifo(end)
    environ = fake_nvidia_smi(tmp_path, f"cat {end}")
    opened = os.open(end, os.O_RDWR)
    monkeypatch.setattr("subprocess._time", lambda: 1.0)
    assert hardware.gpu_ids(machine.root, environ) == ("0",)
    end.unlink()
    os.close(opened)


def test_a_clock_that_leaps_does_not_hide_gpus(machine, monkeypatch, tmp_path):
    machine("proc/driver/nvidia/gpus/0000:01:00.0/information", "")
    monkeypatch.setitem(sys.modules, "pynvml", None)
    years = itertools.count(0.0, 3e7)
    monkeypatch.setattr("subprocess._time", lambda: next(years))
    environ = fake_nvidia_smi(tmp_path, "echo 'GPU 0: A (UUID: GPU-1)'; echo 'GPU 1: A (UUID: GPU-2)'")
    assert hardware.gpu_ids(machine.root, environ) == ("0", "1")
