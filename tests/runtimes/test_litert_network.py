"""Networks on LiteRT's C library: the wheel's numbers, shared buffers, other threads at work."""

import importlib.metadata
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import psutil
import pytest

pytest.importorskip("ai_edge_litert", reason="the extra `android` is not installed")
from ai_edge_litert import compiled_model as wheel
from ai_edge_litert import schema_py_generated as schema

from coreml_sd.errors import CoremlSDError, UserError
from coreml_sd.runtimes.litert.native import library as native
from coreml_sd.runtimes.litert.native.environment import environment
from coreml_sd.runtimes.litert.native.model import Model
from coreml_sd.runtimes.litert.native.options import CPU
from coreml_sd.runtimes.litert.network import LiteRTNetwork
from coreml_sd.runtimes.litert.vulkan import gpu_environment, why_no_gpu
from tests.helpers.build_tflite import GraphWriter

LACKING = why_no_gpu()
needs_gpu = pytest.mark.skipif(LACKING is not None, reason=str(LACKING))
needs_proc = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts in /proc")
MAP = (1, 8, 8, 4)
MEGABYTE = 2**20


def save(graph: GraphWriter, path: Path, inputs: dict[str, int], outputs: dict[str, int]) -> Path:
    """Write the graph with a signature."""
    graph.write(path, list(outputs.values()))
    model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = "main", 0
    signature.inputs = [named(*entry) for entry in inputs.items()]
    signature.outputs = [named(*entry) for entry in outputs.items()]
    model.signatureDefs = [signature]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path


def named(name: str, tensor: int) -> Any:
    entry = schema.TensorMapT()
    entry.name, entry.tensorIndex = name, tensor
    return entry


def convolve(graph: GraphWriter, given: int, side: int, width: int, seed: int) -> int:
    generator = np.random.default_rng(seed)
    weight = graph.constant(0.1 * generator.standard_normal((width, 3, 3, width)))
    bias = graph.constant(generator.standard_normal(width))
    options = schema.Conv2DOptionsT()
    options.strideH = options.strideW = 1
    shape = (1, side, side, width)
    return graph.op("CONV_2D", [given, weight, bias], shape, options=options)


def write_mixer(path: Path, *, seed: int = 0) -> Path:
    """Outputs `sum` and `image`, declared in the order that is not LiteRT's own."""
    graph = GraphWriter()
    noise, latent = graph.input(MAP), graph.input(MAP)
    options = schema.SubOptionsT()
    image = convolve(graph, graph.op("SUB", [latent, noise], MAP, options=options), 8, 4, seed)
    total = graph.op("TANH", [image], MAP)
    return save(graph, path, {"noise": noise, "latent": latent}, {"total": total, "image": image})


@pytest.fixture(scope="module")
def mixer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_mixer(tmp_path_factory.mktemp("litert") / "mixer.tflite")


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """57 MB of weights; a pass takes a quarter of a second and more, on fast machines too."""
    graph = GraphWriter()
    tensor = given = graph.input((1, 48, 48, 512))
    for seed in range(6):
        tensor = convolve(graph, tensor, 48, 512, seed)
    path = tmp_path_factory.mktemp("litert") / "large.tflite"
    return save(graph, path, {"x": given}, {"y": tensor})


@pytest.fixture
def network(mixer: Path) -> Iterator[LiteRTNetwork]:
    network = LiteRTNetwork(mixer, threads=1)
    yield network
    network.close()


def feeds(seed: int = 0) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    return {name: generator.standard_normal(MAP).astype("f4") for name in ("latent", "noise")}


class Wheel:
    """The same file by the wheel's own wrapper."""

    def __init__(self, path: Path) -> None:
        options = wheel.Options(
            hardware_accelerators=wheel.HardwareAccelerator.CPU,
            cpu_options=wheel.CpuOptions(num_threads=1),
        )
        self.model = wheel.CompiledModel.from_file(str(path), options=options)
        ((self.key, self.names),) = self.model.get_signature_list().items()
        self.sources = {
            name: self.model.create_input_buffer_by_name(self.key, name)
            for name in self.names["inputs"]
        }
        self.sinks = {
            name: self.model.create_output_buffer_by_name(self.key, name)
            for name in self.names["outputs"]
        }

    def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        for name, array in inputs.items():
            self.sources[name].write(array)
        self.invoke()
        return {name: b.read(int(np.prod(MAP)), "float32") for name, b in self.sinks.items()}

    def invoke(self) -> None:
        self.model.run_by_name(self.key, self.sources, self.sinks)


def share_of_standstill(work: Callable[[], Any]) -> float:
    """The longest time that another thread, which asks each millisecond, got no turn; as a share of
    the time that the work took, a tenth of a second at least."""
    times, over = [], threading.Event()

    def tick() -> None:
        while not over.wait(0.001):
            times.append(time.perf_counter())

    thread = threading.Thread(target=tick)
    thread.start()
    begin = time.perf_counter()
    work()
    end = time.perf_counter()
    over.set()
    thread.join()
    assert end - begin > 0.1
    turns = [begin, *(turn for turn in times if begin < turn < end), end]
    return float(np.diff(turns).max() / (end - begin))


def run_child(script: str, *arguments: object, env: dict[str, str] | None = None) -> str:
    """What a script writes to stdout and stderr; it must end well."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=(env or dict(os.environ)) | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.returncode == 0, f"{done.returncode}: {done.stdout}"
    return done.stdout


def test_the_numbers_are_the_wheels_bit_for_bit(mixer: Path, network: LiteRTNetwork) -> None:
    other = Wheel(mixer)
    assert list(network.inputs) == ["noise", "latent"] and list(network.outputs) == [
        "total",
        "image",
    ]
    for seed in range(3):
        found, wanted = network.run(feeds(seed)), other.run(feeds(seed))
        assert found.keys() == wanted.keys()
        assert all(np.array_equal(found[name].ravel(), wanted[name]) for name in wanted)
    assert np.array_equal(np.tanh(found["image"]) > 0, found["total"] > 0)


def test_what_is_written_stays(network: LiteRTNetwork) -> None:
    given = feeds()
    wanted = network.run(given)
    network.write("noise", np.zeros(MAP))
    assert not np.array_equal(network.step()["image"], wanted["image"])
    network.write("noise", given["noise"].astype("f8"))
    assert all(np.array_equal(network.step()[name], wanted[name]) for name in wanted)


def test_fresh_inputs_are_zero(mixer: Path, network: LiteRTNetwork) -> None:
    zeros = dict.fromkeys(network.inputs, np.zeros(MAP))
    found = LiteRTNetwork(mixer).step()
    assert all(np.array_equal(found[name], a) for name, a in network.run(zeros).items())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"latent": np.zeros(MAP)}, "input noise is missing"),
        (feeds() | {"mask": np.zeros(1)}, "no input mask; it takes noise, latent"),
        (feeds() | {"noise": np.zeros((1, 4, 8, 8))}, "noise has shape (1, 4, 8, 8), needs"),
    ],
)
def test_wrong_inputs_are_named(network: LiteRTNetwork, given: Any, message: str) -> None:
    with pytest.raises(UserError) as raised:
        network.run(given)
    assert message in str(raised.value) and "mixer.tflite" in str(raised.value)


def test_one_wrong_input_is_named(network: LiteRTNetwork) -> None:
    with pytest.raises(UserError, match="no input total; it takes noise, latent"):
        network.write("total", np.zeros(MAP))
    with pytest.raises(UserError, match="input noise has shape"):
        network.write("noise", np.zeros(3))


def test_a_buffer_is_handed_on_without_a_copy(tmp_path: Path, network: LiteRTNetwork) -> None:
    following = LiteRTNetwork(write_mixer(tmp_path / "next.tflite", seed=5), threads=1)
    noise = feeds(9)["noise"]
    copied = following.run({"noise": noise, "latent": network.run(feeds())["image"]})
    following.write("latent", np.zeros(MAP))
    following.bind("latent", network.buffer("image"))
    network.invoke()
    assert all(np.array_equal(following.step()[name], copied[name]) for name in copied)
    following.close()


def test_buffers_are_rotated(network: LiteRTNetwork) -> None:
    """As over steps: each pass reads the latents that the last one wrote."""
    given = feeds()
    copied = given["latent"]
    for _ in range(3):
        copied = network.run({"noise": given["noise"], "latent": copied})["image"]
    network.write("latent", given["latent"])
    for _ in range(3):
        network.invoke()
        written, read = network.buffer("image"), network.buffer("latent")
        network.bind("latent", written)
        network.bind("image", read)
    assert np.array_equal(network.buffer("latent").read(), copied)


def test_a_bound_buffer_takes_the_output(network: LiteRTNetwork) -> None:
    wanted = network.run(feeds())
    spare, old = network.new_buffer("image"), network.buffer("image")
    network.bind("image", spare)
    network.write("latent", np.zeros(MAP))
    assert not np.array_equal(network.step()["image"], wanted["image"])
    assert np.array_equal(old.read(), wanted["image"])
    assert np.array_equal(spare.read(), network.read("image")) and spare.on_host
    spare.destroy()
    spare.destroy()
    with pytest.raises(CoremlSDError, match=r"mixer\.tflite.*the buffer has been freed"):
        network.invoke()
    network.bind("image", old)
    network.invoke()


def test_a_buffer_of_another_shape_is_refused(large: Path, network: LiteRTNetwork) -> None:
    other = LiteRTNetwork(large)
    with pytest.raises(CoremlSDError, match=r"x needs a buffer of \(1, 48, 48, 512\) float32"):
        other.bind("x", network.buffer("image"))
    other.close()
    with pytest.raises(CoremlSDError, match="given to a buffer of"):
        network.buffer("image").write(np.zeros(MAP))


@needs_proc
def test_threads_are_honoured(mixer: Path) -> None:
    process, networks = psutil.Process(), []
    counts = [process.num_threads()]
    for threads in (1, 4):
        networks.append(LiteRTNetwork(mixer, threads=threads))
        networks[-1].invoke()
        counts.append(process.num_threads())
    assert counts[1] == counts[0] and counts[2] == counts[1] + 3
    for network in networks:
        network.close()
    assert process.num_threads() == counts[0]


def test_other_threads_work_while_it_computes(large: Path) -> None:
    network = LiteRTNetwork(large, threads=1)
    assert min(share_of_standstill(network.invoke) for _ in range(3)) < 0.3
    network.close()


def test_other_threads_work_while_it_is_opened(large: Path) -> None:
    """Several are opened, so that it takes long enough."""
    environment()
    models: list[Model] = []

    def several() -> None:
        models.extend(Model(large, CPU) for _ in range(4))

    assert min(share_of_standstill(several) for _ in range(2)) < 0.3
    for model in models:
        model.close()


def test_the_wheels_wrapper_holds_them_up(large: Path) -> None:
    """Once it no longer does, ctypes is not needed."""
    assert share_of_standstill(Wheel(large).invoke) > 0.7


def test_one_is_opened_while_another_computes(large: Path, mixer: Path) -> None:
    network = LiteRTNetwork(large, threads=1)
    wanted = LiteRTNetwork(mixer, threads=1).run(feeds())
    thread = threading.Thread(target=network.invoke)
    thread.start()
    second = LiteRTNetwork(mixer, threads=1)
    assert thread.is_alive(), "it was opened only after the pass"
    found = second.run(feeds())
    thread.join()
    assert all(np.array_equal(found[name], wanted[name]) for name in wanted)
    network.close()
    second.close()


def test_it_is_closed_after_the_pass_that_it_is_in(large: Path) -> None:
    network = LiteRTNetwork(large, threads=1)
    thread = threading.Thread(target=network.invoke)
    thread.start()
    time.sleep(0.05)
    assert thread.is_alive()
    network.close()
    thread.join()
    with pytest.raises(CoremlSDError, match="closed"):
        network.invoke()


def test_the_process_ends_while_a_pass_goes_on(large: Path) -> None:
    script = """
        import sys, threading
        from pathlib import Path
        from coreml_sd.errors import CoremlSDError
        from coreml_sd.runtimes.litert.network import LiteRTNetwork

        def forever():
            try:
                while True:
                    network.invoke()
                    started.set()
            except CoremlSDError:
                pass

        network, started = LiteRTNetwork(Path(sys.argv[1])), threading.Event()
        threading.Thread(target=forever, daemon=True).start()
        started.wait()
    """
    assert run_child(script, large) == ""


@needs_proc
@pytest.mark.parametrize("end", ["network.close()", "del network"])
def test_memory_comes_back(large: Path, mixer: Path, end: str) -> None:
    script = """
        import sys
        from pathlib import Path
        import psutil
        from coreml_sd.runtimes.litert.network import LiteRTNetwork

        def resident():
            print(psutil.Process().memory_info().rss)

        LiteRTNetwork(Path(sys.argv[2])).close()
        resident()
        for _ in range(2):
            network = LiteRTNetwork(Path(sys.argv[1]))
            network.invoke()
            resident()
            exec(sys.argv[3])
            resident()
    """
    printed = run_child(script, large, mixer, end).splitlines()
    before, *later = (int(number) / MEGABYTE for number in printed)
    assert min(later[0::2]) > before + 50 and max(later[1::2]) < before + 20


def test_closed_twice_and_used_after(mixer: Path) -> None:
    network = LiteRTNetwork(mixer)
    network.close()
    network.close()
    uses: list[Callable[[], object]] = [
        network.step,
        network.invoke,
        lambda: network.run(feeds()),
        lambda: network.read("image"),
        lambda: network.write("noise", np.zeros(MAP)),
        lambda: network.buffer("image"),
        lambda: network.new_buffer("image"),
    ]
    for use in uses:
        with pytest.raises(CoremlSDError, match=r"mixer\.tflite.*closed"):
            use()


def test_a_closed_network_leaves_a_taken_buffer_unusable(mixer: Path) -> None:
    first, second = LiteRTNetwork(mixer), LiteRTNetwork(mixer)
    second.bind("latent", first.buffer("image"))
    first.close()
    with pytest.raises(CoremlSDError, match="freed"):
        second.invoke()
    second.close()


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9])
def test_a_truncated_file_is_named(mixer: Path, tmp_path: Path, share: float) -> None:
    content = mixer.read_bytes()
    damaged = tmp_path / "damaged.tflite"
    damaged.write_bytes(content[: int(share * len(content))])
    with pytest.raises(UserError, match=r"damaged\.tflite.*convert again"):
        LiteRTNetwork(damaged)


def test_what_litert_refuses_is_named(tmp_path: Path) -> None:
    graph = GraphWriter()
    given = graph.input(MAP)
    newer = graph.op("TANH", [given], MAP)
    graph.codes[0].version = 99
    path = save(graph, tmp_path / "newer.tflite", {"x": given}, {"y": newer})
    with pytest.raises(UserError, match=r"newer\.tflite: LiteRT refuses it \(.*coreml-sd lint"):
        LiteRTNetwork(path)


def test_what_litert_cannot_run_is_named(tmp_path: Path) -> None:
    graph = GraphWriter()
    given = graph.input(MAP)
    unknown = graph.op("SomethingOfMine", [given], MAP)
    path = save(graph, tmp_path / "custom.tflite", {"x": given}, {"y": unknown})
    network = LiteRTNetwork(path)
    with pytest.raises(CoremlSDError, match=r"custom\.tflite: LiteRT could not run it"):
        network.invoke()


@pytest.fixture
def fresh_library() -> Iterator[None]:
    native.library.cache_clear()
    yield
    native.library.cache_clear()


@pytest.mark.usefixtures("fresh_library")
def test_an_unknown_version_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(importlib.metadata, "version", lambda name: "2.9.0")
        with pytest.raises(UserError, match=r"2\.9\.0.*pip install 'coreml-sd\[android\]'"):
            native.library()
    with monkeypatch.context() as patch:
        patch.setattr(native, "_RETURN_NOTHING", ("LiteRtNothing",))
        with pytest.raises(UserError, match=r"LiteRtNothing.*pip install 'coreml-sd\[android\]'"):
            native.library()
    monkeypatch.setattr(native, "folder", lambda: Path("/nowhere"))
    with pytest.raises(UserError, match=r"/nowhere.*pip install 'coreml-sd\[android\]'"):
        native.library()


def test_nothing_is_printed_and_nothing_swallowed(mixer: Path, large: Path) -> None:
    """Not at the end either, where one network is still open."""
    script = """
        import os, sys, threading
        from pathlib import Path
        from coreml_sd.runtimes.litert.network import LiteRTNetwork

        first = LiteRTNetwork(Path(sys.argv[1]))
        thread = threading.Thread(target=lambda: LiteRTNetwork(Path(sys.argv[2])).invoke())
        thread.start()
        lines = 0
        while thread.is_alive():
            thread.join(0.001)
            lines += 2
            os.write(1, b"line\\n")
            os.write(2, b"line\\n")
        first.invoke()
        print(lines)
    """
    *lines, count = run_child(script, mixer, large).splitlines()
    assert set(lines) == {"line"} and len(lines) == int(count) >= 10


GPU_SCRIPT = """
    import sys
    from pathlib import Path
    import numpy as np
    from coreml_sd.errors import UserError
    from coreml_sd.runtimes.litert.network import LiteRTNetwork

    def opened(path, **options):
        return LiteRTNetwork(Path(path), accelerator="gpu", **options)
"""


@needs_gpu
def test_on_the_gpu_a_buffer_is_handed_on_without_a_copy(mixer: Path, tmp_path: Path) -> None:
    """The child ends with open networks, without a word."""
    script = """
    first, second = (opened(path, exact=True) for path in sys.argv[1:])
    generator = np.random.default_rng(0)
    noise, latent = (generator.standard_normal((1, 8, 8, 4)).astype("f4") for _ in range(2))
    image = first.run({"noise": noise, "latent": latent})["image"]
    copied = second.run({"noise": noise, "latent": image})
    for name in ("latent", "noise"):
        second.write(name, np.zeros((1, 8, 8, 4)))
    second.write("noise", noise)
    second.bind("latent", first.buffer("image"))
    first.invoke()
    handed = second.step()
    assert not first.buffer("image").on_host
    assert all(np.array_equal(handed[name], copied[name]) for name in copied)
    cpu = LiteRTNetwork(Path(sys.argv[2])).run({"noise": noise, "latent": image})
    assert all(np.allclose(cpu[name], copied[name], rtol=0, atol=1e-5) for name in cpu)
    first.close()
    first.close()
    """
    other = write_mixer(tmp_path / "next.tflite", seed=5)
    assert run_child(GPU_SCRIPT + script, mixer, other, env=gpu_environment()) == ""


@needs_gpu
def test_exact_is_32_bits_on_the_gpu(mixer: Path) -> None:
    script = """
    given = dict.fromkeys(("noise", "latent"), np.full((1, 8, 8, 4), 1 / 3))
    given["latent"] = 2 * given["latent"]
    wanted = LiteRTNetwork(Path(sys.argv[1])).run(given)["image"]
    for exact in (True, False):
        error = np.abs(opened(sys.argv[1], exact=exact).run(given)["image"] - wanted).max()
        print(float(error / np.abs(wanted).max()))
    """
    exact, rounded = run_child(GPU_SCRIPT + script, mixer, env=gpu_environment()).splitlines()
    assert float(exact) < 1e-5 < float(rounded) < 1e-1


@needs_gpu
def test_an_op_that_the_gpu_refuses_is_named(tmp_path: Path) -> None:
    graph = GraphWriter()
    given = graph.input((1, 8, 8, 1))
    spread = graph.op("BROADCAST_TO", [given, graph.constant(MAP, "int32")], MAP)
    graph.codes[0].version = 2
    path = save(graph, tmp_path / "spread.tflite", {"x": given}, {"y": spread})
    script = """
    try:
        opened(sys.argv[1])
    except UserError as error:
        print(error)
    """
    (line,) = run_child(GPU_SCRIPT + script, path, env=gpu_environment()).splitlines()
    assert "spread.tflite: the GPU refuses it (not supported by GPU delegate: BROADCAST_TO" in line


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere Vulkan is not needed")
def test_no_gpu_is_said(mixer: Path) -> None:
    nowhere = dict.fromkeys(("VK_DRIVER_FILES", "VK_ICD_FILENAMES"), "/nowhere/driver.json")
    script = """
    try:
        opened(sys.argv[1])
    except UserError as error:
        print(error)
    """
    printed = run_child(GPU_SCRIPT + script, mixer, env=os.environ | nowhere)
    assert printed.startswith("no GPU here: ") and printed.count("\n") == 1
