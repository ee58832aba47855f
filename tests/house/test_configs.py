"""Every YAML in configs/ loads into the dataclass it is meant for."""

from pathlib import Path

import pytest
import typer
from omegaconf import OmegaConf
from omegaconf.errors import ConfigKeyError, ValidationError

from pretrain import EncoderConfig
from pretrain.probing.probe import ProbeConfig
from pretrain.recipe import PretrainConfig
from ssl_vc.cli.settings import read_config
from ssl_vc.evaluate.protocol import Protocol, read_protocol
from ssl_vc.files import expand_variables
from ssl_vc.tts.acoustic import AcousticConfig
from ssl_vc.tts.recipe import TTSConfig
from ssl_vc.units.training import UnitsConfig, vocoder_recipe
from vocoder.kinds import KINDS
from vocoder.training.recipe import TrainConfig

CLIPS = "SSL_VC_CLIPS"  # names the clips of configurations
CONFIGS = Path(__file__).parents[2] / "configs"
MEANT_FOR = {
    "encoder": EncoderConfig,
    "pretrain": PretrainConfig,
    "probe": ProbeConfig,
    "units": UnitsConfig,
    "vocoder": TrainConfig,
    "evaluate": Protocol,
    "tts": TTSConfig,
}


@pytest.fixture(autouse=True)
def clips(monkeypatch):
    monkeypatch.setenv(CLIPS, "my/clips.tsv")


def load(path):
    wanted = OmegaConf.structured(MEANT_FOR[path.parent.name])
    return OmegaConf.to_object(OmegaConf.merge(wanted, OmegaConf.load(path)))


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("*.y*ml")), ids=lambda path: str(path.relative_to(CONFIGS)))
def test_config_loads(path):
    config = load(path)
    assert isinstance(config, MEANT_FOR[path.parent.name])
    if isinstance(config, EncoderConfig):
        named = getattr(EncoderConfig, path.stem.replace("-", "_"), None)
        assert named is None or config == named()
    elif isinstance(config, PretrainConfig):
        assert config.iterations
        assert [config.train_config(number + 1).steps for number in range(len(config.iterations))]
    elif isinstance(config, TTSConfig):
        assert AcousticConfig(**{"dim": 9, **config.shape}).dim == 9
    elif isinstance(config, UnitsConfig):
        recipe = vocoder_recipe(config, path.parent)
        assert recipe.generator_config().hop_length == 320
    elif isinstance(config, TrainConfig):
        _, shape = KINDS[config.vocoder]
        assert shape(**config.shape).hop_length == shape(**config.shape).sample_rate // 50


def test_there_are_configs():
    assert list(CONFIGS.rglob("*.y*ml"))


NEED_CLIPS = sorted(path for path in CONFIGS.rglob("*.yaml") if CLIPS in path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", NEED_CLIPS, ids=lambda path: str(path.relative_to(CONFIGS)))
def test_clips_are_named_by_a_variable_or_a_setting(path, monkeypatch):
    kind = MEANT_FOR[path.parent.name]
    if kind is Protocol:
        monkeypatch.setenv(CLIPS, "my/clips.tsv")
        with pytest.raises(ValueError, match=r"^there are no clips at my/clips\.tsv"):
            read_protocol(path).test_set()
        return
    assert read_config(path, [], kind, path.parent.name).clips == "my/clips.tsv"
    monkeypatch.delenv(CLIPS)
    config = read_config(path, ["clips=other"], kind, path.parent.name)
    assert {config.clips, getattr(config, "valid_clips", "other")} == {"other"}
    with pytest.raises(typer.BadParameter) as caught:
        read_config(path, [], kind, path.parent.name)
    sentence = f"{path}: set the environment variable SSL_VC_CLIPS to a folder or table of clips, or write clips=PATH"
    assert str(caught.value) == sentence


def test_a_variable_may_have_a_default(monkeypatch):
    monkeypatch.delenv(CLIPS)
    assert expand_variables("${oc.env:SSL_VC_CLIPS,my/clips.tsv}") == "my/clips.tsv"
    with pytest.raises(ValueError, match=r"^the environment variable SSL_VC_CLIPS is not set; set it to a folder"):
        expand_variables("${oc.env:SSL_VC_CLIPS}")


def test_no_config_names_a_path_outside_the_checkout():
    """But for protocols, which name the clips of one collection by their keys."""
    outside = [path for path in CONFIGS.rglob("*.yaml") if "../shared" in path.read_text(encoding="utf-8")]
    assert {path.parent.name for path in outside} <= {"evaluate"}


@pytest.mark.parametrize(("text", "error"), [("dimm: 3", ConfigKeyError), ("dim: wide", ValidationError)])
def test_wrong_configs_are_noticed(tmp_path, text, error):
    (tmp_path / "encoder").mkdir()
    path = tmp_path / "encoder" / "wrong.yaml"
    path.write_text(text)
    with pytest.raises(error):
        load(path)
