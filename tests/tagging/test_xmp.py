"""Keywords cut into sidecars: what was there stays to the byte, and ElementTree reads what was meant."""

import codecs
import re
import xml.etree.ElementTree as ET
from typing import Any

import pytest
from sidecars import DARKTABLE, DIGIKAM, IMMICH, LIGHTROOM, OF_PROGRAMS, described

from zeroshot_cli.tagging.keywords import Field, keywords_of, new_keywords
from zeroshot_cli.tagging.xmp import NotXmp, Xmp, new_xmp

RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
NAMES = {
    Field.SUBJECT: "{http://purl.org/dc/elements/1.1/}subject",
    Field.HIERARCHY: "{http://ns.adobe.com/lightroom/1.0/}hierarchicalSubject",
    Field.TAGS: "{http://www.digikam.org/ns/1.0/}TagsList",
}
OURS = keywords_of([("zeroshot", "Tiere", "Bär")])
IN_LI = re.compile(r"\s*<rdf:li>[^<]*</rdf:li>")


def read(data: bytes) -> dict[str, list[str]]:
    """Return the lists of keywords as the standard library's tree has them."""
    root = ET.fromstring(data)
    return {
        field: [item.text or "" for found in root.iter(name) for item in found.iter(f"{RDF}li")]
        for field, name in NAMES.items()
    }


def tagged(text: str | bytes, ours: Any = OURS) -> bytes:
    data = text.encode() if isinstance(text, str) else text
    xmp = Xmp(data)
    lacking, copied = new_keywords(xmp.keywords, ours)
    return xmp.adding(copied, lacking)


def test_a_new_sidecar_has_the_three_lists() -> None:
    data = new_xmp().adding(OURS)
    assert read(data) == {
        "dc:subject": ["Bär"],
        "lr:hierarchicalSubject": ["zeroshot|Tiere|Bär"],
        "digiKam:TagsList": ["zeroshot/Tiere/Bär"],
    }
    assert Xmp(data).removing(OURS) == new_xmp().adding().replace(b'about=""/>', b'about="">\n  </rdf:Description>')
    assert Xmp(Xmp(data).removing(OURS)).is_bare


def test_darktable_keeps_its_history_and_its_keywords_come_first() -> None:
    data = tagged(DARKTABLE)
    assert read(data) == {
        "dc:subject": ["Küste", "Sonnenuntergang", "Bär"],
        "lr:hierarchicalSubject": ["Orte|Küste", "Sonnenuntergang", "zeroshot|Tiere|Bär"],
        # immich and digiKam look here first, and would not see the user's own without a copy
        "digiKam:TagsList": ["Orte/Küste", "Sonnenuntergang", "zeroshot/Tiere/Bär"],
    }
    new = re.search(rb"\n   <digiKam:TagsList.*</digiKam:TagsList>", data, re.DOTALL)
    assert new is not None
    rest = data.replace(new[0], b"")
    for line in (b"\n     <rdf:li>B\xc3\xa4r</rdf:li>", "\n     <rdf:li>zeroshot|Tiere|Bär</rdf:li>".encode()):
        assert rest.count(line) == 1
        rest = rest.replace(line, b"")
    assert rest == DARKTABLE.encode()


def test_digikam_gets_a_line_in_each_of_its_lists_and_nothing_else() -> None:
    data = tagged(DIGIKAM).decode()
    added = ["zeroshot/Tiere/Bär", "zeroshot|Tiere|Bär", "Bär"]
    assert [text for text in re.findall("<rdf:li>(.*)</rdf:li>", data) if "Bär" in text] == added
    for text in added:
        data = data.replace(f"\n     <rdf:li>{text}</rdf:li>", "")
    assert data == DIGIKAM


def test_lightroom_keeps_its_settings_its_line_ends_and_its_padding() -> None:
    data = tagged(LIGHTROOM)
    assert b"\n" not in data.replace(b"\r\n", b"")
    head, tail = LIGHTROOM.encode().split(b"/>\r\n </rdf:RDF>")
    assert data.startswith(head + b">\r\n   <dc:subject xmlns:dc=")
    assert data.endswith(b"</digiKam:TagsList>\r\n  </rdf:Description>\r\n </rdf:RDF>" + tail)
    assert read(data)["lr:hierarchicalSubject"] == ["zeroshot|Tiere|Bär"]


def test_immich_reads_its_own_tags_still() -> None:
    data = tagged(IMMICH)
    assert read(data)["digiKam:TagsList"] == ["Familie/Zoë", "zeroshot/Tiere/Bär"]
    assert read(data)["lr:hierarchicalSubject"] == ["Familie|Zoë", "zeroshot|Tiere|Bär"]
    for new in re.findall(rb"\n  <(?:dc:subject|lr:hier).*?</(?:dc:subject|lr:\w+)>", data, re.DOTALL):
        data = data.replace(new, b"")
    assert data.decode().replace("\n    <rdf:li>zeroshot/Tiere/Bär</rdf:li>", "") == IMMICH


@pytest.mark.parametrize("program", OF_PROGRAMS)
def test_tagged_twice_nothing_is_doubled_and_taken_out_only_ours_goes(program: str) -> None:
    before = Xmp(OF_PROGRAMS[program].encode())
    data = tagged(OF_PROGRAMS[program])
    assert tagged(data) == data
    assert not any(new_keywords(Xmp(data).keywords, OURS))
    after = Xmp(Xmp(data).removing(OURS)).keywords
    assert {field: texts for field, texts in after.items() if field in before.keywords} == before.keywords


BAG = "<dc:subject><rdf:Bag><rdf:li>a</rdf:li></rdf:Bag></dc:subject>"
FORMS = {
    "a list": (BAG, "", ["a", "b"]),
    "an empty list": ("<dc:subject><rdf:Bag/></dc:subject>", "", ["b"]),
    "an empty list of two tags": ("<dc:subject><rdf:Bag> <!-- c --></rdf:Bag></dc:subject>", "", ["b"]),
    "an empty property": ("<dc:subject/>", "", ["b"]),
    "an empty property of two tags": ("<dc:subject> </dc:subject>", "", ["b"]),
    "a single value": ("<dc:subject> a &amp; c </dc:subject>", "", ["a & c", "b"]),
    "CDATA": ("<dc:subject><rdf:Bag><rdf:li><![CDATA[<a>]]></rdf:li></rdf:Bag></dc:subject>", "", ["<a>", "b"]),
    "an attribute": ("<dc:title/>", " dc:rights='dc:subject=\"x\" >' dc:subject = 'a &lt; c'", ["a < c", "b"]),
    "an attribute alone": ("", ' dc:subject="a"', ["a", "b"]),
    "an empty attribute": ("", ' dc:subject=""', ["b"]),
    "nothing": ("", "", ["b"]),
    "ours, in capitals": ("<dc:subject><rdf:Bag><rdf:li>B</rdf:li></rdf:Bag></dc:subject>", "", ["B"]),
    "two lists": (BAG + BAG.replace(">a<", ">c<"), "", ["a", "b", "c"]),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("closed", [False, True])
def test_every_form_of_a_list(form: str, closed: bool) -> None:
    inner, attributes, expected = FORMS[form]
    text = described(inner, attributes)
    if closed and not inner:
        text = text.replace("></rdf:Description>", " />")
    data = tagged(text, {Field.SUBJECT: ["b"]})
    assert read(data)["dc:subject"] == expected
    assert Xmp(data).keywords[Field.SUBJECT] == expected
    left = Xmp(Xmp(data).removing({Field.SUBJECT: ["b"]})).keywords.get(Field.SUBJECT, [])
    assert left == [each for each in expected if each.casefold() != "b"]


@pytest.mark.parametrize(
    "text",
    [
        described().replace("rdf:", "r:").replace("xmlns:rdf", "xmlns:r"),
        described("<k:subject xmlns:k='http://purl.org/dc/elements/1.1/'><rdf:Bag/></k:subject>"),
        described(attributes=' xmlns:lr="urn:another" xmlns:digiKam="urn:third"'),
        '<r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#"/>',
        '<RDF xmlns="http://www.w3.org/1999/02/22-rdf-syntax-ns#">\n <Description/>\n</RDF>',
        '<RDF xmlns="http://www.w3.org/1999/02/22-rdf-syntax-ns#">\n</RDF>',
    ],
)
def test_prefixes_are_only_names(text: str) -> None:
    data = tagged(text)
    assert read(data) == {field: OURS[field] for field in Field}
    assert not any(read(Xmp(data).removing(OURS)).values())


@pytest.mark.parametrize(
    ("bom", "encoding", "declared"),
    [
        (codecs.BOM_UTF8, "utf-8", ""),
        (codecs.BOM_UTF16_LE, "utf-16-le", ""),
        (codecs.BOM_UTF16_BE, "utf-16-be", "UTF-16"),
        (codecs.BOM_UTF32_LE, "utf-32-le", ""),
        (b"", "utf-16-le", ""),
        (b"", "utf-16-be", ""),
        (b"", "iso-8859-1", "ISO-8859-1"),
    ],
)
def test_the_encoding_stays(bom: bytes, encoding: str, declared: str) -> None:
    text = described("<dc:subject><rdf:Bag><rdf:li>Öl</rdf:li></rdf:Bag></dc:subject>")
    if declared:
        text = f'<?xml version="1.0" encoding="{declared}"?>{text}'
    data = tagged(bom + text.encode(encoding), {Field.SUBJECT: ["Bär", "猫"]})
    assert data.startswith(bom)
    assert Xmp(data).keywords[Field.SUBJECT] == ["Öl", "Bär", "猫"]
    assert "<rdf:li>Bär</rdf:li>" in data[len(bom) :].decode(encoding)
    assert bom + text.encode(encoding) == Xmp(data).removing({Field.SUBJECT: ["Bär", "猫"]})


BOMB = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>' + described(
    "<dc:subject><rdf:Bag><rdf:li>&b;</rdf:li></rdf:Bag></dc:subject>"
)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "it is not XMP: no element found in line 1"),
        (b"GIF89a", "it is not XMP: syntax error in line 1"),
        (b"<x/>", "it is not XMP: it has no rdf:RDF"),
        (DARKTABLE.encode()[:-20], "it is not XMP: unclosed token"),
        (BOMB.encode(), "it has a DOCTYPE, which no XMP needs"),
        (described("&a;").encode(), "it is not XMP: undefined entity"),
        (described("\xe4").encode("latin-1"), "it is not XMP: its text is not utf-8"),
        (b'<?xml version="1.0" encoding="rot13"?>' + described().encode(), "it is not XMP: its text is not rot13"),
        (codecs.BOM_UTF16_LE + b"<\0x", "it is not XMP: its text is not utf-16-le"),
        (described().encode() + b"\0\0", "it is not XMP"),
    ],
)
def test_what_is_no_xmp_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(NotXmp, match=f"^{re.escape(reason)}"):
        Xmp(data)


def test_a_deep_document_ends_soon() -> None:
    xmp = Xmp(described("<a>" * 20_000 + "</a>" * 20_000).encode())
    assert Xmp(xmp.adding(OURS)).keywords == OURS


def test_separators_and_characters_within_labels() -> None:
    keywords = keywords_of([("a|b", "c/d"), ("x\0\ud800", " y\n z "), ("AC/DC",), ("ac/dc",), ("",)])
    assert keywords == {
        Field.SUBJECT: ["c/d", "y z", "AC/DC"],
        Field.HIERARCHY: ["a-b|c/d", "x\ufffd\ufffd|y z", "AC/DC"],
        Field.TAGS: ["a|b/c-d", "x\ufffd\ufffd/y z", "AC-DC"],
    }
    markup = keywords_of([("</rdf:li>", "]]>&amp;<!--")])
    assert read(new_xmp().adding(markup))["dc:subject"] == ["]]>&amp;<!--"]
