"""The tflite target: what Android files need beyond the shared mobile form."""
