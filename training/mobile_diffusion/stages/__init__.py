"""The stages, in order: vae, decoder, base, relu, steps, one_step."""
