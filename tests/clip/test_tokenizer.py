"""Our tokens against open_clip's tokenizer."""

import random

import pytest
import torch

from zeroshot_cli.clip.tokenizer import Tokenizer, TruncatedTextWarning
from zeroshot_cli.models.tokenizers import tokenizer_for

ODD = [
    "", " ", "a", "\ttabs\nand   lines\r\n", "it's we're I'll they'd I'm you've", "DON'T SHOUT", "naïve café Zürich",
    "Ünïcödé ÀÉÎ ß ẞ İstanbul", "日本語のテキスト", "中文字符", "한국어 문장", "русский текст", "नमस्ते दुनिया", "العربية", "👩‍🚀🚀🏳️‍🌈 🇩🇪",
    "1,234.56 €", "x² + y³ ≤ ½", "&amp; &lt;b&gt; &amp;amp; &quot;q&quot; &eacute; &#233;", "schÃ¶n mojibake â€œquoteâ€\x9d",
    "“curly” ‘quotes’ — dash…", "a\u0301 combining e\u0301", "zero\u200bwidth \ufeffbom", "ﬁne ﬂow ligatures", "ＦＵＬＬ width",
    "\x00\x01 control \x1b[31mred\x1b[0m", "<start_of_text> a <end_of_text> b <END_OF_TEXT>", "\ud800 lone surrogate",
    "antidisestablishmentarianism pneumonoultramicroscopicsilicovolcanoconiosis", "a_b-c/d\\e|f", "http://a.b/c?d=e&f=g",
    "....!!!!????", "don''t 's 'S", "٣٤٥ ௧௨", "\u2028line\u2029separators\u00a0nbsp", "C++ C# .NET", "½¾ ™ ® ©",
]  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return tokenizer_for(vocab_size=49408, context_length=77)


def _ten_thousand_strings() -> list[str]:
    from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES, OPENAI_IMAGENET_TEMPLATES

    rng = random.Random(0)
    texts = [rng.choice(OPENAI_IMAGENET_TEMPLATES)(rng.choice(IMAGENET_CLASSNAMES)) for _ in range(8000)]
    for _ in range(1900):  # any characters of any planes, words and white space
        alphabet = [chr(rng.choice([rng.randrange(32, 127), rng.randrange(0xA0, 0x2FF), rng.randrange(0x370, 0xD7FF),
                                    rng.randrange(0x1F300, 0x1FAFF), 32])) for _ in range(rng.randrange(1, 30))]  # fmt: skip
        texts.append("".join(alphabet))
    texts += [f"{a} & {b}" for a, b in zip(ODD, reversed(ODD), strict=True)] + ODD
    texts += [" ".join(rng.choices(IMAGENET_CLASSNAMES, k=60)) for _ in range(40)]  # far over 77 tokens
    return texts


@pytest.mark.filterwarnings("ignore::zeroshot_cli.clip.tokenizer.TruncatedTextWarning")
def test_tokens_equal_open_clips_on_ten_thousand_strings(tokenizer: Tokenizer) -> None:
    from open_clip.tokenizer import SimpleTokenizer

    texts = _ten_thousand_strings()
    assert len(texts) >= 10_000
    theirs, ours = SimpleTokenizer()(texts), tokenizer(texts)
    different = [text for text, a, b in zip(texts, theirs, ours, strict=True) if not torch.equal(a, b)]
    assert different == []


def test_a_long_text_is_cut_with_a_warning_that_names_it(tokenizer: Tokenizer) -> None:
    text = "very " * 80 + "long"
    with pytest.warns(TruncatedTextWarning, match="83 tokens and was cut to 77: 'very very"):
        tokens = tokenizer([text])
    assert tokens[0, -1] == tokenizer.eot_id
    assert tokens.shape == (1, 77)


def test_a_text_of_exactly_77_tokens_is_whole(tokenizer: Tokenizer) -> None:
    assert (tokenizer(["a " * 75])[0] != 0).sum() == 77  # a warning would be an error


def test_a_cut_vocabulary_knows_every_text_and_agrees_on_early_merges() -> None:
    small = tokenizer_for(vocab_size=514, context_length=77)
    assert small.encode("ab") == [64, 256 + 65]  # bytes only: "a" is 64 places after "!", "b</w>" one byte later
    medium = tokenizer_for(vocab_size=3000, context_length=77)
    full = tokenizer_for(vocab_size=49408, context_length=77)
    assert medium.encode("the") == full.encode("the")
    for text in ODD:
        assert all(0 <= token < 2998 or "_of_text" in text for token in medium.encode(text))


@pytest.mark.parametrize("size", [513, 49409])
def test_an_impossible_vocabulary_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match=f"not {size}"):
        tokenizer_for(vocab_size=size, context_length=77)
