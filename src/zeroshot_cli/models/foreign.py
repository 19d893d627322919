"""Model families that the bundled CLIP does not have, through open_clip: SigLIP, EVA, ConvNeXt, MobileCLIP, CoCa …

open_clip builds the model and maps old layouts of its weights; files are read, checked and preprocessed as all others.
"""

from __future__ import annotations

import copy
import hashlib
import json
import re
import warnings
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from zeroshot_cli.clip.config import LARGEST, MOST_LAYERS, VOCAB_SIZE
from zeroshot_cli.errors import CheckpointError, UnavailableError, UsageError
from zeroshot_cli.images.preprocess import PreprocessConfig
from zeroshot_cli.models.cut_texts import WarningTokenizer
from zeroshot_cli.models.formats.open_clip import CONFIG_FILE
from zeroshot_cli.models.formats.openai import load_into
from zeroshot_cli.models.loaded import LoadedModel, Tokenize, make_ready
from zeroshot_cli.models.vocabulary import tokenizer_for

# What a hub repository may hold of a tokenizer; `config.json` says its kind, and is what a text tower is built from.
TOKENIZER_FILES = (
    "config.json",
    "tokenizer_config.json",
    "tokenizer.json",
    "special_tokens_map.json",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
)
_TOKENIZERS = frozenset(TOKENIZER_FILES) - {"config.json", "special_tokens_map.json", "merges.txt"}
# All else that stands in `tokenizer_kwargs` would reach Transformers, which runs a folder's code if told to.
_TOKENIZER_SETTINGS = {"clean", "strip_sep_token", "language"}
_CLIP_TOKENIZER_SETTINGS = {"clean", "reduction_mask"}
_REPOSITORY = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?(@\w[\w./-]*)?")
_RANDOM = {torch.Tensor.normal_, torch.Tensor.uniform_, torch.Tensor.erfinv_}

Fetch = Callable[[str], Path]


def registered_config(name: str) -> dict[str, Any] | None:
    """open_clip's `model_cfg` of that name; None where it has none."""
    # Found without importing the package, which takes seconds.
    spec = find_spec("open_clip")
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(spec.submodule_search_locations[0]) / "model_configs"
    path = folder / f"{name}.json"
    if path.parent != folder or not path.is_file():
        return None
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return config


def load_foreign(
    *,
    name: str,
    pretrained: str | None,
    document: Mapping[str, Any],
    state: Mapping[str, Tensor],
    source: str,
    device: torch.device,
    precision: str,
    folder: Path | None = None,
    fetch: Fetch | None = None,
) -> LoadedModel:
    """A model of open_clip with the weights `state`.

    `document` has the form of open_clip_config.json (`model_cfg`, `preprocess_cfg`). A tokenizer that is not CLIP's
    comes from `folder` if it holds one, else from `fetch`, which gives the folder of a hub repository with its
    TOKENIZER_FILES. `source` names the weights in errors. Raises CheckpointError for a configuration that open_clip
    cannot build or weights that do not fit it, UsageError where an optional package is missing, and UnavailableError
    for a tokenizer that is not to be had.
    """
    model_cfg = copy.deepcopy(dict(document.get("model_cfg", document)))
    given: Mapping[str, Any] = (document.get("preprocess_cfg") or {}) if "model_cfg" in document else {}
    if not isinstance(given, Mapping):
        raise CheckpointError(f"{source}: its preprocess_cfg is {given!r} and not a mapping")
    text_cfg = model_cfg.get("text_cfg")
    if not isinstance(text_cfg, dict) or not isinstance(model_cfg.get("vision_cfg"), dict):
        raise CheckpointError(f"{source}: its configuration lacks a vision_cfg or a text_cfg")
    _refuse_absurd(source, model_cfg)
    tokenizer, tokenizer_hash = _tokenizer(name, text_cfg, folder, fetch)
    model = _build(name, model_cfg, folder, fetch)
    load_into(model, _converted(model, state), source=source)
    return make_ready(
        name=name,
        pretrained=pretrained,
        model=model,
        config={**dict(document.get("model_cfg", document)), **_hashes(tokenizer_hash, text_cfg)},
        preprocess=PreprocessConfig.from_dict({**given, "size": getattr(model.visual, "image_size", 224)}),
        tokenizer=tokenizer,
        device=device,
        precision=precision,
    )


def _refuse_absurd(source: str, settings: Mapping[str, Any]) -> None:
    """Numbers that would take all memory or all time before anything says that they are wrong."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            _refuse_absurd(source, value)
        for number in value if isinstance(value, list) else [value]:
            most = MOST_LAYERS if key == "layers" else LARGEST
            if isinstance(number, int | float) and not abs(number) <= most:
                raise CheckpointError(f"{source}: its configuration has {key} {number!r}, which cannot be meant")


def _build(name: str, model_cfg: dict[str, Any], folder: Path | None, fetch: Fetch | None) -> nn.Module:
    """open_clip's module, its weights not yet set; the choice of class is that of open_clip's `create_model`."""
    open_clip = _open_clip()
    custom_text = model_cfg.pop("custom_text", False)
    vision_cfg, text_cfg = model_cfg["vision_cfg"], model_cfg["text_cfg"]
    if vision_cfg.get("timm_model_name"):
        if ":" in str(vision_cfg["timm_model_name"]):  # hf-hub: and local-dir: would fetch and build another model
            raise CheckpointError(f"{name} is refused: its timm_model_name is {vision_cfg['timm_model_name']!r}")
        vision_cfg["timm_model_pretrained"] = False
    if text_cfg.get("hf_model_name"):
        text_cfg["hf_model_pretrained"] = False
        text_cfg["hf_model_name"] = str(_text_tower_folder(name, text_cfg["hf_model_name"], folder, fetch))
        custom_text = True
    kind = open_clip.CLIP
    if custom_text:
        kind = open_clip.CoCa if "multimodal_cfg" in model_cfg else open_clip.CustomTextCLIP
    try:
        with _WithoutRandomNumbers():
            model: nn.Module = kind(**model_cfg)
    except ImportError as error:
        raise _needs_hf(name) from error
    except Exception as error:  # a configuration is data: whatever it breaks in open_clip or timm is its own fault
        raise CheckpointError(f"{name}: open_clip cannot build this model: {_first_line(error)}") from error
    return model


def _converted(model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`state` under the names and shapes of `model`, as open_clip's `load_checkpoint` maps older files."""
    from open_clip.convert import convert_state_dict
    from open_clip.model import convert_to_custom_text_state_dict

    tensors = {key.removeprefix("module."): tensor for key, tensor in state.items()}
    tensors = dict(convert_state_dict(model, tensors))
    if "positional_embedding" in tensors and not hasattr(model, "positional_embedding"):
        tensors = convert_to_custom_text_state_dict(tensors)
    expected = model.state_dict()
    for key in ("logit_scale", "logit_bias"):
        if key in tensors and key in expected and tensors[key].numel() == 1:
            tensors[key] = tensors[key].reshape(expected[key].shape)
    if "logit_bias" in expected:
        tensors.setdefault("logit_bias", torch.zeros_like(expected["logit_bias"]))
    leftover = "text.transformer.embeddings.position_ids"  # written by transformers before 4.31
    return {key: tensor for key, tensor in tensors.items() if key in expected or key != leftover}


def _tokenizer(
    name: str, text_cfg: Mapping[str, Any], folder: Path | None, fetch: Fetch | None
) -> tuple[Tokenize, str | None]:
    """The tokenizer that `text_cfg` names, and a hash of its vocabulary where that is a file of its own."""
    open_clip = _open_clip()
    context_length = text_cfg.get("context_length", 77)
    repo = text_cfg.get("hf_tokenizer_name")
    options = _tokenizer_settings(name, text_cfg, _TOKENIZER_SETTINGS if repo else _CLIP_TOKENIZER_SETTINGS)
    try:
        if not repo:
            if text_cfg.get("vocab_size", VOCAB_SIZE) != VOCAB_SIZE or text_cfg.get("hf_model_name"):
                raise CheckpointError(f"{name}: its text_cfg names no tokenizer (hf_tokenizer_name)")
            if not options:
                return tokenizer_for(vocab_size=VOCAB_SIZE, context_length=context_length), None
            plain = open_clip.tokenizer.SimpleTokenizer(context_length=context_length, **options)
            return WarningTokenizer(plain, context_length=context_length), None
        if find_spec("transformers") is None:
            raise _needs_hf(name)
        where = _tokenizer_folder(name, repo, folder, fetch)
        mode = text_cfg.get("tokenizer_mode")
        hugging_face = open_clip.tokenizer.HFTokenizer(
            str(where), context_length=context_length, tokenizer_mode=mode, trust_remote_code=False, **options
        )
    except ImportError as error:
        raise _needs_hf(name) from error
    except (OSError, ValueError, TypeError, KeyError, AttributeError, AssertionError) as error:
        raise CheckpointError(f"{name}: its tokenizer cannot be read: {_first_line(error)}") from error
    return WarningTokenizer(hugging_face, context_length=context_length), _hash_of(where)


def _tokenizer_settings(name: str, text_cfg: Mapping[str, Any], known: set[str]) -> dict[str, Any]:
    options = text_cfg.get("tokenizer_kwargs") or {}
    if not isinstance(options, Mapping):
        raise CheckpointError(f"{name}: its text_cfg.tokenizer_kwargs is {options!r} and not a mapping")
    unknown = [key for key in options if key not in known]
    if unknown:
        raise CheckpointError(
            f"{name} is refused: its text_cfg.tokenizer_kwargs has {unknown[0]!r}, and only "
            f"{', '.join(sorted(known))} are followed"
        )
    return dict(options)


def _tokenizer_folder(name: str, repo: str, folder: Path | None, fetch: Fetch | None) -> Path:
    if folder is not None and _is_of_one_model(folder) and any((folder / file).is_file() for file in _TOKENIZERS):
        return folder
    return _fetched(name, repo, "tokenizer", fetch)


def _is_of_one_model(folder: Path) -> bool:
    """Whether what lies in `folder` belongs together: a model folder of open_clip, or a snapshot of the hub."""
    return (folder / CONFIG_FILE).is_file() or folder.parent.name == "snapshots"


def _text_tower_folder(name: str, repo: str, folder: Path | None, fetch: Fetch | None) -> Path:
    """A folder with the config.json of Transformers that describes the text tower."""
    if find_spec("transformers") is None:
        raise _needs_hf(name)
    if folder is not None and _is_of_one_model(folder) and _is_text_tower(folder):
        return folder
    where = _fetched(name, repo, "text tower", fetch)
    if not _is_text_tower(where):  # for an unknown kind, Transformers would offer to run code of that folder
        raise CheckpointError(f"{name}: its text tower, {repo}, is of no kind that open_clip builds")
    return where


def _is_text_tower(folder: Path) -> bool:
    try:
        kind = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
    except (OSError, ValueError, AttributeError):
        return False
    return isinstance(kind, str) and kind in _open_clip().hf_configs.arch_dict


def _fetched(name: str, repo: str, what: str, fetch: Fetch | None) -> Path:
    if isinstance(repo, str) and Path(repo).is_dir():
        return Path(repo)
    if not isinstance(repo, str) or not _REPOSITORY.fullmatch(repo):
        raise CheckpointError(f"{name}: its {what} is to come from {repo!r}, which is no repository such as org/name")
    if fetch is None:
        raise UnavailableError(f"{name}: its {what} is that of {repo}, which is not on this machine")
    return fetch(repo)


def _hashes(tokenizer: str | None, text_cfg: Mapping[str, Any]) -> dict[str, Any]:
    """What stands outside the configuration and decides about the texts; `text_cfg` names the folder of its tower."""
    if not text_cfg.get("hf_model_name"):
        return {"tokenizer_sha256": tokenizer}
    tower = (Path(text_cfg["hf_model_name"]) / "config.json").read_bytes()
    return {"tokenizer_sha256": tokenizer, "text_tower_sha256": hashlib.sha256(tower).hexdigest()}


def _hash_of(folder: Path) -> str:
    """A SHA-256 of the tokenizer's files; JSON is hashed as it is, so another spelling is another tokenizer."""
    digest = hashlib.sha256()
    for file in sorted(_TOKENIZERS | {"merges.txt"}):
        if (folder / file).is_file():
            digest.update(file.encode() + b"\0" + (folder / file).read_bytes())
    return digest.hexdigest()


def _open_clip() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its imports: nothing that a user could act on
        import open_clip
        import open_clip.hf_configs
        import open_clip.tokenizer
    return open_clip


def _needs_hf(name: str) -> UsageError:
    return UsageError(f"{name} needs the package transformers: pip install 'zeroshot-cli[hf]'")


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


class _WithoutRandomNumbers(TorchFunctionMode):
    """Leaves out the random numbers of new weights: they are overwritten, and take seconds for a large model.

    Everything else is built for real. torch.device("meta") would lose tensors that are no part of a state dict.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return args[0] if func in _RANDOM else func(*args, **(kwargs or {}))
