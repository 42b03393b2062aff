"""The reader of PyTorch checkpoints: dtypes, strides and offsets, and that nothing in a file is ever run."""

import pathlib
import zipfile

import ml_dtypes
import numpy as np
import pytest

from invjax.nn import read_torch

from .checkpoints import Name, Tensor, write

NUMBERS = np.arange(24.0)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16", "int64"])
@pytest.mark.parametrize("swapped", [False, True])
def test_dtypes_and_byte_orders(dtype, swapped, tmp_path):
    expected = NUMBERS.reshape(2, 3, 4).astype(np.dtype(getattr(ml_dtypes, dtype, dtype)))
    write(tmp_path / "a.pth", {"weight": expected, "empty": expected[:0]}, swapped=swapped)
    content = read_torch(tmp_path / "a.pth")
    assert content["weight"].dtype == expected.dtype
    np.testing.assert_array_equal(content["weight"], expected)
    assert content["empty"].shape == (0, 3, 4)


def test_strides_offsets_and_shared_storages(tmp_path):
    content = {
        "transposed": Tensor("0", NUMBERS, 0, (4, 6), (1, 4)),
        "part": Tensor("0", NUMBERS, 5, (2, 3), (6, 2)),
        "repeated": Tensor("0", NUMBERS, 7, (3, 2), (0, 1)),
        "scalar": Tensor("0", NUMBERS, 23, (), ()),
        "parameter": Tensor("1", 2 * NUMBERS, 0, (24,), (1,), is_parameter=True),
    }
    write(tmp_path / "a.pth", content, root="some_name")
    read = read_torch(tmp_path / "a.pth")
    np.testing.assert_array_equal(read["transposed"], NUMBERS.reshape(6, 4).T)
    np.testing.assert_array_equal(read["part"], [[5, 7, 9], [11, 13, 15]])
    np.testing.assert_array_equal(read["repeated"], [[7, 8]] * 3)
    assert read["scalar"] == 23
    np.testing.assert_array_equal(read["parameter"], 2 * NUMBERS)
    assert not any(tensor.flags.writeable for tensor in (read["transposed"], read["part"]))


def test_what_else_a_checkpoint_holds(tmp_path):
    content = {"epoch": 3, "names": ["a", "b"], "best": (1, -2), "nested": {"x": NUMBERS}, "on": True}
    write(tmp_path / "a.pth", content)
    read = read_torch(tmp_path / "a.pth")
    assert list(read) == list(content)
    np.testing.assert_array_equal(read["nested"].pop("x"), NUMBERS)
    assert read == {**content, "nested": {}}


HARM = [
    Name("os", "system", ("touch harmed",)),
    Name("posix", "system", ("touch harmed",)),
    Name("builtins", "eval", ("open('harmed', 'w')",)),
    Name("builtins", "getattr", ("", "format")),
    Name("torch._utils", "_rebuild_tensor", ()),
    Name("torch", "load", ("harmed",)),
    Name("torch.nn.modules.conv", "Conv2d", ()),
    Name("collections", "Counter", ()),
    Name("numpy.core.multiarray", "_reconstruct", ()),
    Name("argparse", "Namespace"),
]


@pytest.mark.parametrize("harm", HARM, ids=lambda harm: f"{harm.module}.{harm.name}")
def test_other_names_are_refused_and_nothing_runs(harm, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write("a.pth", {"weight": NUMBERS, "harm": harm})
    with pytest.raises(
        ValueError, match=rf"a\.pth: cannot be read .*got {harm.module}\.{harm.name}; .*save the state_dict"
    ):
        read_torch("a.pth")
    assert [file.name for file in tmp_path.iterdir()] == ["a.pth"]


OUTSIDE = {
    "beyond_the_end": (Tensor("0", NUMBERS, 0, (5, 5), (5, 1)), "inside its storage of 24 numbers, got one up to 24"),
    "offset": (Tensor("0", NUMBERS, 24, (1,), (1,)), "inside its storage"),
    "huge_stride": (Tensor("0", NUMBERS, 0, (2,), (2**31 - 1,)), "inside its storage"),
    "negative_stride": (Tensor("0", NUMBERS, 3, (2,), (-1,)), "expected a shape, strides and an offset"),
    "negative_offset": (Tensor("0", NUMBERS, -1, (2,), (1,)), "expected a shape, strides and an offset"),
    "negative_size": (Tensor("0", NUMBERS, 0, (-3,), (1,)), "expected a shape, strides and an offset"),
    "ranks": (Tensor("0", NUMBERS, 0, (2, 2), (1,)), "expected a shape, strides and an offset"),
}


@pytest.mark.parametrize("name", OUTSIDE)
def test_tensors_outside_of_their_storage_are_refused(name, tmp_path):
    tensor, text = OUTSIDE[name]
    write(tmp_path / "a.pth", {"weight": tensor})
    with pytest.raises(ValueError, match=text):
        read_torch(tmp_path / "a.pth")


def test_a_view_is_not_a_storage(tmp_path):
    """A view that repeats one number looks large: a tensor of it would reach memory outside of the storage."""
    view = Tensor("0", NUMBERS[:1], 0, (1000,), (0,))
    write(tmp_path / "a.pth", {"weight": Name("torch._utils", "_rebuild_tensor_v2", (view, 0, (1000,), (1,)))})
    with pytest.raises(ValueError, match="expected a storage, got ndarray"):
        read_torch(tmp_path / "a.pth")


def test_names_cannot_be_altered(tmp_path):
    """Attributes set on what a name stands for (pickle's BUILD) change nothing: they cannot be set."""
    for module, name in (("torch._utils", "_rebuild_tensor_v2"), ("torch._utils", "_rebuild_parameter")):
        body = f"\x80\x02c{module}\n{name}\n".encode("latin-1") + b"N}(X\x08\x00\x00\x00__call__K\x01u\x86b."
        with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
            archive.writestr("archive/data.pkl", body)
        with pytest.raises(ValueError, match=r"cannot be read as a checkpoint .AttributeError"):
            read_torch(tmp_path / "a.pth")


def test_damaged_files_are_refused(tmp_path):
    path = tmp_path / "a.pth"
    write(path, {"weight": NUMBERS})
    whole = path.read_bytes()
    cases = {
        "empty": b"",
        "cut": whole[:200],
        "no_zip": b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.",
        "text": b"weights",
    }
    for content in cases.values():
        path.write_bytes(content)
        with pytest.raises(
            ValueError, match=r"a\.pth: cannot be read .*expected the zip format of PyTorch 1\.6 or later"
        ):
            read_torch(path)
    start = whole.index(b"_rebuild_tensor_v2")
    path.write_bytes(whole[:start] + b"X" + whole[start + 1 :])  # the checksum of the zip file sees it
    with pytest.raises(ValueError, match=r"a\.pth: cannot be read as a checkpoint .BadZipFile"):
        read_torch(path)
    end = whole.rindex(b"PK\x05\x06")
    path.write_bytes(whole[:end] + b"PK\x06\x07" + bytes(12) + b"\x02" + bytes(3) + whole[end:])  # parts on two disks
    with pytest.raises(ValueError, match=r"cannot be read as a checkpoint .BadZipFile"):
        read_torch(path)
    with pytest.raises(ValueError, match="expected the zip format"):
        read_torch(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pth: no such file"):
        read_torch(pathlib.Path("nowhere.pth"))


def test_other_zip_files_are_refused(tmp_path):
    path = tmp_path / "a.pth"
    write(path, {"weight": NUMBERS}, method=zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match="expected files that are stored, got compressed ones"):
        read_torch(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("notes.txt", "nothing")
    with pytest.raises(ValueError, match=r"expected one data\.pkl, got 0"):
        read_torch(path)
    for body in (b"", b"\x80\x02", b"\x80\x02}X", b"\x80\x02R.", b"\x80\x02NQ.", b"\x80\x02X\x01\x00\x00\x00aQ."):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a/data.pkl", body)
        with pytest.raises(ValueError, match="cannot be read as a checkpoint"):
            read_torch(path)
    write(path, {"weight": Tensor("0", NUMBERS, 0, (3,), (1,))})
    with zipfile.ZipFile(path) as archive:
        body = archive.read("archive/data.pkl")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", body)
        archive.writestr("archive/data/0", NUMBERS[:5].tobytes())
    with pytest.raises(ValueError, match="expected 192 bytes in storage 0, got 40"):
        read_torch(path)
