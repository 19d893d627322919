"""What is no checkpoint is recognised by its content and refused in one sentence; no code of a file runs."""

import argparse
import json
import os
import pickle
import struct
import warnings
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from zeroshot_cli.clip.config import PRESETS, config_from_dict
from zeroshot_cli.clip.model import CLIP
from zeroshot_cli.errors import CheckpointError, UsageError
from zeroshot_cli.models.formats.detect import read_checkpoint
from zeroshot_cli.models.formats.tensors import check_fits, read_tensors, read_weights

STATE = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4)}


class Evil:
    """A pickle that makes a file when it is loaded."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        return os.system, (f"touch {self.proof}",)


def refused(path: Path, message: str) -> None:
    """One sentence, the file's name in it, and the exit code of a wrong input."""
    with pytest.raises(CheckpointError, match=message) as caught:
        read_tensors(path)
    assert str(path.parent) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pt", "weights", "weights.html"])
def test_the_content_counts_and_not_the_suffix(name: str, tmp_path: Path) -> None:
    for save in (save_file, torch.save):
        save(STATE, tmp_path / name)
        found = read_tensors(tmp_path / name)
        assert found.keys() == STATE.keys()
        assert all(torch.equal(found[key], STATE[key]) for key in STATE)


@pytest.mark.parametrize("name", ["model.safetensors", "model.pt"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html>\n<html><title>404</title>", "is a web page"),
        (b"\n\n  <html lang=en>" + b" " * 600, "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "git-lfs pointer.*git lfs pull"),
        (b"hello, this is a text\nof two lines", "is text that begins 'hello, this is a text'"),
        (b"\x00\x01\x02" * 40, "is of no known format"),
        (b"PK\x03\x04" + bytes(80), "cut short or damaged"),
        (b"\x80\x02}", "cut short or damaged|refused"),
        (struct.pack("<Q", 1 << 40) + b"{" + bytes(90), "is cut short"),
        (struct.pack("<Q", 4) + b"{abc", "cut short or damaged"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_checkpoint(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    refused(tmp_path / name, message)


@pytest.mark.parametrize("kind", ["safetensors", "pt", "legacy.pt"])
@pytest.mark.parametrize("kept", [0.3, 0.7, 0.95, 0.999])
def test_a_truncated_checkpoint(kind: str, kept: float, tmp_path: Path) -> None:
    path = tmp_path / f"weights.{kind}"
    state = {f"tensor{n}": torch.randn(40, 40) for n in range(5)}
    if kind == "safetensors":
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=kind == "pt")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])
    refused(path, "cut short")


@pytest.mark.parametrize("kept", [1, 22, 29, 57, 274])
def test_a_pickle_of_old_that_ends_in_its_middle_is_not_called_evil(kept: int, tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "legacy.pt", _use_new_zipfile_serialization=False)
    (tmp_path / "legacy.pt").write_bytes((tmp_path / "legacy.pt").read_bytes()[:kept])
    refused(tmp_path / "legacy.pt", "is cut short or damaged")


def test_a_folder_and_a_path_that_is_not_there(tmp_path: Path) -> None:
    refused(tmp_path / ".", "is a folder")
    with pytest.raises(UsageError, match=r"nowhere\.pt does not exist"):
        read_checkpoint(tmp_path / "nowhere.pt")
    with pytest.raises(CheckpointError, match="holds no weights"):
        read_checkpoint(tmp_path)
    for name in ("a.pt", "b.pt"):
        torch.save(STATE, tmp_path / name)
    with pytest.raises(CheckpointError, match=r"holds 2 files of weights: name one, such as .*a\.pt"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize("new", [True, False], ids=["archive", "legacy"])
@pytest.mark.parametrize("wrap", ["alone", "beside tensors"])
def test_a_pickle_that_would_run_code_is_refused(new: bool, wrap: str, tmp_path: Path) -> None:
    proof, path = tmp_path / "ran", tmp_path / "evil.pt"
    evil = Evil(proof) if wrap == "alone" else {"state_dict": STATE, "extra": Evil(proof)}
    torch.save(evil, path, _use_new_zipfile_serialization=new)
    refused(path, r"refused: besides tensors it holds posix\.system")
    assert not proof.exists()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.load(path, weights_only=False)
    assert proof.exists()  # the file is as evil as it should be


def test_a_plain_pickle_is_refused(tmp_path: Path) -> None:
    proof, path = tmp_path / "ran", tmp_path / "evil.safetensors"
    path.write_bytes(pickle.dumps(Evil(proof)))
    refused(path, "refused")
    assert not proof.exists()


def test_a_torchscript_archive_with_a_class_outside_it_is_refused(tmp_path: Path) -> None:
    proof, path = tmp_path / "ran", tmp_path / "evil.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("evil/version", "3\n")
        archive.writestr("evil/data.pkl", pickle.dumps(Evil(proof), protocol=2))
        archive.writestr("evil/constants.pkl", pickle.dumps((), protocol=2))
    refused(path, r"refused: besides tensors it holds posix\.system")
    assert not proof.exists()


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "bomb.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.writestr("bomb/data.pkl", pickle.dumps({}))
        archive.writestr("bomb/data/0", bytes(64 << 20))
    assert path.stat().st_size < 100_000
    refused(path, "refused: its .* bytes claim to unpack to 67108")


def test_a_tensor_that_shows_more_than_is_stored_is_refused(tmp_path: Path) -> None:
    torch.save({"visual.proj": torch.zeros(1).expand(10**6)}, tmp_path / "wide.pt")
    refused(tmp_path / "wide.pt", "refused: its tensor visual.proj is not stored in full")


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (torch.zeros(2, device="meta"), "is not stored in full"),
        ("quantised", "is of torch.qint8"),
        (torch.zeros(2, dtype=torch.complex64), "is of torch.complex64"),
    ],
)
@pytest.mark.filterwarnings("ignore")  # torch's own, of the storage of what it writes here
def test_a_tensor_of_another_kind_is_refused(tensor: torch.Tensor | str, message: str, tmp_path: Path) -> None:
    if isinstance(tensor, str):
        tensor = torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)
    torch.save({"visual.proj": tensor}, tmp_path / "odd.pt")
    refused(tmp_path / "odd.pt", f"its tensor visual.proj {message}")


def test_an_archive_that_holds_a_checkpoint_is_none(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "release.zip", "w") as archive:
        archive.writestr("model.safetensors", b"\x00")
    refused(tmp_path / "release.zip", "unpack it")


def test_an_archive_that_was_packed_again_is_read(tmp_path: Path) -> None:
    """Compressed entries cannot be mapped into memory."""
    torch.save(STATE, tmp_path / "stored.pt")
    with zipfile.ZipFile(tmp_path / "stored.pt") as stored, zipfile.ZipFile(
        tmp_path / "packed.pt", "w", zipfile.ZIP_DEFLATED
    ) as packed:  # fmt: skip
        for entry in stored.infolist():
            packed.writestr(entry.filename, stored.read(entry))
    assert torch.equal(read_tensors(tmp_path / "packed.pt")["a"], STATE["a"])


def test_settings_beside_the_weights_are_passed_over(tmp_path: Path) -> None:
    run = argparse.Namespace(lr=1e-3, model="small")
    torch.save({"epoch": 1, "args": run, "state_dict": STATE, "optimizer": {"lr": 0.1}}, tmp_path / "epoch.pt")
    assert read_tensors(tmp_path / "epoch.pt").keys() == STATE.keys()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "holds no state dict"),
        ({}, "holds no state dict"),
        ({"epoch": 3, "loss": 0.1}, "its entry 'epoch' is not a tensor"),
        ({"state_dict": {"a": 1}}, "its entry 'a' is not a tensor"),
        ({3: torch.ones(1)}, "its entry 3 is not a tensor"),
    ],
)
def test_a_file_without_a_state_dict(content: object, message: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "other.pt")
    refused(tmp_path / "other.pt", message)


def test_a_tensor_alone_is_no_checkpoint(tmp_path: Path) -> None:
    torch.save(torch.ones(3), tmp_path / "tensor.pt")
    refused(tmp_path / "tensor.pt", "holds no state dict")


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ({"weight_map": {"a": "gone.safetensors"}}, r"names gone\.safetensors, which is not beside it"),
        ({"weight_map": {"a": "../one.safetensors"}}, r"names \.\./one\.safetensors, which is not beside"),
        ({"weight_map": {"a": "model.safetensors.index.json"}}, "which is not beside it"),
        ({"weight_map": {"a": "one.safetensors", "z": "one.safetensors"}}, "names tensors that its files lack: z"),
        ({"weight_map": {"a": 5}}, "names 5 as a file"),
        ({"weight_map": ["one.safetensors"]}, "has no mapping 'weight_map'"),
        ({}, "has no mapping 'weight_map'"),
        (None, "has no mapping 'weight_map'"),
    ],
)
def test_a_wrong_index_of_shards(index: object, message: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for path in (folder / "one.safetensors", tmp_path / "one.safetensors"):
        save_file(STATE, path)
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    refused(folder / "model.safetensors.index.json", message)


class WithLists(nn.Linear):
    """A layer with attributes that TorchScript keeps by their type."""

    sizes: list[int]
    names: dict[str, float]

    def __init__(self) -> None:
        super().__init__(2, 3)
        self.sizes = [1, 2]
        self.names = {"a": 0.5}


def test_torchscript_is_read_for_its_tensors(tmp_path: Path) -> None:
    model = nn.Sequential(WithLists(), nn.Sequential(nn.BatchNorm1d(3)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(model), tmp_path / "scripted.pt")
    weights = read_weights(tmp_path / "scripted.pt")
    assert weights.torchscript
    assert weights.quick_gelu is None
    assert weights.tensors.keys() == model.state_dict().keys()
    assert all(torch.equal(weights.tensors[key], value) for key, value in model.state_dict().items())


CONFIG = config_from_dict(
    {
        "embed_dim": 8,
        "vision_cfg": {"image_size": 16, "patch_size": 8, "width": 64, "layers": 1},
        "text_cfg": {"width": 64, "heads": 1, "layers": 1, "vocab_size": 600},
    }
)


def test_tensors_that_do_not_fit_are_named_up_to_five() -> None:
    model = CLIP(CONFIG)
    good = model.state_dict()
    extra = {f"extra{n}": torch.zeros(1) for n in range(7)}
    with pytest.raises(CheckpointError, match=r"unknown tensors: extra0, extra1, extra2, extra3, extra4 and 2 more"):
        check_fits(model, good | extra, source="weights.pt")
    with pytest.raises(CheckpointError, match=r"weights\.pt .* lacks: .*, .*, .*, .*, .* and \d+ more"):
        check_fits(model, {}, source="weights.pt")
    with pytest.raises(CheckpointError, match=r"wrong shape: visual\.proj is \[3, 3\] and not \[64, 8\]$"):
        check_fits(model, good | {"visual.proj": torch.zeros(3, 3)}, source="weights.pt")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"text.text_projection": None}, r"lacks text\.text_projection, it has logit_scale, "),
        ({"visual.conv1.weight": torch.zeros(3)}, r"its visual\.conv1\.weight is \[3\]"),
        ({"visual.positional_embedding": torch.zeros(6, 64)}, "has 5 places"),
        ({"visual.conv1.weight": torch.zeros(80, 3, 8, 8)}, "its width of 80"),
        ({"text.token_embedding.weight": torch.zeros(49409, 64)}, "has 49409 tokens"),
        ({"text.token_embedding.weight": torch.zeros(513, 64)}, "has 513 tokens and CLIP's tokenizer 514 to 49408"),
    ],
)
def test_shapes_that_are_no_clip(change: dict[str, torch.Tensor | None], message: str, tmp_path: Path) -> None:
    state = CLIP(CONFIG).state_dict() | change
    torch.save({key: value for key, value in state.items() if value is not None}, tmp_path / "weights.pt")
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(tmp_path / "weights.pt")


def test_a_cut_vocabulary_is_named(tmp_path: Path) -> None:
    torch.save(CLIP(CONFIG).state_dict(), tmp_path / "weights.pt")
    told = read_checkpoint(tmp_path / "weights.pt").warnings
    assert any("has 600 tokens: CLIP's vocabulary, cut to that many, is assumed" in warning for warning in told)


def test_a_query_without_its_key_is_named(tmp_path: Path) -> None:
    query = "vision_model.encoder.layers.0.self_attn.q_proj.weight"
    torch.save({query: torch.zeros(2, 2)}, tmp_path / "weights.pt")
    with pytest.raises(CheckpointError, match=r"lacks: .*k_proj\.weight, .*v_proj\.weight$"):
        read_checkpoint(tmp_path / "weights.pt", like=PRESETS["ViT-B-32"])
    state = {
        query.replace("q_proj", part): torch.zeros(2, n + 2) for n, part in enumerate(("q_proj", "k_proj", "v_proj"))
    }
    torch.save(state, tmp_path / "weights.pt")
    with pytest.raises(CheckpointError, match=r"wrong shape: .*q_proj\.weight \[2, 2\], .*k_proj\.weight \[2, 3\]"):
        read_checkpoint(tmp_path / "weights.pt", like=PRESETS["ViT-B-32"])
