"""Nothing happens on import."""

import json
import subprocess
import sys

import pytest

HEAVY = ("transformers", "gradio", "librosa", "torchaudio", "scipy.signal", "matplotlib", "faiss", "accelerate")


def fresh(code):
    """Run code in a fresh interpreter; returns the JSON it prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stderr == ""
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    "module", ["ssl_vc", "ssl_vc.features.extractor", "ssl_vc.audio", "ssl_vc.cli", "pretrain", "vocoder"]
)
def test_heavy_packages_stay_out(module):
    assert fresh(f"import sys, json, {module}; print(json.dumps([m for m in {HEAVY} if m in sys.modules]))") == []


def test_import_costs_little_beside_torch():
    """Relative to importing torch in the same process, so the speed of the machine cancels out."""
    code = (
        "import json, time; start = time.perf_counter(); import torch; torch_seconds = time.perf_counter() - start\n"
        "start = time.perf_counter(); import ssl_vc, vocoder; ours = time.perf_counter() - start\n"
        "ssl_vc.Extractor; in_use = time.perf_counter() - start\n"
        "print(json.dumps([ours / torch_seconds, in_use / torch_seconds]))"
    )
    ours, in_use = map(min, zip(*(fresh(code) for _ in range(3)), strict=True))
    assert ours < 0.1
    assert in_use < 0.5  # soundfile and the hub's library


def test_loading_a_model_does_not_load_the_compiler():
    code = "import sys, json, ssl_vc; ssl_vc.Extractor.from_pretrained('untrained'); "
    assert fresh(code + "print(json.dumps('torch._dynamo' in sys.modules))") is False


def test_import_changes_no_setting():
    state = "torch.get_num_threads(), str(torch.get_default_dtype()), logging.root.handlers, len(warnings.filters)"
    ours = "ssl_vc.features.extractor, ssl_vc.cli, pretrain, vocoder"
    before, after = fresh(
        "import json, logging, warnings, torch, huggingface_hub.hub_mixin, soundfile, soxr, typer, numpy.lib\n"
        f"before = [{state}]\nimport {ours}\nprint(json.dumps([before, [{state}]]))"
    )
    assert before == after
