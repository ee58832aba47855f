"""Training of vocoders: data, discriminators, losses and the loop."""
