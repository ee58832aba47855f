"""Synthetic parallel speech: the same sentences in several voices with equal durations and F0, frame by frame."""
