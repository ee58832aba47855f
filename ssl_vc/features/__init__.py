"""Features for matching and vocoding, and their files."""
