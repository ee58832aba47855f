"""Voices: enrolment of a speaker, one portable file, and a quality report."""
