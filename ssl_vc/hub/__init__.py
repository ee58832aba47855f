"""Models by name: bundled ones, and published files that are downloaded and verified."""
