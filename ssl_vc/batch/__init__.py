"""Batch conversion: many jobs, resumable, on this machine or on Ray."""
