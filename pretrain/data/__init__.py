"""Training data: manifests, packed audio, shards, augmentation and batches."""
