"""Which networks of a pipeline are in memory at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from coreml_sd.errors import UserError
from coreml_sd.generation.memory_log import EventKind, MemoryLog
from coreml_sd.processes.memory import give_back
from coreml_sd.runtimes.base import Network
from coreml_sd.runtimes.open_runtime import MEMORY_POLICIES

_LOAD_MARGIN = 2.0  # a load beside a running network takes about this much longer than alone


class Residency:
    """Loads and frees the networks of one pipeline.

    `all-resident` loads every network before the first is used and keeps them. `pipelined` keeps
    the denoiser alone: the text encoder is loaded, run and freed before the denoiser is loaded, and
    the decoder is loaded by a second thread while the last denoising steps run. Its peak is the
    denoiser and the larger of the two others, instead of the sum. `stage-by-stage` has one network
    at a time: the least memory, and every picture waits for every load.

    Source: "Squeezing Large-Scale Diffusion Models for Mobile", arXiv 2307.01193 (T1.8).
    """

    def __init__(
        self,
        open_network: Callable[[str], Network],
        policy: str,
        log: MemoryLog | None = None,
    ) -> None:
        if policy not in MEMORY_POLICIES:
            raise UserError(f"memory policy {policy}: choose from {', '.join(MEMORY_POLICIES)}")
        self.policy, self.log = policy, log
        self._open = open_network
        self._denoiser = ""
        self._networks: dict[str, Network] = {}
        self._coming: dict[str, Future[Network]] = {}
        self._second_thread = ThreadPoolExecutor(1, "load")
        self._seconds: dict[str, float] = {}

    def begin(self, encoders: Sequence[str], denoiser: str, decoder: str) -> None:
        """Before the first network of a picture is used: which it needs, in this order."""
        before, self._denoiser = self._denoiser, denoiser
        self.done_with(before)  # unless it is the same, or all are kept
        if self.policy == "all-resident":
            for component in (*encoders, denoiser, decoder):
                self.network(component)

    def network(self, component: str) -> Network:
        """The network of a component, loaded now if it is not there.

        Raises:
            UserError: the bundle lacks it, or the runtime refuses it.
        """
        if component in self._coming:
            self._networks[component] = self._coming.pop(component).result()
        if component not in self._networks:
            self._networks[component] = self._load(component)
        return self._networks[component]

    def keeps(self, component: str) -> bool:
        """Whether a network stays for the next picture."""
        return self.policy == "all-resident" or (
            self.policy == "pipelined" and component == self._denoiser
        )

    def done_with(self, component: str) -> None:
        """Free a network that is not needed again for this picture, unless it is kept."""
        if self.keeps(component) or component not in self._networks:
            return
        network = self._networks.pop(component)
        network.close()
        del network
        give_back()
        self.note("freed", component)

    def before_step(self, component: str, seconds_left: float, last: bool) -> None:
        """Begin to load what follows the loop, so that it is there when the loop ends.

        Args:
            component: what is needed next.
            seconds_left: how long the remaining steps, this one included, will take.
            last: no other step follows.
        """
        there = component in self._networks or component in self._coming
        if there or self.policy != "pipelined":
            return
        known = self._seconds.get(component, self._seconds.get(self._denoiser, 0.0))
        if last or seconds_left <= _LOAD_MARGIN * known:
            self._coming[component] = self._second_thread.submit(self._load, component)

    def note(self, kind: EventKind, name: str) -> None:
        """Put an event in the log, where there is one."""
        if self.log:
            self.log.add(kind, name)

    def close(self) -> None:
        """Free everything."""
        self._second_thread.shutdown(wait=True)
        for component, loading in self._coming.items():
            if loading.exception() is None:
                self._networks[component] = loading.result()
        self._coming.clear()
        while self._networks:
            self._networks.popitem()[1].close()
        give_back()

    def _load(self, component: str) -> Network:
        self.note("loading", component)
        begun = time.perf_counter()
        network = self._open(component)
        self._seconds[component] = time.perf_counter() - begun
        self.note("loaded", component)
        return network
