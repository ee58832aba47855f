"""How fast a step of pretraining is: ours against transformers' HubertModel with the same shape, masks and loss.

    python tests/bench/bench_pretrain.py [--seconds 4] [--rows 4] [--steps 5] [--precision float32 bfloat16]

Both take the same batches in turn, in one run, so that what else the machine does weighs on both alike.
"""

import argparse
import statistics
import time
from contextlib import nullcontext

import numpy as np
import torch
from transformers import HubertConfig, HubertModel

from pretrain import EncoderConfig, SpeechEncoder
from pretrain.data.batch import Batch
from pretrain.objectives.hubert import Hubert, HubertSettings
from pretrain.objectives.masking import batch_span_masks

STILL = {"dropout": 0.0, "attention_dropout": 0.0, "layer_drop": 0.0}
SMALL = {"conv_dim": 256, "dim": 256, "depth": 6, "heads": 4, "ffn_dim": 1024, "pos_kernel": 32, "pos_groups": 8}
SHAPES = {
    "small, group norm": EncoderConfig(**SMALL, **STILL),
    "small, layer norm": EncoderConfig(**SMALL, **STILL, conv_norm="layer", pre_norm=True),
    "HuBERT Base": EncoderConfig.hubert_base(**STILL),
}


def theirs(config):
    """Make transformers' model of the same shape."""
    return HubertModel(
        HubertConfig(
            hidden_size=config.dim,
            num_hidden_layers=config.depth,
            num_attention_heads=config.heads,
            intermediate_size=config.ffn_dim,
            conv_dim=(config.conv_dim,) * 7,
            conv_bias=config.conv_bias,
            feat_extract_norm=config.conv_norm,
            do_stable_layer_norm=config.pre_norm,
            num_conv_pos_embeddings=config.pos_kernel,
            num_conv_pos_embedding_groups=config.pos_groups,
            hidden_dropout=0.0,
            attention_dropout=0.0,
            activation_dropout=0.0,
            feat_proj_dropout=0.0,
            layerdrop=0.0,
            apply_spec_augment=True,
            mask_time_prob=0.8,
        )
    )


def batch_of(rows, seconds):
    """Make a batch of equally long clips."""
    samples = round(16_000 * seconds)
    frames = (samples - 400) // 320 + 1
    mask = batch_span_masks([frames] * rows, frames, [np.random.default_rng(row) for row in range(rows)])
    counts, none = torch.full((rows,), frames), torch.zeros(rows, dtype=torch.long)
    labels = torch.randint(100, (1, rows, frames))
    wav = 0.1 * torch.randn(rows, samples)
    return Batch(wav, torch.full((rows,), samples), counts, torch.from_numpy(mask), labels, none[:, None], none)


def main():
    """Measure, and print a table."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--seconds", type=float, default=4.0)
    options.add_argument("--rows", type=int, default=4)
    options.add_argument("--steps", type=int, default=5)
    options.add_argument("--precision", nargs="+", default=["float32", "bfloat16"])
    options.add_argument("--shapes", nargs="+", default=list(SHAPES), choices=list(SHAPES))
    asked = options.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    batch = batch_of(asked.rows, asked.seconds).to(device)
    print(
        f"{asked.rows} x {asked.seconds:g} s on {device}, {torch.get_num_threads()} threads: seconds of speech a second"
    )
    for name in asked.shapes:
        config = SHAPES[name]
        for precision in asked.precision:
            torch.manual_seed(0)
            ours, hubert = SpeechEncoder(config).to(device).train(), theirs(config).to(device).train()
            heads = [Hubert(HubertSettings(feature_weight=0.0), ours, [100]).to(device) for _ in range(2)]

            def our_loss(ours=ours, head=heads[0]):
                return head(ours, batch).losses["masked"]

            def their_loss(hubert=hubert, head=heads[1]):
                frames = hubert(batch.wav, mask_time_indices=batch.mask).last_hidden_state
                return head._predict(frames, batch.mask, batch.labels, "masked")[0]

            times = ([], [])
            sides = [(our_loss, [*ours.parameters(), *heads[0].parameters()])]
            sides.append((their_loss, [*hubert.parameters(), *heads[1].parameters()]))
            optimizers = [torch.optim.AdamW(parameters, 1e-4) for _, parameters in sides]
            for step in range(asked.steps + 1):
                for (loss, _), optimizer, spent in zip(sides, optimizers, times, strict=True):
                    start = time.perf_counter()
                    autocast = torch.autocast(device.type, torch.bfloat16) if precision == "bfloat16" else nullcontext()
                    with autocast:
                        total = loss() / int(batch.mask.sum())
                    optimizer.zero_grad()
                    total.backward()
                    optimizer.step()
                    if device.type == "cuda":
                        torch.cuda.synchronize()
                    if step:  # the first one warms up
                        spent.append(time.perf_counter() - start)
            mine, other = (batch.seconds / statistics.median(spent) for spent in times)
            print(f"{name:<18} {precision:<9} ours {mine:7.1f}   transformers {other:7.1f}   ratio {mine / other:.2f}")


if __name__ == "__main__":
    main()
