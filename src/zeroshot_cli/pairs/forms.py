"""Captions in files that are not tables: COCO's JSON, conversations of image and text, Flickr's `.token`.

Each becomes rows such as a table has: an object with an image and its caption or captions, and where it is in the file.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any, TypeGuard

from zeroshot_cli.pairs.columns import IMAGE_COLUMNS, IMAGE_EXTENSIONS, Fault, shortened

Row = tuple[str, Mapping[str, Any]]
"""Where an object is in its file, and the object."""

_TOKEN = re.compile(r"([^\t]+)#\d+\t(.*)", re.DOTALL)
_TURNS = ("conversations", "messages")
_ANSWERS = ("gpt", "assistant", "model", "bot")
_CSV = "write a CSV with the columns image and caption"
_COCO_CAPTIONS = "COCO keeps captions in files such as captions_val2017.json"
# keys of a JSON document that has no captions for us to read → what it is, and what to do
_KNOWN: tuple[tuple[frozenset[str], str], ...] = (
    (frozenset({"images", "categories"}), f"has COCO's boxes or categories and no captions; {_COCO_CAPTIONS}"),
    (frozenset({"questions"}), f"looks like questions about images (VQA) and has no captions; {_CSV}"),
    (frozenset({"imagePath", "shapes"}), f"looks like the outlines that labelme draws and has no captions; {_CSV}"),
    (frozenset({"_via_img_metadata"}), f"looks like regions of the VGG Image Annotator and has no captions; {_CSV}"),
)


def rows_of_document(document: Mapping[str, Any], notes: list[str]) -> Iterator[Row] | None:
    """Return the rows of a JSON document of a known form, None for any other object; what was assumed joins `notes`.

    Known are COCO's captions, an object of image names, and one list of objects under any key. Raises Fault for forms
    that hold no captions, or from which a part must be chosen first.
    """
    images, annotations = document.get("images"), document.get("annotations")
    if _are_objects(images) and any("sentences" in image for image in images[:1]):
        raise Fault(
            f"looks like Karpathy's splits, with train, val and test in one file; {_CSV} from the split that you want"
        )
    if _are_objects(images) and _are_objects(annotations) and any("caption" in each for each in annotations):
        notes.append("read as COCO's captions, with images and annotations")
        return _coco(images, annotations, notes)
    for keys, what in _KNOWN:
        if keys <= document.keys():
            raise Fault(what)
    if document and all(_is_image(name) for name in document):
        notes.append("read as an object with a caption, or a list of them, for each image")
        return ((f"key {shortened(name)}", _of_image(name, value)) for name, value in document.items())
    lists = {key: value for key, value in document.items() if _are_objects(value) and key not in _TURNS}
    if len(lists) == 1:
        ((key, items),) = lists.items()
        notes.append(f"the pairs are taken from the list {key!r}")
        return items_of(items)
    if len(lists) > 1 and not any(name in document for name in IMAGE_COLUMNS):
        names = ", ".join(map(repr, lists))
        raise Fault(f"holds several lists of objects, {names}; write the one that you want to a file of its own")
    return None


def _of_image(name: str, value: Any) -> Mapping[str, Any]:
    return {**value, "image": name} if isinstance(value, dict) else {"image": name, "caption": value}


def items_of(items: Sequence[Any]) -> Iterator[Row]:
    """Yield the objects of a list with their numbers. Raises Fault for an item that is not an object."""
    for number, item in enumerate(items, start=1):
        if not isinstance(item, dict):
            raise Fault(f"item {number}: not a JSON object with an image and its text")
        yield f"item {number}", item


def _are_objects(value: Any) -> TypeGuard[list[Any]]:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def _is_image(name: str) -> bool:
    return PurePath(name).suffix[1:].casefold() in IMAGE_EXTENSIONS


def _coco(images: Sequence[Any], annotations: Sequence[Any], notes: list[str]) -> Iterator[Row]:
    names: dict[Any, Any] = {}
    for place, image in items_of(images):
        number = image.get("id")
        if not isinstance(number, int | str):
            raise Fault(f"{place} of images: its id is {shortened(number)}; expected a number")
        if names.setdefault(number, image.get("file_name")) != image.get("file_name"):
            raise Fault(f"{place} of images: id {shortened(number)} occurs twice")
    used = set()
    for place, annotation in items_of(annotations):
        number = annotation.get("image_id")
        if not isinstance(number, int | str):
            raise Fault(f"{place} of annotations: its image_id is {shortened(number)}; expected a number")
        used.add(number)
        # An annotation of an unknown image counts as one whose image is missing.
        image = names.get(number, f"image_id {shortened(number)}")
        yield f"{place} of annotations", {"image": image, "caption": annotation.get("caption")}
    if bare := len(names.keys() - used):
        notes.append(f"{bare:,} of {len(names):,} images have no caption and are left out")


def from_conversation(row: Mapping[str, Any]) -> tuple[Mapping[str, Any], bool]:
    """Return an object with `image` and `caption` for one with a conversation, as LLaVA and ShareGPT have them.

    The caption is the first answer; the second value says whether there are others. Any other object stays as it is.
    """
    turns = next((row[key] for key in _TURNS if _are_objects(row.get(key))), None)
    if turns is None:
        return row, False
    answers = [turn for turn in turns if isinstance(turn, dict) and _speaker(turn) in _ANSWERS]
    image = row.get("image", row.get("images"))
    if isinstance(image, list):
        if len(image) > 1:
            raise Fault(f"a conversation about {len(image)} images; a caption belongs to one")
        image = image[0] if image else None
    caption = _said(answers[0]) if answers else None
    return {"image": image, "caption": caption}, len(answers) > 1


def _speaker(turn: Mapping[str, Any]) -> str:
    return str(turn.get("from", turn.get("role"))).casefold()


def _said(turn: Mapping[str, Any]) -> Any:
    content = turn.get("value", turn.get("content"))
    if isinstance(content, list):  # parts, of which some are text
        content = " ".join(str(part["text"]) for part in content if isinstance(part, dict) and "text" in part)
    return content


def is_token(line: str) -> bool:
    """Return whether a line is one of Flickr's `.token` files: `name.jpg#0`, a TAB, and a caption."""
    return _TOKEN.match(line) is not None


def token_rows(lines: Iterable[tuple[int, str]]) -> Iterator[tuple[int, str, str]]:
    """Yield line number, image and caption of the lines of a `.token` file. Raises Fault for a line of another kind."""
    for number, line in lines:
        if not line.strip():
            continue
        found = _TOKEN.match(line)
        if found is None:
            raise Fault(f"line {number}: {shortened(line.strip())} is not name.jpg#0, a TAB and a caption")
        yield number, found[1], found[2]
