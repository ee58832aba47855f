"""Voices: a speaker's frames in one file, how they are enrolled, and a report on their quality."""
