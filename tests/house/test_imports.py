"""Nothing happens on import."""

import json
import subprocess
import sys

import pytest

HEAVY = ("transformers", "gradio", "librosa", "torchaudio", "scipy.signal", "matplotlib", "faiss", "accelerate")


def fresh(code):
    """Run code in a fresh interpreter and give what it prints as JSON."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stderr == ""
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    "module", ["ssl_vc", "ssl_vc.features.extractor", "ssl_vc.audio", "ssl_vc.cli", "pretrain", "vocoder"]
)
def test_heavy_packages_stay_out(module):
    assert fresh(f"import sys, json, {module}; print(json.dumps([m for m in {HEAVY} if m in sys.modules]))") == []


def test_import_costs_little_more_than_torch():
    """What comes on top of torch, in the same process: the machine's speed of the moment is then the same for both."""
    code = (
        "import json, time, torch; start = time.perf_counter(); import ssl_vc, vocoder; ours = time.perf_counter()\n"
        "ssl_vc.Extractor; print(json.dumps([ours - start, time.perf_counter() - start]))"
    )
    # three tries, the best of each: other work on the machine only ever adds
    ours, in_use = map(min, zip(*(fresh(code) for _ in range(3)), strict=True))
    assert ours < 0.3
    assert in_use < 0.8  # soundfile and the hub's library


def test_loading_a_model_does_not_load_the_compiler():
    code = "import sys, json, ssl_vc; ssl_vc.Extractor.from_pretrained('untrained'); "
    assert fresh(code + "print(json.dumps('torch._dynamo' in sys.modules))") is False


def test_import_changes_no_setting():
    state = "torch.get_num_threads(), str(torch.get_default_dtype()), logging.root.handlers, len(warnings.filters)"
    ours = "ssl_vc.features.extractor, ssl_vc.cli, pretrain, vocoder"
    before, after = fresh(
        "import json, logging, warnings, torch, huggingface_hub, soundfile, soxr, typer, numpy.lib\n"
        f"before = [{state}]\nimport {ours}\nprint(json.dumps([before, [{state}]]))"
    )
    assert before == after
