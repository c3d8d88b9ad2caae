"""Time, memory and disk of a conversion from its plan, the weight files' headers and a probe."""

from __future__ import annotations

from dataclasses import dataclass

from coreml_sd.conversion.parallel import choose_jobs, share_out
from coreml_sd.conversion.prediction.disk import bundle_bytes
from coreml_sd.conversion.prediction.probe import probe, slowness
from coreml_sd.conversion.prediction.rates import Rates, rates
from coreml_sd.conversion.prediction.work import Work, final_work, share_work
from coreml_sd.costs.network_size import network_size
from coreml_sd.targets.plan import Plan

_COMPUTED = ("macs",)  # measures whose time goes with `compute`; all others with `interpreter`


@dataclass(frozen=True)
class TimedWork:
    """A piece of work with the seconds that it should take, and the bytes its process holds."""

    work: Work
    seconds: float
    memory: float


@dataclass(frozen=True)
class Prediction:
    """What a conversion is expected to take.

    `shares`: the work of each process, side by side, the first of them the main one; `final`:
    what comes after all of them; `disk`: bytes of the bundle.
    """

    shares: tuple[tuple[TimedWork, ...], ...]
    final: tuple[TimedWork, ...]
    disk: int

    @property
    def seconds(self) -> float:
        """Wall time; the other processes start when the first one has."""
        first, *others = (sum(each.seconds for each in share) for share in self.shares)
        start = self.shares[0][0].seconds
        longest = max([first, *(start + seconds for seconds in others)])
        return longest + sum(each.seconds for each in self.final)

    @property
    def memory(self) -> int:
        """Bytes at the peak of all processes together."""
        return int(sum(max(each.memory for each in share) for share in self.shares))

    def memory_of(self, component: str) -> int:
        """Bytes of a component's process at its peak."""
        held = [
            each.memory
            for share in self.shares
            for each in share
            if each.work.component == component
        ]
        return int(max(held, default=0))

    def seconds_of(self, component: str) -> float:
        """What one component takes in its process."""
        return sum(
            each.seconds
            for share in self.shares
            for each in share
            if each.work.component == component
        )


def predict(
    plan: Plan,
    verify: bool,
    *,
    jobs: int | None = None,
    memory: int | None = None,
    measured: dict[str, float] | None = None,
    known: Rates | None = None,
) -> Prediction:
    """Predict a conversion.

    Args:
        jobs, memory: as `convert` gets them.
        measured: what `probe` gave on this machine; it is run where not given.
        known: rates to predict by; those of `rates.json` where not given.

    Raises:
        UserError: a weight file is missing or damaged.
    """
    known = known or rates()
    measured = probe() if measured is None else measured
    slower = slowness(measured, known.probe)
    folder = plan.model.folder
    sizes = {each.name: network_size(folder, each) for each in plan.components}
    shares = share_out(plan, max(1, choose_jobs(plan, jobs, memory)))

    def timed(work: Work) -> TimedWork:
        seconds = sum(
            rate * work.size.get(measure, 0.0) * slower[speed_of(measure)]
            for measure, rate in known.seconds.get(work.kind, {}).items()
        )
        held = sum(
            rate * work.size.get(measure, 0.0)
            for measure, rate in known.memory.get(work.kind, {}).items()
        )
        return TimedWork(work, seconds, held)

    order = [component.name for component in plan.components]
    if len(shares) == 1:
        shares = [order]
    else:
        shares[0].sort(key=order.index)
    return Prediction(
        tuple(tuple(map(timed, share_work(plan, sizes, names, verify))) for names in shares),
        tuple(map(timed, final_work(plan, sizes))),
        bundle_bytes(plan, sizes, known),
    )


def speed_of(measure: str) -> str:
    """The figure of the probe that a measure's time goes with."""
    return "compute" if measure in _COMPUTED else "interpreter"
