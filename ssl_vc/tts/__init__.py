"""Text to speech: text to frames that any voice is matched with."""
