"""Windows against the whole: how far frames move, away from seams and at them, per kind of encoder and layer.

    python tests/bench/bench_seams.py [CLIP...]

Random weights, so attention is as diffuse as it can be. Without clips, 45 s of noise that rises and falls like speech.
`jump` is the step across a seam over the same step in the whole.
"""

import sys

import torch

import ssl_vc
from pretrain import EncoderConfig, SpeechEncoder
from ssl_vc.features.extractor import plan_windows

KINDS = {
    "tiny": EncoderConfig.tiny(),
    "HuBERT Base": EncoderConfig.hubert_base(depth=6),
    "WavLM Base": EncoderConfig.wavlm_base(depth=6),
    "WavLM Large, raw": EncoderConfig.wavlm_large(depth=6, normalized=False),
}


def main() -> None:
    torch.manual_seed(0)
    time = torch.arange(45 * 16_000) / 16_000
    wav = 0.1 * torch.randn(len(time)) * (1.2 + torch.sin(2 * torch.pi * 3 * time))
    if sys.argv[1:]:
        wav = torch.cat([ssl_vc.read(path) for path in sys.argv[1:]])
    print(
        f"{len(wav) / 16_000:.1f} s",
        "encoder, layer: relative distance elsewhere / at seams, least cosine, jump",
        sep="\n",
    )
    for name, config in KINDS.items():
        encoder = SpeechEncoder(config).eval()
        for layer in (0, 3, 6):
            extractor = ssl_vc.Extractor(encoder, layer, dtype="float32")
            windows = extractor(wav)
            with torch.inference_mode():
                whole = encoder(wav[None], layer=layer)[0]
            seams = [window.keep_start for window in plan_windows(len(whole), context=extractor.context)][1:]
            near = torch.zeros(len(whole), dtype=torch.bool)
            for seam in seams:
                near[seam - 5 : seam + 5] = True
            distance = (windows - whole).norm(dim=1) / whole.norm(dim=1)
            cosine = torch.cosine_similarity(windows, whole, dim=-1).min()
            jump, natural = (
                frames.diff(dim=0).norm(dim=1)[[s - 1 for s in seams]].mean() for frames in (windows, whole)
            )
            far, at = distance[~near].mean(), distance[near].mean()
            print(f"{name}, {layer}: {far:.4f} / {at:.4f}, {cosine:.4f}, {jump / natural:.3f}", flush=True)


if __name__ == "__main__":
    main()
