"""What each scheduler reads of a scheduler config, with the defaults of its diffusers class.

Written down, because diffusers takes seconds to import; a test holds it to diffusers. Settings that
only matter with others that are refused are left out.
"""

from __future__ import annotations

from typing import Any

_NOISE: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.0001,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "trained_betas": None,
    "prediction_type": "epsilon",
}
_LATENT_NOISE = {
    **_NOISE,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
}
_LEADING = {"timestep_spacing": "leading", "steps_offset": 0}
_LINSPACE = {"timestep_spacing": "linspace", "steps_offset": 0}
_ZERO_SNR = {"rescale_betas_zero_snr": False}
_SIGMAS = {
    "use_karras_sigmas": False,
    "use_exponential_sigmas": False,
    "use_beta_sigmas": False,
    "sigma_min": None,
    "sigma_max": None,
    "final_sigmas_type": "zero",
    **_ZERO_SNR,
}
_DPM = {
    **_NOISE,
    **_LINSPACE,
    **_SIGMAS,
    "use_lu_lambdas": False,
    "use_flow_sigmas": False,
    "lambda_min_clipped": -float("inf"),
    "thresholding": False,
    "variance_type": None,
    "solver_type": "midpoint",
    "lower_order_final": True,
    "euler_at_final": False,
}

READ: dict[str, dict[str, Any]] = {
    "dpm++": _DPM,
    "dpm++-karras": _DPM,
    "ddim": {
        **_NOISE,
        **_LEADING,
        **_ZERO_SNR,
        "set_alpha_to_one": True,
        "thresholding": False,
        "clip_sample": True,
        "clip_sample_range": 1.0,
    },
    "pndm": {**_NOISE, **_LEADING, "set_alpha_to_one": False},
    "euler": {
        **_NOISE,
        **_LINSPACE,
        **_SIGMAS,
        "interpolation_type": "linear",
        "timestep_type": "discrete",
    },
    "euler-a": {**_NOISE, **_LINSPACE, **_ZERO_SNR},
    "unipc": {
        **_NOISE,
        **_LINSPACE,
        **_SIGMAS,
        "use_flow_sigmas": False,
        "use_dynamic_shifting": False,
        "shift_terminal": None,
        "thresholding": False,
        "solver_type": "bh2",
        "solver_order": 2,
        "solver_p": None,
        "lower_order_final": True,
        "predict_x0": True,
        "disable_corrector": [],
    },
    "lcm": {
        **_LATENT_NOISE,
        **_ZERO_SNR,
        "original_inference_steps": 50,
        "timestep_scaling": 10.0,
        "thresholding": False,
        "clip_sample": False,
        "clip_sample_range": 1.0,
    },
    "tcd": {**_LATENT_NOISE, **_ZERO_SNR, "original_inference_steps": 50},
    "flow-match-euler": {
        "num_train_timesteps": 1000,
        "shift": 1.0,
        "shift_terminal": None,
        "use_dynamic_shifting": False,
        "time_shift_type": "exponential",
        "use_karras_sigmas": False,
        "use_exponential_sigmas": False,
        "use_beta_sigmas": False,
        "invert_sigmas": False,
        "stochastic_sampling": False,
    },
}
