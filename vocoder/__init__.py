"""vocoder speaks: frames in, sound out."""
