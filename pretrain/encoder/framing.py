"""Frame arithmetic, the same for both front ends: frame t covers the samples 320 t .. 320 t + 400.

samples   0      320     640     960
          |-------|-------|-------|---
frame 0   [=========]                      400 samples = 25 ms
frame 1           [=========]
frame 2                   [=========]
"""

SAMPLE_RATE = 16_000
HOP = 320  # samples from one frame to the next
RECEPTIVE_FIELD = 400  # samples of one frame
FRAME_RATE = SAMPLE_RATE // HOP


def num_frames(samples: int) -> int:
    """Count the frames of a clip: 0 below 400 samples, 49 for one second."""
    return max((samples - RECEPTIVE_FIELD) // HOP + 1, 0)


def num_samples(frames: int) -> int:
    """Count the samples that some consecutive frames cover."""
    return (frames - 1) * HOP + RECEPTIVE_FIELD
