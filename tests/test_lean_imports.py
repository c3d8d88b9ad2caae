"""Libraries loaded without the packages that a conversion does not need."""

from __future__ import annotations

import json
import subprocess
import sys

HEAVY = ("transformers", "torchao", "scipy.stats", "torch._dynamo", "coremltools.optimize.torch")


def after(code: str) -> dict[str, object]:
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
    facts: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return facts


ALLOWED = """
from coreml_sd.lean_imports import allow_lean_imports, import_lean
allow_lean_imports()
import_lean()
"""


def test_the_networks_and_coremltools_come_alone() -> None:
    code = (
        ALLOWED + "result = [name for name in ('diffusers', 'coremltools') if name in sys.modules]"
    )
    assert after(code) == {"loaded": [], "result": ["diffusers", "coremltools"]}


def test_a_package_that_another_library_has_begun_to_load_is_not_loaded_further() -> None:
    code = "import numba\nresult = 'scipy' in sys.modules" + ALLOWED
    assert after(code) == {"loaded": [], "result": True}


def test_the_ordinary_import_brings_them() -> None:
    assert after("from diffusers import UNet2DConditionModel")["loaded"]


def test_nothing_happens_unless_it_is_allowed() -> None:
    code = "from coreml_sd.lean_imports import import_lean\nimport_lean()\n"
    code += "result = 'diffusers' in sys.modules"
    assert after(code)["result"] is False


def test_what_was_hidden_can_be_loaded_afterwards() -> None:
    code = ALLOWED + "from transformers import CLIPTextModel\nimport torch\n"
    code += "result = [CLIPTextModel.__name__, torch.compiler.disable.__module__]"
    assert after(code)["result"] == ["CLIPTextModel", "torch.compiler"]


def test_the_classes_are_the_libraries_own() -> None:
    code = ALLOWED + "from diffusers import AutoencoderKL, UNet2DConditionModel as unet\n"
    code += "result = [unet.__module__, AutoencoderKL.__module__]"
    assert after(code)["result"] == [
        "diffusers.models.unets.unet_2d_condition",
        "diffusers.models.autoencoders.autoencoder_kl",
    ]


def test_a_library_that_cannot_do_without_is_loaded_as_ever() -> None:
    code = """
from coreml_sd import lean_imports
lean_imports._OPTIONAL = (*lean_imports._OPTIONAL, "numpy.fft", "huggingface_hub")
lean_imports.allow_lean_imports()
lean_imports.import_lean()
before = "diffusers" in sys.modules
from diffusers import UNet2DConditionModel
result = [before, UNet2DConditionModel.__name__]
"""
    assert after(code)["result"] == [False, "UNet2DConditionModel"]


ON_META = """
import torch
from coreml_sd.mobile.meta import on_meta
layer = torch.nn.Linear(3, 2)
with on_meta(layer), torch.no_grad():
    result = list((layer(torch.zeros(4, 3, device="meta")) * 2 + 1).shape)
"""


def test_shapes_are_found_without_the_compiler() -> None:
    assert after(ALLOWED + ON_META) == {"loaded": [], "result": [4, 2]}


def test_negative_control_torch_itself_loads_it() -> None:
    assert after(ON_META) == {"loaded": ["torch._dynamo"], "result": [4, 2]}


def test_the_compiler_can_be_loaded_afterwards() -> None:
    code = ALLOWED + ON_META + "import torch._dynamo\nresult = torch._dynamo.disable.__module__"
    assert after(code)["result"] == "torch._dynamo.decorators"
