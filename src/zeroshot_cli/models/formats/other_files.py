"""What a file without tensors for us is, told by its first bytes, and what to do about it."""

import re

HEAD = 1024  # bytes that `what_else` looks at

_WEIGHTS = "zeroshot reads PyTorch's weights: take the .safetensors or .pt of the same model"
_UNPACK = "unpack it and name the checkpoint inside"
_BROKEN = "its address asked for a login or was wrong; download it again"

# How files of other kinds begin: at which byte, with what.
_MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (0, b"GGUF", f"a GGUF file of llama.cpp, not a checkpoint of PyTorch: {_WEIGHTS}"),
    (0, b"GGML", f"a GGML file, not a checkpoint of PyTorch: {_WEIGHTS}"),
    (0, b"ggjt", f"a GGML file, not a checkpoint of PyTorch: {_WEIGHTS}"),
    (0, b"\x89HDF\r\n\x1a\n", f"an HDF5 file, as Keras and TensorFlow write, not a checkpoint of PyTorch: {_WEIGHTS}"),
    (4, b"TFL3", f"a TensorFlow Lite model, not a checkpoint of PyTorch: {_WEIGHTS}"),
    (0, b"ftrt", f"a TensorRT engine, not a checkpoint of PyTorch: {_WEIGHTS}"),
    (0, b"\x93NUMPY", "an array of numpy, not a checkpoint: save the model's state_dict() as safetensors"),
    (0, b"\x1f\x8b", f"packed with gzip: {_UNPACK}"),
    (0, b"BZh", f"packed with bzip2: {_UNPACK}"),
    (0, b"\xfd7zXZ", f"packed with xz: {_UNPACK}"),
    (0, b"\x28\xb5\x2f\xfd", f"packed with zstd: {_UNPACK}"),
    (0, b"7z\xbc\xaf\x27\x1c", f"a 7z archive: {_UNPACK}"),
    (0, b"Rar!", f"a RAR archive: {_UNPACK}"),
    (257, b"ustar", f"a tar archive: {_UNPACK}"),
    (0, b"\x89PNG", "an image, not a checkpoint: images are arguments of their own"),
    (0, b"\xff\xd8\xff", "an image, not a checkpoint: images are arguments of their own"),
    (0, b"PAR1", "a Parquet table, not a checkpoint: expected safetensors or a torch.save file"),
    (0, b"SQLite format 3", "a database, not a checkpoint: expected safetensors or a torch.save file"),
)
# msgpack: a map, then a short text as its first key; ONNX and TensorFlow: protocol buffers that begin with a version.
_MSGPACK = re.compile(rb"[\x81-\x8f\xde\xdf].{0,4}?[\xa1-\xbf\xd9][\w./-]", re.DOTALL)
_PROTOBUF = re.compile(rb"\x08[\x01-\x14][\x12\x1a:]", re.DOTALL)
_ONNX = re.compile(rb"onnx|pytorch|torch|keras|paddle|skl2onnx|tf2onnx|backend-test", re.IGNORECASE)
_PAGE = (b"<!doctype", b"<html", b"<head", b"<body", b"<!--")
_ERRORS = re.compile(
    rb'[{"\s]*(error|errors|message|detail)"\s*:|(entry|repository)? ?not found|access ?denied|forbidden|unauthorized'
    rb"|invalid (username|credentials)|too many requests|bad gateway|404"
)


def what_else(head: bytes) -> str:
    """Return what a file that begins with `head` is, and what to do: the end of a sentence."""
    if not head:
        return "is empty: download it again"
    for start, magic, what in _MAGIC:
        if head.startswith(magic, start):
            return f"is {what}"
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "is text in UTF-16; expected safetensors or a torch.save file"
    if is_text(head):
        return _what_text(head)
    if _PROTOBUF.match(head):
        kind = "an ONNX model" if _ONNX.search(head) else "a protocol buffer, as ONNX and TensorFlow write"
        return f"is {kind}, not a checkpoint of PyTorch: {_WEIGHTS}"
    if _MSGPACK.match(head):
        return f"is a msgpack file, as Flax writes, not a checkpoint of PyTorch: {_WEIGHTS}"
    return "is of no known format; expected safetensors or a torch.save file"


def what_archive(names: list[str]) -> str:
    """Return what a ZIP archive without weights of torch is, and what to do: the end of a sentence."""
    if names and all(name.endswith(".npy") for name in names):
        return "is an archive of numpy's arrays, not a checkpoint: save the model's state_dict() as safetensors"
    if "model.weights.h5" in names:
        return f"is a model of Keras, not a checkpoint of PyTorch: {_WEIGHTS}"
    return "is an archive without weights: unpack it and give the checkpoint inside"


def is_text(head: bytes) -> bool:
    """Return whether bytes are text: none of them a control character, apart from white space."""
    return not re.search(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]", head.removeprefix(b"\xef\xbb\xbf")) and _is_utf8(head)


def _is_utf8(head: bytes) -> bool:
    try:
        head[: max(len(head) - 4, 1)].decode()
    except UnicodeDecodeError as error:
        return error.reason == "unexpected end of data"
    return True


def _what_text(head: bytes) -> str:
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if start.startswith(b"version https://git-lfs"):
        return "is a git-lfs pointer, not the weights: run `git lfs pull` in its folder, or download the file itself"
    if start.startswith((b"<net ", b"<?xml")) and b"<net " in start:
        return f"is a model of OpenVINO, not a checkpoint of PyTorch: {_WEIGHTS}"
    if start.startswith((*_PAGE, b"<?xml")):
        return f"is a web page, not a checkpoint: {_BROKEN}"
    if _ERRORS.match(start):
        return f"is the error message of a server, not a checkpoint: {_BROKEN}"
    if start.startswith(b"{") and re.search(rb'"(architectures|model_type|model_cfg|peft_type|weight_map)"', start):
        return "is a configuration, not the weights: name the folder that holds both, or the file of weights"
    line = head[:40].decode("ascii", errors="replace").splitlines()[0]
    what = f"text that begins {line!r}" if line.isascii() and line.isprintable() else "text"
    return f"is {what}; expected safetensors or a torch.save file"
