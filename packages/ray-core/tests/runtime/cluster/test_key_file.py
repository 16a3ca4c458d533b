"""A key file is read only if nobody else can have written or read it, and each fault of it has its sentence."""

from __future__ import annotations

import io
import json
import os
import sys
import threading

import pytest
from tests.key_files import SESSION, a_key

from ray.exceptions import KeyFileError
from ray.runtime.cluster.key_file import private_text, read_key_file
from ray.runtime.cluster.key_folder import KeyFolder, _has_locked, locked, remove_key_file, write_key_file


@pytest.fixture
def folder(tmp_path):
    found = KeyFolder({"RAY_HOME": str(tmp_path)})
    found.make()
    return found


@pytest.fixture
def path(folder):
    return folder.path_of("default")


def refusal(path):
    with pytest.raises(KeyFileError) as caught:
        read_key_file(path)
    assert str(path) in str(caught.value)
    return caught.value.reason


def test_what_is_written_is_read(path):
    key = a_key(certificate="PEM")
    write_key_file(path, key)
    assert read_key_file(path) == key
    assert os.stat(path).st_mode & 0o777 == 0o600
    assert os.listdir(os.path.dirname(path)) == ["default.json"]


def test_no_secret_is_shown():
    key = a_key()
    for secret in (key.password, key.hmac_key, key.curve.server_secret, key.curve.client_secret):
        assert secret not in repr(key)
        assert secret not in repr([key.curve])


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o610])
def test_a_file_that_others_can_use(path, mode):
    write_key_file(path, a_key())
    os.chmod(path, mode)
    reason = refusal(path)
    assert f"its mode is {mode:04o}" in reason
    assert f"should be 0600: chmod 600 {path}" in reason


def test_a_symbolic_link(path, tmp_path):
    write_key_file(str(tmp_path / "real.json"), a_key())
    os.symlink(tmp_path / "real.json", path)
    assert refusal(path) == "it is a symbolic link"


def test_what_is_no_file(path):
    os.mkfifo(path, 0o600)
    assert refusal(path) == "it is no file"
    os.unlink(path)
    os.mkdir(path, 0o600)
    assert refusal(path) in ("it is no file", "Is a directory")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_file_of_another_user(path):
    write_key_file(path, a_key())
    os.chown(path, 4321, -1)
    assert "it belongs to user 4321, and you are user 0: make a copy of your own" in refusal(path)


def test_every_truncation_is_refused(path):
    whole = a_key().to_json()
    for length in range(0, len(whole) - 2, 7):
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(whole[:length])
        assert refusal(path) == "it is empty" if not length else "it is damaged, or cut short (" in refusal(path)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"version": 2}, "it is of version 2, and this release reads 1"),
        ({"version": "x"}, "it is of version"),
        ({"name": "Not a name"}, "is no name of a cluster"),
        ({"name": "../up"}, "is no name of a cluster"),
        ({"port": 0}, "damaged"),
        ({"port": 70000}, "damaged"),
        ({"hmac_key": "no hex"}, "damaged"),
        ({"curve": None}, "damaged"),
        ({"control": []}, "names no control server"),
        ({"control": ["http://x"]}, "names no control server"),
    ],
)
def test_a_damaged_file(path, changes, text):
    facts = json.loads(a_key().to_json()) | changes
    with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
        json.dump(facts, file)
    assert text in refusal(path)


def test_a_field_of_a_later_release_does_no_harm(path):
    key = a_key()
    with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
        json.dump(json.loads(key.to_json()) | {"later": 1}, file)
    assert read_key_file(path) == key


def test_a_huge_file(path):
    with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
        file.write(" " * (1 << 19))
    assert refusal(path) == "it is too large for one"


def test_standard_input(monkeypatch):
    key = a_key()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(key.to_json())))
    assert read_key_file("-") == key
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    with pytest.raises(KeyFileError, match="standard input cannot be used: it is empty"):
        read_key_file("-")


def test_a_file_with_a_password(tmp_path):
    path = tmp_path / "url"
    path.write_text("redis://:x@h")
    os.chmod(path, 0o644)
    with pytest.raises(ValueError, match="mode is 0644"):
        private_text(str(path))
    os.chmod(path, 0o600)
    assert private_text(str(path)) == "redis://:x@h"


# --- the folder ---


def test_the_folder_is_of_this_user_alone(tmp_path):
    folder = KeyFolder({"RAY_HOME": str(tmp_path / "deep" / "home")})
    assert folder.names() == []
    folder.make()
    assert os.stat(folder.path).st_mode & 0o777 == 0o700
    os.chmod(folder.path, 0o755)
    folder.make()
    assert os.stat(folder.path).st_mode & 0o777 == 0o700


def test_by_default_it_is_in_the_home_directory(monkeypatch):
    monkeypatch.setenv("HOME", "/somewhere")
    assert KeyFolder({}).path == "/somewhere/.ray/clusters"
    assert KeyFolder({"RAY_HOME": "~/other"}).path == "/somewhere/other/clusters"


def test_a_folder_that_is_a_link(tmp_path):
    os.mkdir(tmp_path / "real")
    os.symlink(tmp_path / "real", tmp_path / "clusters")
    with pytest.raises(KeyFileError, match="symbolic link"):
        KeyFolder({"RAY_HOME": str(tmp_path)}).make()


@pytest.mark.parametrize("mode", [0o777, 0o720, 0o702])
def test_a_folder_that_others_write_to(folder, mode):
    write_key_file(folder.path_of("default"), a_key())
    os.chmod(folder.path, mode)
    with pytest.raises(KeyFileError, match=f"chmod 700 {folder.path}"):
        folder.read("default")


def test_a_file_under_the_name_of_another(folder):
    write_key_file(folder.path_of("other"), a_key())
    with pytest.raises(KeyFileError, match="that of cluster 'default', and bears the name of 'other'"):
        folder.read("other")


def test_only_names_of_clusters_count(folder):
    for name in ("a.json", "b.json", "B.json", ".c.json", "a.json.new", "note"):
        (open(os.path.join(folder.path, name), "w")).close()
    assert folder.names() == ["a", "b"]


def test_only_its_own_session_removes_it(path):
    write_key_file(path, a_key())
    assert not remove_key_file(path, "another")
    assert os.path.exists(path)
    assert remove_key_file(path, SESSION)
    assert not remove_key_file(path, SESSION)
    assert os.listdir(os.path.dirname(path)) == []


def test_one_that_others_can_read_by_now_is_removed_as_well(path):
    write_key_file(path, a_key())
    os.chmod(path, 0o644)
    assert remove_key_file(path, SESSION)
    assert not os.path.exists(path)


def test_a_lock_whose_file_was_removed_meanwhile_is_none(path):
    """It was opened while another program held it, which has removed it since."""
    lock = path + ".lock"
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        assert _has_locked(descriptor, lock)
        os.unlink(lock)
        assert not _has_locked(descriptor, lock)
        open(lock, "w").close()
        assert not _has_locked(descriptor, lock)
    finally:
        os.close(descriptor)


def test_the_lock_is_held_by_one(path):
    """And its file is gone in the end, no matter which one was last."""
    inside, most, failed = [0], [0], []

    def work():
        try:
            for _ in range(20):
                with locked(path):
                    inside[0] += 1
                    most[0] = max(most[0], inside[0])
                    write_key_file(path, a_key())
                    inside[0] -= 1
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert most == [1]
    assert os.listdir(os.path.dirname(path)) == ["default.json"]
