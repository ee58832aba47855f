"""Discrete units: speech at a few hundred bits per second, resynthesised in any voice."""
