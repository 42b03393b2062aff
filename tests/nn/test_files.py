"""Networks in files: storage in half precision, networks of one's own, and what is refused. Round trips are contracts."""

import json
import pathlib

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from flax import nnx

from invjax.nn import DnCNN, frozen, load, save
from invjax.nn.architecture import describe, tensors_of

from .registry import network


class Scaled(nnx.Module):
    """A network of one's own: every argument but ``rngs`` is an attribute."""

    def __init__(self, net, factors, name="scaled", *, rngs):
        self.net, self.factors, self.name = net, factors, name
        self.weight = nnx.Param(jnp.ones((2,)))

    def __call__(self, x, sigma):
        return self.net(self.factors[0] * x, sigma)


class Forgetful(nnx.Module):
    def __init__(self, width):
        self.size = width


class Opaque(nnx.Module):
    def __init__(self, fn):
        self.fn = fn


class Counting(nnx.Module):
    def __init__(self):
        self.count = nnx.Param(jnp.zeros((), int))


def test_tensors_are_named_by_their_path(tmp_path):
    save(network("edm"), tmp_path / "net.safetensors")
    with safetensors.safe_open(tmp_path / "net.safetensors", "numpy") as file:
        names, header = set(file.keys()), json.loads(file.metadata()["network"])
    assert {"net.head.kernel", "net.encoder.0.0.film.bias", "net.down.0.mix.kernel"} < names
    assert names == tensors_of(network("edm")).keys()
    assert header == describe(network("edm"))
    assert header["arguments"]["net"]["architecture"] == "UNet"


def test_half_precision_rounds_once(tmp_path):
    net = network("dncnn")
    save(net, tmp_path / "net.safetensors", dtype="float16")
    again = load(tmp_path / "net.safetensors")
    for name, tensor in tensors_of(again).items():
        assert tensor.dtype == np.float32
        np.testing.assert_array_equal(tensor, tensors_of(net)[name].astype(np.float16))
    save(again, tmp_path / "again.safetensors", dtype=np.float16)
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "net.safetensors").read_bytes()
    net.layers[0].bias[...] = jnp.full(4, 1e5, jnp.float32)
    with pytest.raises(ValueError, match=r"dtype: expected weights below 65504 for float16, got 1e\+05 at layers"):
        save(net, tmp_path / "net.safetensors", dtype="float16")
    with pytest.raises(ValueError, match="dtype: expected None or float16, got int8"):
        save(net, tmp_path / "net.safetensors", dtype="int8")


@pytest.mark.parametrize("dtype", [np.float64, ml_dtypes.bfloat16])
def test_other_precisions_of_weights(dtype, tmp_path):
    """Double precision is kept; 16 bits come back as float32, with the same values."""
    net = network("dncnn")
    nnx.update(net, jax.tree.map(lambda a: a.astype(dtype), nnx.state(net)))
    save(net, tmp_path / "net.safetensors")
    for name, tensor in tensors_of(load(tmp_path / "net.safetensors")).items():
        assert tensor.dtype == (np.float64 if dtype is np.float64 else np.float32)
        np.testing.assert_array_equal(tensor, tensors_of(net)[name].astype(np.float64))


def test_networks_of_ones_own(tmp_path):
    net = Scaled(network("drunet_bfloat16"), (2.0, np.int64(3), True, None, "a"), rngs=nnx.Rngs(0))
    path = tmp_path / "net.safetensors"
    save(net, path)
    again = load(path, architectures=[Scaled])
    assert again.factors == (2.0, 3, True, None, "a")
    assert (again.name, again.net.dtype) == ("scaled", jnp.dtype(jnp.bfloat16))
    with pytest.raises(ValueError, match=r"architecture: expected one of DRUNet, .*LipschitzDenoiser, got 'Scaled'"):
        load(path)
    for wrong, text in (
        (Forgetful(3), "net: expected Forgetful to keep its argument 'width' as an attribute"),
        (Opaque(len), "net: expected Opaque.fn to be a number, a string, a tuple of them or a network, got <built-in"),
        (Counting(), "net: expected floating weights, got int64 at count"),
        ({"weight": 1}, r"net: expected a network \(flax.nnx.Module or Frozen\), got dict"),
    ):
        with pytest.raises(ValueError, match=text):
            save(wrong, path)


@pytest.fixture
def stored(tmp_path):
    """A function that writes a file from changed parts of a good one."""
    net = network("dncnn")

    def write(header=None, **changes):
        tensors = {k: v for k, v in (tensors_of(net) | changes).items() if v is not None}
        header = {"network": json.dumps(describe(net))} if header is None else header
        (tmp_path / "net.safetensors").write_bytes(safetensors.numpy.save(tensors, header))
        return tmp_path / "net.safetensors"

    return write


def test_other_files_are_refused(stored):
    description = describe(network("dncnn"))

    def header(**changes):
        return {"network": json.dumps(description | changes)}

    arguments = description["arguments"]
    for changes, text in (
        ({"header": {}}, r"expected a network written by invjax.nn.save \(KeyError: 'network'"),
        ({"header": {"network": "{"}}, r"expected a network written by invjax.nn.save \(JSONDecodeError"),
        ({"header": {"network": "3"}}, "architecture: expected one of .*, got 3"),
        ({"header": header(architecture="os.system")}, "architecture: expected one of DRUNet, .*, got 'os.system'"),
        ({"header": header(architecture=[1])}, r"architecture: expected one of DRUNet, .*, got \[1\]"),
        ({"header": header(arguments=None)}, "arguments: expected a dictionary of the arguments of DnCNN, got None"),
        ({"header": header(arguments={})}, r"arguments: expected those of DnCNN, got \[\]"),
        ({"header": header(arguments=arguments | {"depth": 3})}, "arguments: expected those of DnCNN, got .*'depth'"),
        ({"header": header(arguments=arguments | {"features": "4"})}, "features: expected positive integers, got '4'"),
        ({"header": header(arguments=arguments | {"dtype": "load"})}, "arguments: expected those of DnCNN, got .*load"),
        (
            {"header": header(arguments=arguments | {"num_layers": 2})},
            "missing none, extra layers.2.bias, layers.2.kernel",
        ),
        ({"layers.0.bias": None}, "missing layers.0.bias, extra none"),
        ({"more": np.ones(1)}, "missing none, extra more"),
        ({"layers.0.bias": np.ones(3)}, r"expected shape \(4,\) for layers.0.bias, got \(3,\)"),
    ):
        path = stored(**changes)
        with pytest.raises(ValueError, match=text) as error:
            load(path)
        assert str(error.value).startswith(f"{path}: ")


def test_damaged_and_missing_files_are_refused(stored, tmp_path):
    path = stored()
    whole = path.read_bytes()
    for content in (b"", b"weights", whole[:50], whole[:-1], b"\xff" * 100):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"expected a network written by invjax.nn.save \("):
            load(path)
    with pytest.raises(ValueError, match="expected a network written by"):
        load(tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere: no such file"):
        load(pathlib.Path("nowhere"))


def test_a_failed_save_leaves_what_was_there(tmp_path):
    path = tmp_path / "net.safetensors"
    save(network("dncnn"), path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="net: expected"):
        save(Forgetful(3), path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["net.safetensors"]


def test_a_loaded_network_can_be_trained_on(tmp_path):
    """It is an ordinary network: its weights are variables that can be changed, and a frozen copy is not."""
    save(frozen(network("dncnn")), tmp_path / "net.safetensors")
    net = load(tmp_path / "net.safetensors")
    assert isinstance(net, DnCNN)
    kept = frozen(net)
    net.layers[0].bias[...] += 1
    assert np.all(frozen(net).weights["layers"][0]["bias"] != kept.weights["layers"][0]["bias"])
