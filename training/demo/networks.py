"""The demo's networks: Stable Diffusion's architecture at small scale, all sizes in one place."""

from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

PICTURE_SIZE = 64
LATENT_SIZE = 16
CONTEXT_WIDTH = 192

SCHEDULER = {
    "num_train_timesteps": 1000,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "prediction_type": "v_prediction",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}


def new_vae() -> AutoencoderKL:
    """Three levels: 64x64 pixels to a 16x16 latent of 4 channels."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(32, 64, 128),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=16,
        sample_size=PICTURE_SIZE,
    )


def new_unet() -> UNet2DConditionModel:
    """Three levels, cross-attention on all but the lowest block and in the middle."""
    return UNet2DConditionModel(
        sample_size=LATENT_SIZE,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(48, 96, 160),
        layers_per_block=1,
        cross_attention_dim=CONTEXT_WIDTH,
        attention_head_dim=4,
        norm_num_groups=16,
    )


def new_text_encoder(vocabulary: int) -> CLIPTextModel:
    """Three layers; ids follow the tokenizer: start is second to last, end and padding last."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocabulary,
            hidden_size=CONTEXT_WIDTH,
            intermediate_size=4 * CONTEXT_WIDTH,
            num_hidden_layers=3,
            num_attention_heads=4,
            max_position_embeddings=77,
            bos_token_id=vocabulary - 2,
            eos_token_id=vocabulary - 1,
            pad_token_id=vocabulary - 1,
            hidden_act="quick_gelu",
        )
    )
