"""Features: frames of a sound for matching and vocoding, and files that hold them."""
