"""Every change to another library, and every internal of one that is used or copied.

docs/upstream.md shows both tables; a test holds them against the code.
"""

from __future__ import annotations

from coreml_sd.upstream.patch import Patch

TODO = True
_MIL = "coremltools.converters.mil.mil"
_COREMLTOOLS = "9.0"
_TORCH = "2.13"
_LITERT_TORCH = "0.10"

BLOCK_TEXT = Patch(
    "block-text",
    "shortcut",
    (f"{_MIL}:Block.__str__", f"{_MIL}:Function.__str__", f"{_MIL}:Function.to_str"),
    "",
    "",
    "",
)
FOLDING_MARKS = Patch(
    "folding-marks", "shortcut", (f"{_MIL}:Block._propagate_nonreplaceable_vars",), "", "", ""
)
SCOPES = Patch(
    "scopes",
    "shortcut",
    (f"{_MIL}:Block._copy_scope_info", f"{_MIL}:Program._add_essential_scope_source"),
    "",
    "",
    "",
)
VALIDATION = Patch("validation", "shortcut", (f"{_MIL}:Program.validate",), "", "", "")
TYPE_NAMES = Patch(
    "type-names", "shortcut", (f"{_MIL}.types.type_mapping:get_type_info",), "", "", ""
)
GARBAGE = Patch("coreml-garbage", "shortcut", ("gc:disable",), "", "", "")
DISTINCT_CALLS = Patch(
    "distinct-calls", "shortcut", ("torch.export:ExportedProgram.run_decompositions",), "", "", ""
)
DEFERRED_CODE = Patch("deferred-code", "shortcut", ("torch.fx:GraphModule.recompile",), "", "", "")
SHARED_ANCESTORS = Patch(
    "shared-ancestors", "shortcut", ("torch.fx.traceback:NodeSource.__init__",), "", "", ""
)
EXPORT_GARBAGE = Patch("tflite-garbage", "shortcut", ("gc:disable",), "", "", "")
STAND_INS = Patch(
    "stand-ins",
    "shortcut",
    ("litert_torch.backend.lowerings.registry:global_registry",),
    "",
    "",
    "",
)
CONSTANT_FOLDING = Patch(
    "constant-folding",
    "hook",
    ("litert_torch._convert.runtime_fold:RuntimeFoldPass._fold_module",),
    "",
    "",
    "",
)
LARGE_WEIGHTS = Patch(
    "large-weights",
    "fault",
    ("ai_edge_quantizer.algorithms.uniform_quantize.uniform_quantize_tensor:uniform_quantize",),
    "",
    "",
    "",
)
ONE_CAST = Patch(
    "one-cast",
    "shortcut",
    ("ai_edge_quantizer.algorithms.nonlinear_quantize.float_casting:tfl_flatbuffer_utils",),
    "",
    "",
    "",
)
STREAMED_FILE = Patch(
    "streamed-file",
    "shortcut",
    ("ai_edge_quantizer.model_modifier:ModelModifier._serialize_model",),
    "",
    "",
    "",
)
HIDDEN_IMPORTS = Patch("hidden-imports", "shortcut", ("torch.compiler:disable",), "", "", "")
NO_COMPILER = Patch("no-compiler", "shortcut", ("torch._dynamo:",), "", "", "")
PROGRESS_BARS = Patch("progress-bars", "noise", ("tqdm:tqdm.__init__",), "", "", "")
GELU = Patch("gelu", "hook", ("torch.nn.functional:gelu",), "", "", "")
SCHEDULER_NOISE = Patch(
    "scheduler-noise", "hook", ("<the scheduler's module>:randn_tensor",), "", "", ""
)
