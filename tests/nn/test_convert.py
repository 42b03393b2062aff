"""Networks from PyTorch checkpoints: recorded outputs of DeepInverse, and itself where it is installed."""

import functools
import pathlib

import jax
import numpy as np
import pytest

from invjax.nn import DnCNN, DRUNet, GradientStep, frozen, load_torch, read_torch
from invjax.nn.architecture import describe

from .checkpoints import write

FIXTURES = pathlib.Path(__file__).parent / "fixtures"  # fixtures/make.py says what they are
FILES = {"drunet": "drunet.pth", "gsdrunet": "gsdrunet.ckpt", "dncnn": "dncnn.pth"}
SIGMA = 0.2


@functools.cache
def expected():
    with np.load(FIXTURES / "expected.npz") as file:
        return dict(file)


@functools.cache
def loaded(name):
    return load_torch(FIXTURES / FILES[name])


def tensors(name):
    """The tensors of a fixture by their names there."""
    content = read_torch(FIXTURES / FILES[name])
    return dict(content.get("state_dict", content))


@pytest.mark.parametrize("name", FILES)
def test_outputs_are_those_of_deepinverse(name):
    x, y = expected()[f"{name}_x"], expected()[f"{name}_y"]
    found = frozen(loaded(name))(x, SIGMA)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, y, atol=1e-6)
    assert np.abs(x - y).max() > 0.1


def test_potential_is_that_of_deepinverse():
    net, x = loaded("gsdrunet"), expected()["gsdrunet_x"]
    potential = jax.jit(lambda x: net.potential(x, SIGMA))(x)
    np.testing.assert_allclose(potential, expected()["potential_y"][0], rtol=1e-5)


@pytest.mark.parametrize("name", FILES)
def test_every_weight_takes_part(name):
    """The outputs would tell each tensor by itself from its transpose or another: without it, they differ."""
    net, x, y = frozen(loaded(name)), expected()[f"{name}_x"], expected()[f"{name}_y"]
    leaves, tree = jax.tree.flatten(net)
    for k in range(len(leaves)):
        without = tree.unflatten([leaf * (i != k) for i, leaf in enumerate(leaves)])
        assert np.abs(without(x, SIGMA) - y).max() > 1e-4


def test_architectures_are_read_off_the_shapes():
    assert isinstance(loaded("drunet"), DRUNet)
    assert describe(loaded("drunet"))["arguments"]["features"] == [2, 3, 4, 5]
    gradient_step = loaded("gsdrunet")
    assert isinstance(gradient_step, GradientStep)
    assert (gradient_step.net.num_blocks, gradient_step.net.activation, gradient_step.net.channels) == (2, "elu", 1)
    dncnn = loaded("dncnn")
    assert isinstance(dncnn, DnCNN)
    assert (dncnn.channels, dncnn.features, dncnn.num_layers, dncnn.use_bias) == (3, 4, 3, True)
    assert load_torch(FIXTURES / "drunet.pth", "drunet", activation="softplus").activation == "softplus"


def test_wrappers_and_the_names_of_kair(tmp_path):
    """KAIR's DnCNN is ``x - N(x)``, in one list with the activations; ``module.`` comes from data parallelism."""
    theirs = tensors("dncnn")
    places = {"in_conv": "model.0", "conv_list.0": "model.2", "out_conv": "model.4"}
    kair = {
        f"module.{places[layer]}.{kind}": theirs[f"{layer}.{kind}"] for layer in places for kind in ("weight", "bias")
    }
    write(tmp_path / "kair.pth", {"state_dict": kair, "epoch": 3})
    x, y = expected()["dncnn_x"], expected()["dncnn_y"]
    np.testing.assert_allclose(frozen(load_torch(tmp_path / "kair.pth"))(x), 2 * x - y, atol=1e-6)
    without = {name: tensor for name, tensor in theirs.items() if name.endswith("weight")}
    write(tmp_path / "no_bias.pth", without)
    assert not load_torch(tmp_path / "no_bias.pth", "dncnn").use_bias


def changed(name, **changes):
    """Tensors of a fixture with some replaced, added, or dropped (None)."""
    content = tensors(name) | {key.replace("__", "."): value for key, value in changes.items()}
    return {key: value for key, value in content.items() if value is not None}


REFUSED = {
    "unknown_names": (
        lambda: {"layer.weight": np.ones(3)},
        {},
        "expected the tensors of one of drunet, dncnn, gsdrunet, got",
    ),
    "another": (lambda: tensors("dncnn"), {"architecture": "drunet"}, "expected drunet, got the tensors of dncnn"),
    "activation": (lambda: tensors("dncnn"), {"activation": "sine"}, "activation: expected one of relu"),
    "missing": (lambda: changed("drunet", m_up2__0__weight=None), {}, r"missing \['m_up2.0.weight'\], extra \[\]"),
    "extra": (lambda: changed("drunet", m_head__bias=np.ones(2)), {}, r"missing \[\], extra \['m_head.bias'\]"),
    "no_tail": (lambda: changed("drunet", m_tail__weight=None), {}, "expected a tensor m_tail.weight, got none"),
    "batch_norm": (lambda: changed("dncnn", bn__running_mean=np.ones(2)), {}, r"extra \['bn.running_mean'\]"),
    "shape": (
        lambda: changed("dncnn", conv_list__0__bias=np.ones(7)),
        {},
        r"expected shape \(4,\) for layers.1.bias, got \(7,\)",
    ),
    "volumes": (
        lambda: changed("dncnn", in_conv__weight=np.ones((4, 3, 3, 3, 3))),
        {},
        "convolution in two dimensions",
    ),
    "pooling": (
        lambda: changed("drunet", m_down1__1__weight=np.ones((3, 2, 3, 3))),
        {},
        "expected shape .* for down.0.mix.kernel",
    ),
    "no_noise": (
        lambda: changed("drunet", m_head__weight=np.ones((2, 2, 3, 3))),
        {},
        "one input channel more than outputs",
    ),
    "mapped": (
        lambda: changed("dncnn", in_conv__weight=np.ones((4, 4, 3, 3))),
        {},
        "as many output channels as input channels",
    ),
    "integers": (
        lambda: changed("dncnn", in_conv__bias=np.ones(4, np.int64)),
        {},
        "expected floating tensors, got int64",
    ),
    "numbers": (lambda: {"epoch": 3}, {}, "expected floating tensors, got int at epoch"),
    "a_list": (lambda: [np.ones(3)], {}, "expected a dictionary of tensors by name, got list"),
    "nothing": (lambda: {}, {}, "expected a dictionary of tensors by name, got"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_checkpoints_are_refused(name, tmp_path):
    content, options, text = REFUSED[name]
    write(tmp_path / "a.pth", content())
    with pytest.raises(ValueError, match=text) as error:
        load_torch(tmp_path / "a.pth", **options)
    assert "a.pth: " in str(error.value)


def test_unknown_architectures_are_refused():
    with pytest.raises(ValueError, match="architecture: expected None or one of drunet, dncnn, gsdrunet, got 'unet'"):
        load_torch(FIXTURES / "drunet.pth", "unet")
    with pytest.raises(FileNotFoundError, match="no such file"):
        load_torch("nowhere.pth")


LIVE = {
    "drunet_one_block": lambda models: models.DRUNet(1, 1, nc=(4, 6, 5, 7), nb=1, pretrained=None),
    "drunet": lambda models: models.DRUNet(3, 3, nc=(8, 12, 16, 10), nb=2, pretrained=None),
    "gsdrunet": lambda models: models.GSDRUNet(in_channels=3, out_channels=3, nc=(4, 6, 8, 5), nb=2),
    "dncnn": lambda models: models.DnCNN(1, 1, depth=6, nf=8, pretrained=None),
    "dncnn_no_bias": lambda models: models.DnCNN(3, 3, depth=4, nf=8, bias=False, pretrained=None),
}


@pytest.mark.parametrize("name", LIVE)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_agrees_with_deepinverse_itself(name, dtype, tmp_path):
    """Sizes that neither side pads, and a map of noise levels; for the environment of a maintainer who has PyTorch."""
    torch, models = pytest.importorskip("torch"), pytest.importorskip("deepinv.models")
    torch.manual_seed(0)
    net = LIVE[name](models).to("cpu")
    for weight in net.parameters():
        weight.data.normal_(0, (0.5 / weight[0].numel()) ** 0.5 if weight.ndim == 4 else 0.1)
        weight.data = weight.data.to(getattr(torch, dtype)).float()
    kept = {key: tensor.to(getattr(torch, dtype)) for key, tensor in net.state_dict().items()}
    torch.save({"state_dict": kept}, tmp_path / "a.ckpt")
    ours, channels = frozen(load_torch(tmp_path / "a.ckpt")), next(net.parameters()).shape[1] - ("dncnn" not in name)
    for height, width in ((16, 32), (40, 56), (64, 48)):
        x = torch.rand(1, channels, height, width)
        for sigma in (0.1, torch.rand(1, 1, height, width)):
            y = net(x, sigma)
            image, expected = (np.moveaxis(a.detach().numpy()[0], 0, -1) for a in (x, y))
            level = sigma if isinstance(sigma, float) else sigma[0, 0].numpy()
            np.testing.assert_allclose(ours(image, level), expected, atol=1e-5)
