"""Compiled kernels on the disk: made once, whole, whoever else makes them and wherever the home is."""

import subprocess
import sys

import pytest

from helpers import environ
from stepsmith.cuda import _cache, _module, _nvrtc
from stepsmith.cuda._source import programs, source

KEY = ("text", "sm_90")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("STEPSMITH_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def make(calls, content=b"code"):
    def made():
        calls.append(content)
        return content

    return made


def test_a_file_is_made_once_for_each_key(folder):
    calls = []
    path = _cache.cached("adam-sm_90", KEY, ".cubin", make(calls))
    assert path.parent == folder
    assert path.read_bytes() == b"code"
    assert _cache.cached("adam-sm_90", KEY, ".cubin", make(calls)) == path
    assert len(calls) == 1
    assert _cache.cached("adam-sm_90", (*KEY, "--other"), ".cubin", make(calls)) != path
    assert len(calls) == 2


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("spoil", [lambda whole: whole[:-1], lambda _: b"", lambda whole: whole[:-1] + b"\0"])
def test_a_file_that_is_not_whole_is_made_anew(spoil):
    calls = []
    path = _cache.cached("x", KEY, ".cubin", make(calls))
    path.write_bytes(spoil(path.read_bytes()))
    assert _cache.cached("x", KEY, ".cubin", make(calls)).read_bytes() == b"code"
    assert len(calls) == 2


def test_a_home_that_cannot_be_written_gets_a_folder_of_the_process(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("STEPSMITH_CACHE_DIR", str(tmp_path / "file" / "cache"))
    path = _cache.cached("x", KEY, ".cubin", make([]))
    assert path.read_bytes() == b"code"
    assert tmp_path not in path.parents
    assert _cache.cached("x", KEY, ".cubin", make([])) == path


def test_no_piece_is_left_behind_when_writing_fails(folder, monkeypatch):
    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(_cache.os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        _cache.cached("x", KEY, ".cubin", make([]))
    assert list(folder.iterdir()) == []


MAKER = """
import sys, time
from stepsmith.cuda import _cache
def make():
    time.sleep(0.2)
    return bytes(range(256)) * 4000
for k in range(5):
    path = _cache.cached("x", (str(k),), ".cubin", make)
    assert path.read_bytes() == bytes(range(256)) * 4000
print(path)
"""


def test_processes_that_make_the_same_file_do_not_meet(folder):
    environment = environ({"STEPSMITH_CACHE_DIR": str(folder)})
    command = [sys.executable, "-W", "error", "-c", MAKER]
    running = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    printed = {process.communicate(timeout=60)[0] for process in running}
    assert [process.returncode for process in running] == [0] * 4
    assert len(printed) == 1
    assert not list(folder.glob("*.tmp"))


@pytest.mark.parametrize(
    ("variables", "ends"),
    [
        ({"STEPSMITH_CACHE_DIR": "/a/b"}, "/a/b"),
        ({"STEPSMITH_CACHE_DIR": "", "XDG_CACHE_HOME": "/c"}, "/c/stepsmith"),
        ({"STEPSMITH_CACHE_DIR": "", "XDG_CACHE_HOME": "", "HOME": "/h"}, "/h/.cache/stepsmith"),
    ],
)
@pytest.mark.skipif(sys.platform == "win32", reason="other names there")
def test_the_folder_follows_the_environment(monkeypatch, variables, ends):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert str(_cache.folder()) == ends


class _Device:
    """What `_module` asks of CuPy about a device."""

    def __init__(self, capability):
        self.compute_capability = capability


@pytest.mark.parametrize(
    ("capability", "wants"),
    [("90", ("sm_90", ".cubin")), ("120", ("sm_120", ".cubin")), ("999", ("compute_121", ".ptx"))],
)
def test_a_device_gets_its_own_code_and_one_of_the_future_what_its_driver_can_finish(
    gpu, monkeypatch, capability, wants
):
    monkeypatch.setattr(gpu.cuda, "Device", lambda: _Device(capability))
    architecture, suffix = _module._architecture(_nvrtc.compiler())
    assert suffix == wants[1]
    assert architecture.partition("_")[0] == wants[0].partition("_")[0]
    compiled = _nvrtc.compiler().compile("uniform.cu", source("uniform"), architecture).code
    assert compiled.startswith(b"\x7fELF" if suffix == ".cubin" else b"//")


def test_a_device_that_is_too_old_is_refused(gpu, monkeypatch):
    monkeypatch.setattr(gpu.cuda, "Device", lambda: _Device("52"))
    with pytest.raises(RuntimeError, match=r"needs a GPU of compute capability 7\.5 or later, got 5\.2"):
        _module._architecture(_nvrtc.compiler())


def test_every_source_names_what_it_needs_once_and_no_file_is_needed_in_a_circle():
    assert "uniform" in programs()
    for program in programs():
        text = source(program)
        names = [line for line in text.splitlines() if line.startswith("#line 1 ")]
        assert len(names) == len(set(names))
        assert names[0] == '#line 1 "types.cuh"'
        assert "#include" not in text
