"""Several networks run one after another over one pool of named tensors (chunks)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from coreml_sd.errors import UserError
from coreml_sd.runtimes.base import Array, Network, TensorInfo, check_inputs


class Chain:
    """Chunks as one network: each reads original inputs and what earlier chunks wrote.

    Raises:
        UserError: there is no chunk at all.
    """

    def __init__(self, name: str, networks: Sequence[Network]) -> None:
        if not networks:
            raise UserError(f"{name}: no files; convert again")
        self.name, self.networks = name, list(networks)

    @property
    def inputs(self) -> Mapping[str, TensorInfo]:
        """Inputs of the whole: what no chunk makes."""
        made: set[str] = set()
        wanted: dict[str, TensorInfo] = {}
        for network in self.networks:
            wanted |= {name: info for name, info in network.inputs.items() if name not in made}
            made |= network.outputs.keys()
        return wanted

    @property
    def outputs(self) -> Mapping[str, TensorInfo]:
        """Outputs of the last chunk."""
        return self.networks[-1].outputs

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run all chunks in order."""
        pool = check_inputs(self.name, self.inputs, inputs)
        for network in self.networks:
            pool |= network.run({name: pool[name] for name in network.inputs})
        return {name: pool[name] for name in self.outputs}

    def close(self) -> None:
        """Close every chunk."""
        for network in self.networks:
            network.close()
        self.networks = []
