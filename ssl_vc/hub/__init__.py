"""Models by name: what is bundled, and published files that are fetched and verified."""
