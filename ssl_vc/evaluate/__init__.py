"""Evaluation: intelligibility, speaker similarity, F0, spectral distance, naturalness and cost.

Metrics take (samples,) at 16 kHz, the original first; `ssl_vc.read((wav, rate))` resamples. They compare frame by
frame, so the two must be aligned; the longer one is cut. An undefined metric (of silent, too short or unvoiced audio)
is None.
"""
