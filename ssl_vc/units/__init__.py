"""Discrete units: speech in a few hundred bits a second, and back, in any voice."""
