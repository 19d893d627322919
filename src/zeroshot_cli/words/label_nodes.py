"""Labels of YAML and JSON: a list, a mapping, groups, or one of the files in which other tools keep names of classes.

Those are a list under a key such as `names` (YOLO), objects with a name (COCO's `categories`), ids with names
(`id2label`, ImageNet's class index), names with ids (`label2id`, `class_to_idx`), and the features in a data set's card
of Hugging Face. Nothing but the names is taken from them.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

from zeroshot_cli.errors import LabelsError
from zeroshot_cli.words.groups import checked_path
from zeroshot_cli.words.nodes import List, Map, Node, Text, at, parse_json, parse_yaml, text_of
from zeroshot_cli.words.prompts import count_placeholders
from zeroshot_cli.words.raw_labels import RawLabel, Say, is_id, is_number, is_wnid, with_id

_NOTHING = ("", "~", "null")  # values of a mapping that mean "no synonyms"
_FIELDS = ("synonyms", "prompts", "folder")
# Keys in lower case, without _ and -
_LISTS = {
    "labels", "classes", "names", "categories", "classnames", "labelnames", "classlabels", "labellist", "classlist",
    "categorynames", "candidatelabels", "thingclasses", "tags", "label", "class", "name", "category", "targets",
    "classtoidx", "idxtoclass", "classtoindex", "indextoclass", "id2class", "class2id", "idx2label", "label2idx",
}  # fmt: skip
_NAMES = ("name", "label", "classname", "labelname", "displayname", "title", "class", "category", "categoryname", "tag")
_IDS = ("id", "index", "wnid", "classid", "labelid", "categoryid", "synset")
_SYNONYMS = ("synonyms", "aliases", "alternativenames")
_DESCRIBING = {*_FIELDS, *_SYNONYMS, *_IDS, "synonym", "prompt", "folders", "template", "templates", "description"}
_ENDS_SENTENCE = re.compile(r"[.!?]$|[^\W\d_]{3}[.!?]+\s+\w")  # three letters, so that "St. Bernard" is a name
_MANY_WORDS = 4  # beside the label's name: more than a synonym has
_PLACEHOLDER_NAME = re.compile(r"(LABEL|CLASS)_\d+")  # what Transformers writes where nobody named the classes

_Pair = tuple[str, Node, Node]  # the key's text, the key and the value


def read_nodes(text: str, path: Path, say: Say) -> Iterator[RawLabel]:
    """Yield the labels of a YAML or JSON file; raises LabelsError, with the line, for what is not a list of labels."""
    parse = parse_json if path.suffix.lower() == ".json" else parse_yaml
    yield from labels_of_node(parse(text, path, LabelsError), path, say)


def labels_of_node(root: Node | None, path: Path, say: Say) -> Iterator[RawLabel]:
    """Yield the labels of a document; None is an empty one."""
    match root:
        case Text(line, word):
            raise LabelsError(f"{at(path, line)}: {word!r} is one text; write a list of labels")
        case List(_, items):
            yield from _from_items(items, path)
        case Map():
            yield from _from_map(root, path, say)


def _from_map(root: Map, path: Path, say: Say) -> Iterable[RawLabel]:
    """Return the labels of the first form that the mapping has."""
    pairs = [(_text(key, path), key, value) for key, value in root.pairs]
    if (groups := _groups_of(pairs, path)) is not None:
        return _from_groups(groups, path)
    inner = _wrapped(pairs, path)
    if inner is None and (found := list(_class_labels(root))):
        inner = _only(found, path)
    if inner is not None:
        key, value = inner
        say(f"labels taken from key `{key}` of {path.name}")
        labels = tuple(_from_items(value.items, path) if isinstance(value, List) else _from_map(value, path, say))
        if labels and all(_PLACEHOLDER_NAME.fullmatch(label.name) for label in labels):
            raise LabelsError(f"{at(path, value.line)}: {labels[0].name!r} is a number, not a word; write the names")
        return labels
    if pairs and all(is_id(text) and not _is_nothing(value) for text, _, value in pairs):
        say("numbers or ids in place of labels stand for the words next to them")
        return _sorted_by_id(_with_key(text, key.line, value, path) for text, key, value in pairs)
    if pairs and all(isinstance(value, Text) and is_id(value.text) for _, _, value in pairs):
        say("the numbers or ids after labels are not synonyms")
        return _sorted_by_id(with_id(key.line, _text(value, path).strip(), [text]) for text, key, value in pairs)
    if pairs and all(isinstance(value, Text) and is_number(value.text) for _, _, value in pairs):
        say("the numbers after labels are no synonyms")
        return tuple(RawLabel(key.line, text) for text, key, _ in pairs)
    if any(_may_be_group(value) and _may_hold(value) for _, _, value in pairs):
        return _from_nested(root, path, say)
    for text, node, truth in pairs:
        if isinstance(truth, Text) and truth.text.lower() in ("true", "false"):
            raise LabelsError(
                f"{at(path, node.line)}: {text!r} has the value {truth.text}, which is not a synonym; write a list of "
                "the labels that you want"
            )
    if len(pairs) == 1:
        _check_is_label(pairs[0], path)
    return tuple(_from_pair(text, key.line, value, path) for text, key, value in pairs)


# wrappers


def _wrapped(pairs: Sequence[_Pair], path: Path) -> tuple[str, List | Map] | None:
    """Return the key and value that hold all labels, where one does.

    Raises LabelsError where that is unclear: a label may be called "names", too.
    """
    by_key = {_plain(text): (text, value) for text, _, value in pairs}
    for key in ("id2label", "label2id"):
        text, value = by_key.get(key, ("", None))
        if isinstance(value, Map):
            return text, value
    holders = [(text, value) for text, _, value in pairs if _plain(text) in _LISTS and _may_hold(value)]
    if not holders:
        wrong = next((each for each in pairs if len(pairs) == 1 and _plain(each[0]) in _LISTS), None)
        if wrong is not None and not isinstance(wrong[2], Map):
            raise LabelsError(f"{at(path, wrong[1].line)}: {wrong[0]!r} has no list; write each label as an item of it")
        return None
    others = [each for each in pairs if each[0] != holders[0][0] and _plain(each[0]) not in _LISTS]
    if others and all(_reads_as_synonyms(value) for _, _, value in others):
        raise LabelsError(
            f"{at(path, holders[0][1].line)}: {holders[0][0]!r} may hold all labels, or be a label beside "
            f"{others[0][0]!r}; keep only the list of labels, or write its synonyms under `synonyms:`"
        )
    return _only(holders, path)


def _only(holders: Sequence[tuple[str, Node]], path: Path) -> tuple[str, List | Map]:
    """Return the one of several places that hold labels; raises LabelsError where they hold different ones."""
    (name, value), *more = holders
    for other, second in more:
        if _bare(second) != _bare(value):
            where = f"{at(path, second.line)}: {other!r} holds other labels than {name!r} on line {value.line}"
            raise LabelsError(f"{where}; keep one of them")
    assert isinstance(value, List | Map)
    return name, value


def _class_labels(node: Node, depth: int = 0) -> Iterator[tuple[str, List | Map]]:
    """Yield the names of each feature of a data set's card that is a class label."""
    if isinstance(node, List):
        for item in node.items:
            yield from _class_labels(item, depth + 1)
    if not isinstance(node, Map):
        return
    fields = {key.text: value for key, value in node.pairs if isinstance(key, Text)}
    kind, names = fields.get("_type"), fields.get("names")
    if depth and isinstance(kind, Text) and kind.text == "ClassLabel" and isinstance(names, List | Map):
        yield "names", names
        return
    for key, value in fields.items():
        pairs = value.pairs if isinstance(value, Map) else ()
        inner = {each.text: of for each, of in pairs if isinstance(each, Text)}
        if key == "class_label" and isinstance(inner.get("names"), List | Map):
            yield "class_label", inner["names"]  # type: ignore[misc]
        else:
            yield from _class_labels(value, depth + 1)


def _bare(node: Node) -> object:
    """Return a node without its lines."""
    if isinstance(node, Text):
        return node.text
    if isinstance(node, List):
        return [_bare(item) for item in node.items]
    return [(_bare(key), _bare(value)) for key, value in node.pairs]


def _plain(key: str) -> str:
    return re.sub(r"[\s_-]", "", key[:100]).lower()


def _may_hold(value: Node) -> bool:
    """Return whether a value may hold labels; a mapping of `synonyms:` or `prompts:` describes one label."""
    if isinstance(value, Map):
        keys = [key.text for key, _ in value.pairs if isinstance(key, Text)]
        return bool(keys) and not all(key in _FIELDS for key in keys)
    return isinstance(value, List) and bool(value.items)


def _reads_as_synonyms(value: Node) -> bool:
    if isinstance(value, Text):
        return value.text in _NOTHING
    if isinstance(value, Map):
        return not _may_hold(value)
    return all(isinstance(item, Text) for item in value.items)


def _check_is_label(pair: _Pair, path: Path) -> None:
    """Raise LabelsError for one key with plain words: they may be its synonyms, or labels."""
    name, key, value = pair
    if _is_nothing(value) or isinstance(value, Map):
        return
    texts = _texts(value, path)
    if not texts or any(_may_be_template(text) or _is_whole_prompt(text, name) for text in texts):
        return
    raise LabelsError(
        f"{at(path, key.line)}: {name!r} is the only key, and {texts[0]!r} may be its synonym or a label; write "
        f"`labels:` above a list of labels, or `{name}: {{synonyms: [{texts[0]}]}}`"
    )


# items


def _from_items(items: Sequence[Node], path: Path) -> Iterator[RawLabel]:
    for item in items:
        if isinstance(item, Text):
            yield RawLabel(item.line, item.text)
        elif isinstance(item, Map):
            yield _from_object(item, path)
        elif len(item.items) > 1 and isinstance(item.items[0], Text) and is_id(item.items[0].text):
            yield _with_key(item.items[0].text, item.line, List(item.line, item.items[1:]), path)
        else:
            _text(item, path)


def _from_object(item: Map, path: Path) -> RawLabel:
    """Return the label of an object such as {"id": 1, "name": "apple"}."""
    fields = {_plain(key.text): value for key, value in item.pairs if isinstance(key, Text)}
    name = next((fields[key] for key in _NAMES if isinstance(fields.get(key), Text)), None)
    if name is None:
        raise LabelsError(
            f"{at(path, item.line)}: expected text, found a mapping without the key name; write each label as text, or "
            "one mapping of labels to synonyms"
        )
    words = next((fields[key] for key in _SYNONYMS if key in fields), None)
    ids = [each.text.strip() for key in _IDS if isinstance(each := fields.get(key), Text)]
    folders = tuple(dict.fromkeys(id_ for id_ in ids if is_id(id_)))
    return RawLabel(item.line, _text(name, path), () if words is None else _texts(words, path), folders=folders)


def _with_key(id_: str, line: int, value: Node, path: Path) -> RawLabel:
    """Return the label of an id: a name, a list of names and more ids, or an object with a name."""
    id_ = id_.strip()
    if isinstance(value, Map):
        label = _from_object(value, path)
        return replace(label, folders=tuple(dict.fromkeys((id_, *label.folders))))
    texts = _texts(value, path)
    names = [text for text in texts if not is_id(text)]
    if not names:
        raise LabelsError(f"{at(path, line)}: {id_!r} has no word; write one after it")
    ids = [text.strip() for text in texts if is_id(text)]
    if any(map(is_wnid, (id_, *ids))):  # ImageNet's class index has great_white_shark
        names = [name.replace("_", " ") for name in names]
    label = with_id(line, id_, names)
    return replace(label, folders=(id_, *ids))


def _sorted_by_id(labels: Iterable[RawLabel]) -> tuple[RawLabel, ...]:
    found = tuple(labels)
    ids = [label.folders[0] for label in found]
    if not all(id_.isdigit() for id_ in ids):
        return found
    return tuple(sorted(found, key=lambda label: int(label.folders[0])))


# groups of labels

_GROUPS = "groups"


def _groups_of(pairs: Sequence[_Pair], path: Path) -> Map | None:
    """Return the mapping under `groups:`, None where that is not a key for groups.

    Raises LabelsError for labels beside it.
    """
    groups = next((value for text, _, value in pairs if text.strip().lower() == _GROUPS), None)
    if not isinstance(groups, Map) or not _may_hold(groups):
        return None
    for text, key, value in pairs:
        if value is not groups and not isinstance(value, Text):
            raise LabelsError(f"{at(path, key.line)}: {text!r} is beside `groups:`; write it below that key")
    return groups


def _may_be_group(value: Node) -> bool:
    """Return whether a value is a mapping of names to labels or more groups."""
    if not isinstance(value, Map) or _describes_label(value):
        return False
    return all(not isinstance(inner, Text) or inner.text in _NOTHING for _, inner in value.pairs)


def _describes_label(value: Node) -> bool:
    """Return whether a value is a mapping with a key that says something of a label, or is misspelt."""
    keys = [_plain(key.text) for key, _ in value.pairs if isinstance(key, Text)] if isinstance(value, Map) else []
    return any(key in _DESCRIBING or get_close_matches(key, _FIELDS, 1, 0.8) for key in keys)


def _from_nested(root: Map, path: Path, say: Say) -> Iterator[RawLabel]:
    """Return the labels of nested mappings without `groups:`; a list at their top has always been of synonyms."""
    for key, value in root.pairs:
        if isinstance(value, List) and value.items:
            name, first = _text(key, path), _text(value.items[0], path)
            raise LabelsError(
                f"{at(path, key.line)}: {name!r} may be a group of labels such as {first!r}, or a label with that "
                f"synonym; write `groups:` above all groups, or `{name}: {{synonyms: [{first}]}}`"
            )
    say("nested keys are groups, and the lists in them are labels; synonyms are under `synonyms:`")
    nothing = Text(root.line, "")
    return _from_groups(Map(root.line, tuple((k, nothing if _is_nothing(v) else v) for k, v in root.pairs)), path)


def _from_groups(node: Map | List, path: Path, inside: tuple[str, ...] = ()) -> Iterator[RawLabel]:
    """Yield the labels of groups: a mapping or a list is a group, nothing or a mapping of `synonyms:` a label."""
    if isinstance(node, List):
        for item in node.items:
            if isinstance(item, Map) and not _is_object(item):
                yield from _from_groups(item, path, inside)
            else:
                yield from (replace(label, group=inside) for label in _from_items([item], path))
        return
    for key, value in node.pairs:
        name, where = _text(key, path), at(path, key.line)
        if isinstance(value, Text) and value.text not in _NOTHING:
            raise LabelsError(
                f"{where}: {value.text!r} may be a label in the group {name!r}, or its synonym; write "
                f"`{name}: [{value.text}]` for a group, or `{name}: {{synonyms: [{value.text}]}}` for a label"
            )
        if isinstance(value, Text) or _describes_label(value):
            yield replace(_from_pair(name, key.line, value, path), group=inside)
            continue
        found = list(_from_groups(value, path, checked_path((*inside, name), where)))
        if not found:
            raise LabelsError(f"{where}: the group {name!r} has no labels; add one, or write `{name}:` for a label")
        yield from found


def _is_object(item: Map) -> bool:
    """Return whether an item of a list is an object such as {"name": "apple", "synonyms": [...]}."""
    return any(
        isinstance(key, Text) and _plain(key.text) in _NAMES and isinstance(value, Text) and value.text not in _NOTHING
        for key, value in item.pairs
    )


# a label with its words


def _from_pair(name: str, line: int, value: Node, path: Path) -> RawLabel:
    if not isinstance(value, Map):
        return _from_list(name, line, _texts(value, path), path)
    fields: dict[str, tuple[str, ...]] = {}
    for key, texts in value.pairs:
        field, where = _text(key, path), at(path, key.line)
        if field not in _FIELDS:
            raise LabelsError(f"{where}: label {name!r} has the unknown key {field!r}; known are {', '.join(_FIELDS)}")
        if field in fields:
            raise LabelsError(f"{where}: label {name!r} has {field!r} twice; write one list")
        fields[field] = _texts(texts, path)
    words, prompts, folders = (fields.get(field, ()) for field in _FIELDS)
    return RawLabel(line, name, words, prompts, folders)


def _from_list(name: str, line: int, texts: tuple[str, ...], path: Path) -> RawLabel:
    """Return a label with synonyms, or with whole prompts where all texts without a placeholder read like prompts.

    Raises LabelsError for a mixture.
    """
    plain = [text for text in texts if not _may_be_template(text)]
    whole = [text for text in plain if _is_whole_prompt(text, name)]
    if not whole:
        return RawLabel(line, name, texts)
    if len(whole) < len(plain):
        synonym = next(text for text in plain if text not in whole)
        mixture = f"label {name!r} has both a synonym, {synonym!r}, and a whole prompt, {whole[0]!r}, in one list"
        raise LabelsError(f"{at(path, line)}: {mixture}; write them under `synonyms:` and `prompts:`")
    return RawLabel(line, name, prompts=texts)


def _is_whole_prompt(text: str, name: str) -> bool:
    """Return whether a text ends like a sentence, has several, or has the name among many other words."""
    if _ENDS_SENTENCE.search(text.strip()):
        return True
    others, found = re.subn(rf"(?<!\w){re.escape(name.strip())}(?!\w)", " ", text, count=1, flags=re.IGNORECASE)
    return bool(found) and len(others.split()) >= _MANY_WORDS


def _may_be_template(text: str) -> bool:
    try:
        return count_placeholders(text) > 0
    except ValueError:  # rejected later, with its line
        return True


def _is_nothing(node: Node) -> bool:
    return node.text in _NOTHING if isinstance(node, Text) else isinstance(node, List) and not node.items


def _texts(node: Node, path: Path) -> tuple[str, ...]:
    """Return the texts of a list, or a single text; none for an empty value."""
    if isinstance(node, List):
        return tuple(_text(item, path) for item in node.items)
    text = _text(node, path)
    return () if text in _NOTHING else (text,)


def _text(node: Node, path: Path) -> str:
    return text_of(node, path, LabelsError)
