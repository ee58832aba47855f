"""Probing: phone and speaker information in each layer of an encoder."""
