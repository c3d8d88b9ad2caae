"""Weights freed under modules that are still held."""

import weakref

import torch

from coreml_sd.memory.freed import let_go


def test_weights_go_and_shapes_stay() -> None:
    module, other = torch.nn.BatchNorm2d(64), torch.nn.Linear(64, 32)
    shared = torch.nn.Sequential(other)  # holds the same parameters
    storages = [weakref.ref(p.untyped_storage()) for p in (module.weight, other.weight)]
    let_go(module, other)
    assert all(storage() is None for storage in storages)
    assert shared[0].weight.shape == (32, 64) and module.running_mean.shape == (64,)
    assert shared[0].weight.untyped_storage().nbytes() == 4
    assert not shared[0].weight.any()


def test_others_keep_theirs() -> None:
    kept, gone = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)
    before = kept.weight.detach().clone()
    let_go(gone)
    assert torch.equal(kept.weight, before) and kept.weight.untyped_storage().nbytes() == 64
    let_go()
    assert torch.equal(kept.weight, before)
