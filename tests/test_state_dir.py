"""State in a file that is mapped into memory: as in memory, bit for bit; parameters may be mapped files too."""

import json

import ml_dtypes
import numpy as np
import pytest

import stepsmith as ss
from battery import CONFIGS
from helpers import assert_same_bits, run_python, values
from reference_storage import DTYPES

RNG = np.random.default_rng(109)
STAGES = {"ema": 0.9, "shadow": "bfloat16", "master": True, "max_norm": 1.0}


def build(config: str = "adamw", state_dir=None, **settings):
    rng = np.random.default_rng(3)
    params = {name: values(rng, n, DTYPES[name]) for name, n in zip(DTYPES, (70001, 33, 129, 5))}
    params["fortran"] = np.asfortranarray(values(rng, (30, 41), np.float32))
    params["empty"], params["no-axes"] = np.ones((3, 0)), np.ones(())
    grads = [{name: values(rng, x.shape, np.float32) for name, x in params.items()} for _ in range(3)]
    rule, hyperparameters = CONFIGS[config]
    return params, grads, ss.optim.REGISTRY[rule](params, state_dir=state_dir, **{**hyperparameters, **settings})


@pytest.mark.parametrize("config", ["sgd", "sgd-momentum", "adam-amsgrad"])
@pytest.mark.parametrize("settings", [{}, STAGES, {"state_dtype": "bfloat16"}])
def test_state_in_a_file_equals_state_in_memory(tmp_path, config, settings) -> None:
    params, grads, optimizer = build(config, tmp_path / "new" / "state", **settings)
    other, _, plain = build(config, **settings)
    for row in grads:
        assert optimizer.step(row) == plain.step(row)
    for name, x in other.items():
        assert_same_bits(params[name], x, name)
        assert optimizer.state[name].keys() == plain.state[name].keys()
        for slot, array in plain.state[name].items():
            assert_same_bits(optimizer.state[name][slot], array, f"{name} {slot}")
            assert optimizer.state[name][slot].strides == array.strides
    size = sum(x.nbytes for row in plain.state.values() for x in row.values())
    assert sum(file.stat().st_size for file in (tmp_path / "new" / "state").iterdir()) >= size


def test_saved_state_goes_from_file_to_memory_and_back(tmp_path) -> None:
    params, grads, optimizer = build(state_dir=tmp_path / "a", ema=0.5)
    optimizer.step(grads[0])
    saved = optimizer.state_dict()
    results = []
    for place in (None, tmp_path / "b"):
        again, _, other = build(state_dir=place, ema=0.5)
        for name, x in params.items():
            again[name][...] = x
        other.load_state_dict(saved)
        other.step(grads[1])
        results.append(again)
    optimizer.step(grads[1])
    for again in results:
        for name, x in params.items():
            assert_same_bits(again[name], x, name)


def test_a_directory_that_is_not_empty_is_refused(tmp_path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"^AdamW: state_dir must be an empty or a new directory, got '.*'$"):
        build(state_dir=tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]
    _, grads, optimizer = build(state_dir=tmp_path / "state")
    with pytest.raises(ValueError, match=r"^AdamW: state_dir must be an empty or a new directory"):
        build(state_dir=str(tmp_path / "state"))
    optimizer.step(grads[0])


def test_mapped_parameters_and_gradients_step_in_their_files(tmp_path) -> None:
    start = {"w": values(RNG, (300, 41), np.float32), "h": values(RNG, 5000, ml_dtypes.bfloat16)}
    grads = {name: values(RNG, x.shape, np.float32) for name, x in start.items()}
    params, mapped = {}, {}
    for name, x in start.items():
        params[name] = np.memmap(tmp_path / name, x.dtype, "w+", shape=x.shape)
        params[name][...] = x
        mapped[name] = np.memmap(tmp_path / f"{name}.grad", np.float32, "w+", shape=x.shape)
        mapped[name][...] = grads[name]
    settings = {"lr": 0.1, "ema": 0.9, "zero_grads": True}
    optimizer = ss.optim.AdamW(params, state_dir=tmp_path / "state", **settings)
    plain = ss.optim.AdamW(start, **settings)
    optimizer.bind(mapped)
    optimizer.step()
    plain.step(grads)
    for name, x in start.items():
        assert_same_bits(params[name], x)
        params[name].flush()
        assert (tmp_path / name).read_bytes() == x.tobytes()
        assert not mapped[name].any()
        assert_same_bits(optimizer.state[name]["ema"], plain.state[name]["ema"])


def test_a_mapped_parameter_that_is_read_only_is_refused(tmp_path) -> None:
    np.ones(9, np.float32).tofile(tmp_path / "w")
    with pytest.raises(ValueError, match=r"^SGD: params\['0'\] must be writable, got a read-only array$"):
        ss.optim.SGD([np.memmap(tmp_path / "w", np.float32, "r")])


def test_a_refused_optimizer_leaves_no_file(tmp_path) -> None:
    param = np.ones(9, np.float32)
    with pytest.raises(ValueError, match="must not share elements"):
        ss.optim.AdamW([param, param[3:]], state_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []
    ss.optim.AdamW([param], state_dir=tmp_path)


def test_the_file_has_its_place_on_the_disk(tmp_path) -> None:
    """A sparse file would be a bus error in a step, once the disk is full."""
    ss.optim.AdamW([np.zeros(300_000, np.float32)], state_dir=tmp_path / "state")
    found = (tmp_path / "state" / "state.bin").stat()
    assert found.st_size >= 2_400_000
    assert found.st_blocks * 512 >= found.st_size


def test_a_state_directory_must_be_a_path_to_a_directory(tmp_path) -> None:
    with pytest.raises(TypeError, match=r"^AdamW: state_dir must be a path, got 123$"):
        ss.optim.AdamW([np.zeros(3)], state_dir=123)
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"^AdamW: state_dir must be an empty or a new directory, got '.*file'$"):
        ss.optim.AdamW([np.zeros(3)], state_dir=tmp_path / "file")


@pytest.mark.slow
def test_a_state_of_4_gib_is_let_go_of_behind_the_sweep(tmp_path) -> None:
    """Anonymous memory hardly grows, and of the file's pages few stay in memory."""
    report = json.loads(run_python(BIG, environment={"STATE": str(tmp_path)}, timeout=1200))
    assert report["file"] >= 4096
    assert report["moved"]
    assert report["anonymous"] < 300
    assert report["of the file"] < 300


BIG = """
import json, os, re
import numpy as np
import stepsmith as ss

def resident(what):
    return int(re.search(what + r":\\s+(\\d+) kB", open("/proc/self/status").read())[1]) // 1024

def of_file():
    pages, found = 0, False
    for line in open("/proc/self/smaps"):
        if re.match("[0-9a-f]+-[0-9a-f]+ ", line):
            found = "state.bin" in line
        elif found and line.startswith("Rss:"):
            pages += int(line.split()[1])
    return pages // 1024

n, place = 1 << 29, os.environ["STATE"]
param = np.memmap(place + "/param", np.float32, mode="w+", shape=n)
grad = np.broadcast_to(np.float32(1), n)
before = resident("RssAnon")
optimizer = ss.optim.AdamW({"w": param}, lr=0.5, weight_decay=0.0, state_dir=place + "/state", on_nonfinite="propagate")
peaks = []
import threading
stop = threading.Event()
def watch():
    while not stop.wait(0.05):
        peaks.append((resident("RssAnon"), of_file()))
watcher = threading.Thread(target=watch)
watcher.start()
for _ in range(2):
    optimizer.step({"w": grad})
stop.set()
watcher.join()
size = os.path.getsize(place + "/state/state.bin") >> 20
print(json.dumps({
    "file": size,
    "anonymous": max(anonymous for anonymous, _ in peaks) - before,
    "of the file": max(pages for _, pages in peaks),
    "moved": bool((param[:: n // 64] < -0.9).all()),
}))
"""
