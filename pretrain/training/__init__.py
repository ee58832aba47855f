"""The training loop: model, batches, checkpoints, metrics and export."""
