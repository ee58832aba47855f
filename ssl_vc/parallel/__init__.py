"""Parallel speech: the same sentences in several voices, with the same timing and F0, frame by frame."""
