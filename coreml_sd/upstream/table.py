"""Every change to another library, and every internal of one that is used or copied.

docs/upstream.md shows both tables; a test holds them against the code. Gains are of SD 1.5's UNet:
what its conversion takes more with this one shortcut off.
"""

from __future__ import annotations

from dataclasses import dataclass

from coreml_sd.upstream.patch import Patch
from coreml_sd.upstream.plain import check_plain

_MIL = "coremltools.converters.mil.mil"
_UNIFORM = "ai_edge_quantizer.algorithms.uniform_quantize.uniform_quantize_tensor"
_CASTING = "ai_edge_quantizer.algorithms.nonlinear_quantize.float_casting"
_PLAIN = "tests/upstream/test_plain.py::test_the_files_are_the_same_byte_for_byte"
_QUANTIZER_FAULTS = "tests/upstream/test_ai_edge_quantizer_faults.py"
_COREMLTOOLS = "coremltools 9.0"
_TORCH = "torch 2.13"
_LITERT_TORCH = "litert-torch 0.10"
_QUANTIZER = "ai-edge-quantizer up to 0.10"

FOLDING_MARKS = Patch(
    "folding-marks",
    "shortcut",
    (f"{_MIL}:Block._propagate_nonreplaceable_vars",),
    "The mark that keeps passes from folding compressed constants is spread again after every op, "
    "and no program here has one before it is written.",
    _COREMLTOOLS,
    _PLAIN,
    "2.0 s (5 %)",
)
BETWEEN_PASSES = Patch(
    "between-passes",
    "shortcut",
    (
        f"{_MIL}:Block.__str__",
        f"{_MIL}:Function.__str__",
        f"{_MIL}:Function.to_str",
        f"{_MIL}:Block._copy_scope_info",
        f"{_MIL}:Program._add_essential_scope_source",
        f"{_MIL}:Program.validate",
    ),
    "After each pass the program is checked again, which `passes.check_program` does once; it is "
    "made a text for debug lines that are off; notes of where ops came from, which no file holds, "
    "are handed on.",
    _COREMLTOOLS,
    _PLAIN,
    "2.4 s (8 %)",
)
TYPE_NAMES = Patch(
    "type-names",
    "shortcut",
    (f"{_MIL}.types.type_mapping:get_type_info",),
    "What a type is called is asked a million times of some hundred types, and looked up once.",
    _COREMLTOOLS,
    _PLAIN,
    "1.6 s (4 %)",
)
GARBAGE = Patch(
    "coreml-garbage",
    "shortcut",
    ("gc:disable",),
    "Python's collector walks some million live objects of a program again and again.",
    _COREMLTOOLS,
    _PLAIN,
    "1.5 s (4 %)",
)
HIDDEN_IMPORTS = Patch(
    "hidden-imports",
    "shortcut",
    (
        "transformers:",
        "torchao:",
        "peft:",
        "scipy:",
        "torch._dynamo:",
        "coremltools.optimize.torch:",
        "torch.compiler:disable",
    ),
    "diffusers and coremltools load these for adapters, quantized weights and training; a process "
    "that only converts (`--no-verify`) needs none of them for a UNet or a VAE.",
    f"diffusers 0.42, {_COREMLTOOLS}, {_TORCH}",
    "tests/upstream/test_hidden_imports.py::test_the_networks_and_coremltools_come_alone",
    "3.9 s (11 %), 0.23 GB (15 %); 0.7 s in a process that converts a text encoder "
    "too, which loads transformers",
)
NO_COMPILER = Patch(
    "no-compiler",
    "shortcut",
    ("torch._dynamo:",),
    "The first op on a `meta` tensor loads torch's compiler, to say that it is not to be compiled.",
    _TORCH,
    "tests/upstream/test_hidden_imports.py::"
    "test_negative_controls_without_leave_the_libraries_bring_them",
    "1.0 s (3 %), 0.12 GB (8 %)",
)
DISTINCT_CALLS = Patch(
    "distinct-calls",
    "shortcut",
    ("torch.export:ExportedProgram.run_decompositions",),
    "Of 7,500 calls 830 differ; each is retraced once, and not every call three times.",
    _TORCH,
    "tests/upstream/test_torch_distinct_calls.py::test_the_file_calculates_the_same",
    "51 s (81 %)",
)
DEFERRED_CODE = Patch(
    "deferred-code",
    "shortcut",
    ("torch.fx:GraphModule.recompile",),
    "Every graph becomes Python code whenever it changes, and most are never called.",
    _TORCH,
    "tests/upstream/test_torch_export_shortcuts.py::test_a_graph_is_compiled_when_it_is_called",
    "12 s (19 %)",
)
EXPORT_GARBAGE = Patch(
    "tflite-garbage",
    "shortcut",
    ("gc:disable",),
    "Python's collector walks some million live objects of a graph again and again.",
    _LITERT_TORCH,
    "tests/upstream/test_torch_export_shortcuts.py::test_everything_is_put_back",
    "6 s (10 %)",
)
STAND_INS = Patch(
    "stand-ins",
    "shortcut",
    (
        "litert_torch.backend.lowerings.registry:global_registry",
        "litert_torch._convert.runtime_fold:RuntimeFoldPass._fold_module",
    ),
    "The exporter holds every weight several times over; a name stands for each large one until "
    "the file is written.",
    _LITERT_TORCH,
    "tests/targets/test_placeholders.py::test_quantized_files_are_equal_byte_for_byte",
    "7.5 GB (10.9 where it takes 3.4)",
)
ONE_CAST = Patch(
    "one-cast",
    "shortcut",
    (f"{_CASTING}:tfl_flatbuffer_utils",),
    "Every weight is cast to fp16 twice, and both are kept.",
    _QUANTIZER,
    f"{_QUANTIZER_FAULTS}::TestLargeConvolutions::test_a_newer_version_is_left_alone",
    "8 s (12 %), 1.6 GB (47 %)",
)
STREAMED_FILE = Patch(
    "streamed-file",
    "shortcut",
    ("ai_edge_quantizer.model_modifier:ModelModifier._serialize_model",),
    "A file of gigabytes is written through a mapping, weight by weight from memory.",
    _QUANTIZER,
    f"{_QUANTIZER_FAULTS}::TestLargeConvolutions::test_a_newer_version_is_left_alone",
    "9 s (14 %)",
)
LARGE_WEIGHTS = Patch(
    "large-weights",
    "fault",
    (f"{_UNIFORM}:uniform_quantize",),
    "A weight above 32 MiB and of rank above 2 cannot be quantized to integers: the data is "
    "flattened to two axes, its scales are not.",
    _QUANTIZER,
    f"{_QUANTIZER_FAULTS}::TestLargeConvolutions::test_the_fault_still_exists",
)
GELU = Patch(
    "gelu",
    "hook",
    ("torch.nn.functional:gelu", "<an activation of the network>:act"),
    "The reference of a file with the tanh formula computes by it too.",
    _TORCH,
    "tests/targets/test_tflite_proof.py::TestNegativeControls::"
    "test_a_clipped_gelu_taken_for_the_exact_one",
)
SCHEDULER_NOISE = Patch(
    "scheduler-noise",
    "hook",
    ("<the scheduler's module>:randn_tensor",),
    "A scheduler's steps are read off by giving it the noise that it draws.",
    "diffusers 0.42",
    "tests/schedulers/test_linear_scheduler.py::test_noise_is_drawn_where_the_scheduler_draws_it",
)
PROGRESS_BARS = Patch(
    "progress-bars",
    "noise",
    ("tqdm:tqdm.__init__",),
    "coremltools' own bars would be drawn over ours.",
    _COREMLTOOLS,
    "tests/upstream/test_noise.py::test_bars_are_off_during_a_conversion_and_on_after_it",
)
PATCHES = (
    FOLDING_MARKS,
    BETWEEN_PASSES,
    TYPE_NAMES,
    GARBAGE,
    HIDDEN_IMPORTS,
    NO_COMPILER,
    DISTINCT_CALLS,
    DEFERRED_CODE,
    EXPORT_GARBAGE,
    STAND_INS,
    ONE_CAST,
    STREAMED_FILE,
    LARGE_WEIGHTS,
    GELU,
    SCHEDULER_NOISE,
    PROGRESS_BARS,
)


@dataclass(frozen=True)
class Internal:
    """What of other libraries is used or copied without being replaced, and why.

    Attributes:
        names: as `module:name.in.it`.
        used_in: the module here.
        why: one or two sentences.
        versions: that it was tried with, or that have the fault.
        test: what fails when it is gone or wrong.
    """

    names: tuple[str, ...]
    used_in: str
    why: str
    versions: str
    test: str


INTERNALS = (
    Internal(
        ("logging:Logger.addFilter",),
        "upstream/noise.py",
        "Known harmless lines of coremltools, transformers, diffusers and torch are dropped.",
        f"{_COREMLTOOLS}, {_TORCH}",
        "tests/upstream/test_noise.py::test_known_lines_are_dropped_and_others_are_not",
    ),
    Internal(
        tuple(
            f"diffusers.loaders.single_file_utils:convert_{kind}_checkpoint"
            for kind in ("ldm_unet", "ldm_vae", "open_clip")
        ),
        "upstream/diffusers_single_file.py",
        "The names of tensors in single files, which diffusers' loaders map and nothing else of it "
        "offers.",
        "diffusers 0.36 to 0.43",
        "tests/models/test_single_files.py::test_a_file_becomes_the_folder_that_it_came_from",
    ),
    Internal(
        ("coremltools:PassPipeline.DEFAULT",),
        "targets/coreml/passes.py",
        "Those of the default passes that change a program of ours, in their order: the others "
        "look at weights, for which names stand.",
        _COREMLTOOLS,
        "tests/targets/test_plain_path.py::test_the_programs_are_the_same",
    ),
    Internal(
        (
            "coremltools.converters.mil.backend.mil.load:MILProtoExporter.translate_const",
            "coremltools.converters.mil.backend.mil.load:MILProtoExporter.create_file_value",
        ),
        "targets/coreml/program_file.py",
        "Overridden in a class of ours: weights are written to their file once, from theirs.",
        _COREMLTOOLS,
        "tests/targets/test_palettized_constants.py::"
        "test_the_saved_weights_are_the_solvers_bit_for_bit",
    ),
    Internal(
        (f"{_MIL}:Var._sym_val",),
        "upstream/coremltools_constants.py",
        "A constant is given an array without memory; the library's way would copy it.",
        _COREMLTOOLS,
        "tests/targets/test_plain_path.py::test_the_programs_are_the_same",
    ),
    Internal(
        ("torch.library:Library._destroy",),
        "upstream/torch_meta.py",
        "Kernels of `meta` convolutions that a trace can record; torch's are Python that asks for "
        "sizes, which a trace answers with tensors.",
        _TORCH,
        "tests/targets/test_plain_path.py::test_the_programs_are_the_same",
    ),
    Internal(
        ("torch:UntypedStorage._cdata",),
        "upstream/torch_tensors.py",
        "Tells which `meta` tensors share memory: all their data pointers are 0.",
        _TORCH,
        "tests/mobile/test_networks.py::test_weights_are_shared_and_keep_their_names",
    ),
    Internal(
        ("torch.utils._python_dispatch:TorchDispatchMode",),
        "upstream/torch_dispatch.py",
        "Documented, and importable from there alone.",
        _TORCH,
        "tests/mobile/test_networks.py::test_unet",
    ),
    Internal(
        (
            "torch._guards:detect_fake_mode",
            "torch._subclasses.fake_tensor:FakeTensorMode",
            "torch.fx.proxy:_COPY_META_FIELDS",
            "torch.export.exported_program:ModuleCallSignature",
        ),
        "upstream/torch_distinct_calls.py",
        "Exported programs are taken apart and put together again.",
        _TORCH,
        "tests/upstream/test_torch_distinct_calls.py::test_equal_layers_are_retraced_once",
    ),
    Internal(
        (
            "litert_torch.backend.inline_consts:_ConstantFingerprint",
            "litert_torch.backend.inline_consts:_build_const",
            "litert_torch.backend.inline_consts:_get_tensor_uniform_value",
        ),
        "upstream/litert_torch_constants.py",
        "Stand-ins are told apart and put in as the exporter does with constants of its own.",
        _LITERT_TORCH,
        "tests/targets/test_placeholders.py::test_tensors_keep_names_shapes_and_order",
    ),
    Internal(
        ("torch.nn:Parameter.data",),
        "upstream/litert_torch_faults.py",
        "A fault of the exporter: it takes the address of a copy that it frees for a constant's, "
        "and two constants for one; weights are made contiguous meanwhile.",
        "litert-torch 0.9 and 0.10",
        "tests/upstream/test_litert_torch_faults.py::test_the_fault_still_exists",
    ),
    Internal(
        ("ai_edge_quantizer.quantizer:Quantizer",),
        "upstream/ai_edge_quantizer_faults.py",
        "Its `_float_model` is given weights that are read when they are asked for.",
        _QUANTIZER,
        "tests/targets/test_unread_weights.py::test_no_convolution_is_kept",
    ),
    Internal(
        ("ai_edge_litert.schema_py_generated:BufferT",),
        "upstream/ai_edge_litert_faults.py",
        "A fault of the GPU delegate: it refuses lookups in tables of fp16, which stay fp32.",
        "ai-edge-litert up to 2.3",
        f"{_QUANTIZER_FAULTS}::TestFp16Lookups::test_the_fault_still_exists",
    ),
    Internal(
        ("ai_edge_litert.schema_py_generated:Buffer",),
        "upstream/flatbuffers_vectors.py",
        "Its `_tab` tells where a vector lies in the file.",
        "flatbuffers 25.12",
        "tests/runtimes/test_tflite_file.py::test_it_reads_what_was_written",
    ),
    Internal(
        ("diffusers:StableDiffusionXLPipeline._get_add_time_ids",),
        "upstream/diffusers_hooks.py",
        "What SDXL's UNet is told of a picture's size is compared with the manifest.",
        "diffusers 0.42",
        "tests/parity/test_diffusers_source.py::TestTheSourceOpenedByDiffusers::"
        "test_what_generation_is_told_agrees",
    ),
)


def check_environment() -> None:
    """Refuse a name in `COREML_SD_PLAIN` that no shortcut has.

    Raises:
        UserError: names it.
    """
    check_plain([patch.name for patch in PATCHES if patch.kind == "shortcut"])
