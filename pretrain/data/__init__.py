"""Clips for pretraining: manifests, packs, shards, and batches of them."""
