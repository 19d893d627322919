"""XMP sidecars as bytes into which keywords are written, and all else stays as it is to the byte.

No library that writes XML again keeps quotes, white space, comments, prefixes and the packet around it. So expat says
where each element begins, and only the keywords are cut in and out there. What comes out is parsed again and must have
the keywords that were meant. Source: Adobe's XMP Specification Part 1 (ISO 16684-1), section 7, on its RDF.
"""

import codecs
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from xml.parsers import expat
from xml.sax.saxutils import escape

from zeroshot_cli.tagging.keywords import Field, Keywords, among

_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_TOOLKIT = "zeroshot"  # who made a sidecar, in its x:xmptk
_NAMESPACES = {
    Field.SUBJECT: "http://purl.org/dc/elements/1.1/",
    Field.HIERARCHY: "http://ns.adobe.com/lightroom/1.0/",
    Field.TAGS: "http://www.digikam.org/ns/1.0/",
}
_LISTS = ("Bag", "Seq", "Alt")
_EMPTY = f"""\
<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="{_TOOLKIT}">
 <rdf:RDF xmlns:rdf="{_RDF}">
  <rdf:Description rdf:about=""/>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="w"?>
"""
_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_STARTS = ((b"<\0", "utf-16-le"), (b"\0<", "utf-16-be"))
_DECLARED = re.compile(rb"""<\?xml\s[^>]*?encoding\s*=\s*["']([A-Za-z][\w.-]*)["']""")
_TAG = re.compile(rb"""<(?:"[^"]*"|'[^']*'|[^"'>])*>""")
_NAME = re.compile(rb"<([^\s/>]+)")
_ATTRIBUTE = re.compile(rb"""\s+([^\s=]+)\s*=\s*(?:"[^"]*"|'[^']*')""")
_SPACE = b" \t\r\n"


class NotXmp(Exception):
    """A file that is no XMP, or of which we cannot be sure; the text is the reason."""


@dataclass(slots=True)
class _Element:
    """An element: its tag is from `start` to `inside`, its end tag from `close` to `end`, in bytes of UTF-8."""

    uri: str
    local: str
    prefix: str  # as it is written, with its colon
    attributes: dict[tuple[str, str], str]
    start: int
    inside: int
    close: int = 0
    end: int = 0
    children: list["_Element"] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(self.texts).strip()

    def is_rdf(self, *names: str) -> bool:
        return self.uri == _RDF and self.local in names

    def container(self) -> "_Element | None":
        """Return the list in a property, None where it is a single value."""
        return next((child for child in self.children if child.is_rdf(*_LISTS)), None)

    def items(self) -> Iterator["_Element"]:
        return (child for child in self.children if child.is_rdf("li"))


class Xmp:
    """A parsed sidecar. Raises NotXmp for what is not XMP, and for a DOCTYPE: entities could stand for anything."""

    def __init__(self, data: bytes) -> None:
        self._bom, self._encoding, text = _decoded(data)
        self._data = text.encode()
        self._rdf, self.toolkit = _parsed(self._data)

    @property
    def keywords(self) -> dict[Field, list[str]]:
        """The keywords of each list that is there."""
        found: dict[Field, list[str]] = {}
        for each, element in self._properties():
            inner = element.container()
            texts = [element.text] if inner is None else [item.text for item in inner.items()]
            found.setdefault(each, []).extend(text for text in texts if text)
        for each, description in self._attributes():
            text = description.attributes[_key(each)].strip()
            found.setdefault(each, []).extend([text] if text else [])
        return found

    @property
    def is_bare(self) -> bool:
        """Whether it is a sidecar that zeroshot made, and nothing is in it."""
        bare = {(_RDF, "about"), ("", "about")}
        nothing = all(not each.children and each.attributes.keys() <= bare for each in self._rdf.children)
        return self.toolkit == _TOOLKIT and nothing

    def adding(self, *more: Keywords) -> bytes:
        """Return the sidecar with keywords after those that its lists have."""
        new = {each: [text for part in more for text in part.get(each, ())] for each in Field}
        cuts: list[tuple[int, int, bytes]] = []
        created: dict[Field, list[str]] = {}
        properties = dict(reversed([*self._properties()]))  # the first of each
        attributes = dict(reversed([*self._attributes()]))
        for each, texts in ((each, texts) for each, texts in new.items() if texts):
            if each in properties:
                cuts.append(self._added(properties[each], each, texts))
                continue
            if each in attributes:
                before = attributes[each].attributes[_key(each)].strip()
                cuts.append(self._attribute(attributes[each], each))
                texts = [before, *texts] if before else texts
            created[each] = texts
        if created:
            cuts.append(self._created(created))
        existing = self.keywords
        return self._checked(cuts, {each: [*existing.get(each, ()), *new[each]] for each in Field})

    def removing(self, keywords: Keywords) -> bytes:
        """Return the sidecar without certain keywords, and without the lists that then are empty."""
        cuts = []
        for each, element in self._properties():
            ours, inner = keywords.get(each, ()), element.container()
            items = [element] if inner is None else [*inner.items()]
            gone = [item for item in items if among(item.text, ours)]
            if gone:
                cuts += [self._cut(item) for item in ([element] if len(gone) == len(items) else gone)]
        for each, description in self._attributes():
            if among(description.attributes[_key(each)].strip(), keywords.get(each, ())):
                cuts.append(self._attribute(description, each))
        left = {
            each: [text for text in texts if not among(text, keywords.get(each, ()))]
            for each, texts in self.keywords.items()
        }
        return self._checked(cuts, left)

    # where the keywords are

    def _descriptions(self) -> Iterator[_Element]:
        return (child for child in self._rdf.children if child.is_rdf("Description"))

    def _properties(self) -> Iterator[tuple[Field, _Element]]:
        for description in self._descriptions():
            for child in description.children:
                yield from ((each, child) for each in Field if _key(each) == (child.uri, child.local))

    def _attributes(self) -> Iterator[tuple[Field, _Element]]:
        for description in self._descriptions():
            yield from ((each, description) for each in Field if _key(each) in description.attributes)

    # cuts: from where to where, and what is there instead

    def _added(self, element: _Element, each: Field, texts: Iterable[str]) -> tuple[int, int, bytes]:
        inner = element.container()
        if inner is None:  # a single value, or nothing
            kept = [element.text] if element.text else []
            return _filled(element, self._listed(each, [*kept, *texts], b""), replacing=True)
        last = next(reversed([*inner.items()]), None)
        if last is None:
            return _filled(inner, _items(inner.prefix, texts, b""))
        return last.end, last.end, _items(inner.prefix, texts, self._space(last.start))

    def _created(self, created: Keywords) -> tuple[int, int, bytes]:
        """Put new lists after all else in the first description; the last may be a new one itself."""
        description = next(self._descriptions(), None)
        place = description or self._rdf
        last = place.children[-1] if place.children else None
        space = self._space(last.start) if last else _deeper(self._space(place.start), 1)
        if description is None:
            space = _deeper(space, 1)
        known = self._data[self._rdf.start : (description or self._rdf).inside]
        content = b"".join(self._new(each, texts, space, known) for each, texts in created.items())
        if description is None:
            name = f"{self._rdf.prefix}Description".encode()
            about = f'{self._rdf.prefix or "rdf:"}about=""'.encode()
            if not self._rdf.prefix:
                about = b'xmlns:rdf="%s" %s' % (_RDF.encode(), about)
            up = space[:-1] if b"\n" in space else b""
            content = b"%s<%s %s>%s%s</%s>" % (up, name, about, content, up, name)
        if last is not None:
            return last.end, last.end, content
        return _filled(place, content, self._space(place.start))

    def _new(self, each: Field, texts: Iterable[str], space: bytes, known: bytes) -> bytes:
        """Return a property; `known` are the tags around it, which may declare its prefix."""
        prefix, uri = each.partition(":")[0].encode(), _NAMESPACES[each].encode()
        declared = re.search(rb"""\sxmlns:%s\s*=\s*["']([^"']*)""" % prefix, known)
        namespace = b"" if declared and declared[1] == uri else b' xmlns:%s="%s"' % (prefix, uri)
        name, deeper = each.encode(), _deeper(space, 1)
        return b"%s<%s%s>%s%s</%s>" % (space, name, namespace, self._listed(each, texts, deeper), space, name)

    def _listed(self, each: Field, texts: Iterable[str], space: bytes) -> bytes:
        name = f"{self._rdf.prefix}{'Seq' if each is Field.TAGS else 'Bag'}".encode()
        return b"%s<%s>%s%s</%s>" % (space, name, _items(self._rdf.prefix, texts, _deeper(space, 1)), space, name)

    def _cut(self, element: _Element) -> tuple[int, int, bytes]:
        return element.start - len(self._space(element.start)), element.end, b""

    def _attribute(self, description: _Element, each: Field) -> tuple[int, int, bytes]:
        """Cut an attribute out of a tag, by its name whatever its prefix."""
        local = each.partition(":")[2].encode()
        name = _NAME.match(self._data, description.start)
        assert name is not None  # expat has found it
        position = name.end()
        while found := _ATTRIBUTE.match(self._data, position, description.inside):
            if found[1].endswith(b":" + local):
                return found.start(), found.end(), b""
            position = found.end()
        raise NotXmp(f"its attribute {each} is written in an unusual way")

    def _space(self, position: int) -> bytes:
        """Return the white space before a position."""
        start = position
        while start and self._data[start - 1] in _SPACE:
            start -= 1
        return self._data[start:position]

    def _checked(self, cuts: Iterable[tuple[int, int, bytes]], meant: Keywords) -> bytes:
        """Return the bytes with the cuts made, in the file's own encoding; NotXmp where that is not what was meant."""
        pieces, position = [], 0
        for start, end, new in sorted(cuts):
            pieces += [self._data[position:start], new]
            position = end
        text = b"".join([*pieces, self._data[position:]]).decode()
        data = self._bom + text.encode(self._encoding, "xmlcharrefreplace")
        after = Xmp(data).keywords
        if any(sorted(after.get(each, ())) != sorted(meant.get(each, ())) for each in Field):
            raise NotXmp("its keywords are written in an unusual way")
        return data


def new_xmp() -> Xmp:
    """Return a sidecar without keywords."""
    return Xmp(_EMPTY.encode())


def _key(each: Field) -> tuple[str, str]:
    return _NAMESPACES[each], each.partition(":")[2]


def _items(prefix: str, texts: Iterable[str], space: bytes) -> bytes:
    return b"".join(space + f"<{prefix}li>{escape(text)}</{prefix}li>".encode() for text in texts)


def _filled(
    element: _Element, content: bytes, space: bytes = b"", *, replacing: bool = False
) -> tuple[int, int, bytes]:
    """Return the cut that puts content into an element without any, or that replaces what it has."""
    if element.close < element.inside:  # <tag/>, which `space` and an end tag follow then
        return element.close, element.end, b">%s%s</%s>" % (content, space, f"{element.prefix}{element.local}".encode())
    return element.inside, element.close if replacing else element.inside, content


def _deeper(space: bytes, levels: int) -> bytes:
    return space + b" " * levels if b"\n" in space else b""


def _decoded(data: bytes) -> tuple[bytes, str, str]:
    """Return the byte order mark, the encoding and the text."""
    bom, encoding = next(((bom, name) for bom, name in _BOMS if data.startswith(bom)), (b"", ""))
    if not encoding:
        declared = _DECLARED.match(data)
        encoding = next((name for start, name in _STARTS if data.startswith(start)), "")
        encoding = encoding or (declared[1].decode() if declared else "utf-8")
    try:
        text = data[len(bom) :].decode(encoding)
        if text.encode(encoding) == data[len(bom) :]:
            return bom, encoding, text
    except (UnicodeError, LookupError):
        pass
    raise NotXmp(f"it is not XMP: its text is not {encoding}")


def _parsed(data: bytes) -> tuple[_Element, str]:
    """Return the element rdf:RDF of a sidecar in UTF-8, and who made it; NotXmp if it has none."""
    parser = expat.ParserCreate("utf-8", " ")
    parser.namespace_prefixes = True
    parser.buffer_text = True
    tree: list[_Element] = []
    found: list[_Element] = []
    toolkit: list[str] = []

    def start(name: str, attributes: dict[str, str]) -> None:
        at = parser.CurrentByteIndex
        uri, local, prefix = _name(name)
        tag = _TAG.match(data, at)
        known = {_name(key)[:2]: value for key, value in attributes.items()}
        element = _Element(uri, local, prefix, known, at, tag.end() if tag else at)
        toolkit.extend(value for (_, key), value in known.items() if key == "xmptk" and not found)
        if tree:
            tree[-1].children.append(element)
        if element.is_rdf("RDF"):
            found.append(element)
        tree.append(element)

    def end(_: str) -> None:
        element = tree.pop()
        at = parser.CurrentByteIndex
        if data[element.inside - 2 : element.inside] == b"/>":
            element.close, element.end = element.inside - 2, element.inside
            return
        tag = _TAG.match(data, at)
        element.close, element.end = at, tag.end() if tag else at

    def text(content: str) -> None:
        tree[-1].texts.append(content)

    def refuse(*_: object) -> None:
        raise NotXmp("it has a DOCTYPE, which no XMP needs")

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler, parser.StartDoctypeDeclHandler = text, refuse
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise NotXmp(f"it is not XMP: {expat.ErrorString(error.code)} in line {error.lineno}") from None
    if not found:
        raise NotXmp("it is not XMP: it has no rdf:RDF")
    return found[0], toolkit[0] if toolkit else ""


def _name(name: str) -> tuple[str, str, str]:
    """Return the namespace, the name in it, and the prefix with its colon."""
    uri, local, prefix, *_ = [*name.split(" "), "", ""] if " " in name else ["", name, ""]
    return uri, local, prefix and f"{prefix}:"
