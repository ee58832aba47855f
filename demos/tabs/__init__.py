"""A module for each tab."""
