"""Libraries loaded without the packages that a conversion does not need."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

HEAVY = ("transformers", "torchao", "scipy.stats", "torch._dynamo", "coremltools.optimize.torch")


def after(code: str) -> dict[str, Any]:
    """What a fresh interpreter has loaded then, and what `result` is."""
    script = f"""
import json, sys
result = None
{code}
loaded = [name for name in {HEAVY!r} if sys.modules.get(name) is not None]
print(json.dumps({{"loaded": loaded, "result": result}}))
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, check=True
    )
    facts: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return facts


ALLOWED = """
from coreml_sd.upstream.hidden_imports import allow_hiding, import_libraries
allow_hiding()
import_libraries()
"""


ON_META = """
import torch
from coreml_sd.mobile.meta import on_meta
layer = torch.nn.Linear(3, 2)
with on_meta(layer), torch.no_grad():
    shape = list((layer(torch.zeros(4, 3, device="meta")) * 2 + 1).shape)
"""
NOTE = "result.append([name for name in HEAVY if sys.modules.get(name) is not None])\n"


def test_the_networks_and_coremltools_come_alone() -> None:
    """And shapes are found without the compiler; all of it can be loaded afterwards."""
    code = (
        f"HEAVY, result = {HEAVY!r}, []"
        + ALLOWED
        + NOTE
        + "result.append([name in sys.modules for name in ('diffusers', 'coremltools')])\n"
        + "from diffusers import AutoencoderKL, UNet2DConditionModel as unet\n"
        + "result.append([unet.__module__, AutoencoderKL.__module__])\n"
        + ON_META
        + NOTE
        + "result.append(shape)\n"
        + "from transformers import CLIPTextModel\nimport torch._dynamo\n"
        + "result.append([CLIPTextModel.__name__, torch.compiler.disable.__module__])\n"
        + "result.append(torch._dynamo.disable.__module__)"
    )
    come, there, classes, after_shapes, shape, hidden, compiler = after(code)["result"]
    assert come == [] and there == [True, True]
    assert classes == [  # the libraries' own
        "diffusers.models.unets.unet_2d_condition",
        "diffusers.models.autoencoders.autoencoder_kl",
    ]
    assert after_shapes == [] and shape == [4, 2]
    assert hidden == ["CLIPTextModel", "torch.compiler"]
    assert compiler == "torch._dynamo.decorators"


def test_a_package_that_another_library_has_begun_to_load_is_not_loaded_further() -> None:
    code = "import numba\nresult = 'scipy' in sys.modules" + ALLOWED
    assert after(code) == {"loaded": [], "result": True}


def test_negative_controls_without_leave_the_libraries_bring_them() -> None:
    """torch itself loads the compiler, and diffusers' ordinary import the rest."""
    code = (
        f"HEAVY, result = {HEAVY!r}, []\n"
        + "from coreml_sd.upstream.hidden_imports import import_libraries\nimport_libraries()\n"
        + "result.append('diffusers' in sys.modules)\n"
        + ON_META
        + NOTE
        + "result.append(shape)\n"
        + "from diffusers import UNet2DConditionModel\n"
    )
    found = after(code)
    assert found["result"] == [False, ["torch._dynamo"], [4, 2]]
    assert "transformers" in found["loaded"]


def test_a_library_that_cannot_do_without_is_loaded_as_ever() -> None:
    code = """
from coreml_sd.upstream import hidden_imports as lean_imports
lean_imports._OPTIONAL = (*lean_imports._OPTIONAL, "numpy.fft", "huggingface_hub")
lean_imports.allow_hiding()
lean_imports.import_libraries()
before = "diffusers" in sys.modules
from diffusers import UNet2DConditionModel
result = [before, UNet2DConditionModel.__name__]
"""
    assert after(code)["result"] == [False, "UNet2DConditionModel"]
