"""Text to speech: text to SSL frames, which are then matched with any voice (kNN-TTS)."""
