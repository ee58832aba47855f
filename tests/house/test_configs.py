"""Every YAML in configs/ loads into the dataclass it is meant for."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf
from omegaconf.errors import ConfigKeyError, ValidationError

from pretrain import EncoderConfig
from pretrain.probing.probe import ProbeConfig
from pretrain.recipe import PretrainConfig
from ssl_vc.evaluate.protocol import Protocol
from ssl_vc.tts.acoustic import AcousticConfig
from ssl_vc.tts.recipe import TTSConfig
from ssl_vc.units.training import UnitsConfig, vocoder_recipe
from vocoder.kinds import KINDS
from vocoder.training.recipe import TrainConfig

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
        assert [config.trained(number + 1).steps for number in range(len(config.iterations))]
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


@pytest.mark.parametrize(("text", "error"), [("dimm: 3", ConfigKeyError), ("dim: wide", ValidationError)])
def test_wrong_configs_are_noticed(tmp_path, text, error):
    (tmp_path / "encoder").mkdir()
    path = tmp_path / "encoder" / "wrong.yaml"
    path.write_text(text)
    with pytest.raises(error):
        load(path)
