"""The registry of data sets: figures that others published, written here by hand."""

import csv
import io
from pathlib import Path

import pytest

from zeroshot_cli.console.lists import print_known_sets
from zeroshot_cli.console.terminal import ListFormat
from zeroshot_cli.datasets.registry import Absent, Archive, Local, Shards, find_known, known_sets, published_for
from zeroshot_cli.errors import UsageError
from zeroshot_cli.models import registry
from zeroshot_cli.words.labels import read_labels
from zeroshot_cli.words.textfiles import label_files, template_files

REPO, REVISION = "vaishaal/ImageNetV2", "d626240be2538720e83103a0e1178d24aca8b12c"
IMAGENET_V2 = {
    "imagenet-v2": (
        "imagenetv2-matched-frequency.tar.gz",
        1264079360,
        "f0c37fdf925916b19ea1323cd9a2208cdb6959ba2c32eef2a7fc393835c9ca7c",
        "imagenetv2-matched-frequency-format-val",
    ),
    "imagenet-v2:threshold0.7": (
        "imagenetv2-threshold0.7.tar.gz",
        1249906176,
        "32142bfe998f9cfa4141be691f6a80eeb1e27b24bd532a668eb08c26d98897a2",
        "imagenetv2-threshold0.7-format-val",
    ),
    "imagenet-v2:top-images": (
        "imagenetv2-top-images.tar.gz",
        1245927936,
        "85e4ace30f3f0d660152062254b8759dda66267b27f7ec0fd8d5768f1073a04b",
        "imagenetv2-top-images-format-val",
    ),
}
# The data sets of table 9 of the CLIP paper, by the names of our template sets.
PAPER = [
    "food101",
    "cifar10",
    "cifar100",
    "birdsnap",
    "sun397",
    "stanford-cars",
    "fgvc-aircraft",
    "voc2007",
    "dtd",
    "oxford-pets",
    "caltech101",
    "flowers102",
    "mnist",
    "fer2013",
    "stl10",
    "eurosat",
    "resisc45",
    "gtsrb",
    "kitti",
    "country211",
    "pcam",
    "ucf101",
    "kinetics700",
    "clevr-counts",
    "hateful-memes",
    "sst2",
    "imagenet",
]
MEAN_PER_CLASS = {"fgvc-aircraft", "pets", "caltech101", "flowers102"}


@pytest.mark.parametrize("name", IMAGENET_V2)
def test_imagenet_v2_is_where_its_authors_put_it(name: str) -> None:
    known = find_known(name)
    assert known is not None
    assert known.source == Archive(REPO, REVISION, *IMAGENET_V2[name])
    assert (known.labels, known.prompts, known.numbered, known.images) == ("imagenet", "imagenet-80", True, 10000)


def test_all_of_the_papers_data_sets_are_there() -> None:
    assert len(PAPER) == 27
    for name in PAPER:
        known = find_known(name)
        assert known is not None, name
        assert known.prompts == ("imagenet-80" if name == "imagenet" else name)
        assert known.metric == ("mean_per_class_recall" if known.name in MEAN_PER_CLASS else "top1")


def test_every_row_names_what_there_is() -> None:
    header = set(next(iter(registry_rows())))
    names = [each.name for each in known_sets()]
    assert len(set(names)) == len(names)
    for known in known_sets():
        assert known.labels is None or known.labels in label_files()
        assert known.prompts is None or known.prompts in template_files()
        assert known.column is None or known.column in header
        assert isinstance(known.source, Archive | Shards | Local | Absent)
        if known.labels and known.classes:
            assert len(read_labels(known.labels)) == known.classes, known.name


def registry_rows() -> list[dict[str, str]]:
    text = Path(registry.__file__).with_name("published.csv").read_text()
    return list(csv.DictReader(line for line in io.StringIO(text) if not line.startswith("#")))


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("ImageNet-V2", "imagenet-v2"),
        ("imagenetv2", "imagenet-v2"),
        ("imagenet-v2:matched-frequency", "imagenet-v2"),
        ("oxford-pets", "pets"),
        ("wds/vtab/cifar10", "wds/vtab/cifar10"),
        ("wds/my_own-set", "wds/my_own-set"),
    ],
)
def test_names_are_found(name: str, found: str) -> None:
    known = find_known(name)
    assert known is not None
    assert known.name == found


@pytest.mark.parametrize("name", ["photos", "my/imagenet-v2", "./cifar10", "pairs.csv", "", "-", "a" * 5000, "\udce9"])
def test_a_path_is_no_name(name: str) -> None:
    assert find_known(name) is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("imagnet-v2", "there is no data set 'imagnet-v2'; did you mean imagenet-v2"),
        (
            "imagenet-v2:top",
            "no variant 'top'; there are imagenet-v2, imagenet-v2:threshold0.7, imagenet-v2:top-images",
        ),
        ("cifar10:x", "cifar10 has no variant 'x'; omit it: cifar10"),
        ("wds/cifar10", "did you mean wds/vtab/cifar10"),
        ("wds/flickr30", "did you mean wds/flickr30k"),
        ("wds/", "is not a valid CLIP_benchmark name"),
        ("wds/../../etc", "is not a valid CLIP_benchmark name"),
        ("wds/a/b/c", "is not a valid CLIP_benchmark name"),
        ("wds/<img onerror>", "is not a valid CLIP_benchmark name"),
    ],
)
def test_a_name_that_is_nearly_one(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message.replace("(", r"\(")):
        find_known(name)


@pytest.mark.parametrize(
    ("name", "model", "tag", "value"),
    [
        ("imagenet-v2", "RN50", "openai", 0.5284),
        ("imagenet", "ViT-B-32", "openai", 0.6332),
        ("imagenet", "ViT-L-14", "datacomp_xl_s13b_b90k", 0.7921),
        ("cifar10", "ViT-B-32", "openai", 0.8983),
        ("pets", "ViT-B-32", "openai", 0.8700),
    ],
)
def test_published_figures(name: str, model: str, tag: str, value: float) -> None:
    known = find_known(name)
    assert known is not None
    assert known.prompts is not None
    found = published_for(known, model, tag, known.prompts)
    assert found == (known.metric, value, "open_clip's table of results")


def test_the_notebooks_figure_of_imagenet_v2() -> None:
    known = find_known("imagenet-v2")
    assert known is not None
    metric, value, source = published_for(known, "ViT-B-32", "openai", "imagenet-80") or ("", 0.0, "")
    assert (metric, value) == ("top1", 0.5593)
    assert "OpenAI" in source


@pytest.mark.parametrize(
    ("name", "model", "tag", "prompts"),
    [
        ("imagenet-v2", "ViT-B-32", "openai", "plain"),
        ("imagenet-v2", "ViT-B-32", None, "imagenet-80"),
        ("imagenet-v2", "tiny", "nothing", "imagenet-80"),
        ("imagenet-v2:top-images", "ViT-B-32", "openai", "imagenet-80"),
        ("resisc45", "ViT-B-32", "openai", "resisc45"),
        ("wds/vtab/cifar10", "ViT-B-32", "openai", "cifar10"),
    ],
)
def test_no_figure_stands_beside_what_was_measured_otherwise(
    name: str, model: str, tag: str | None, prompts: str
) -> None:
    known = find_known(name)
    assert known is not None
    assert published_for(known, model, tag, prompts) is None


def test_the_list_has_a_row_for_each(capsys: pytest.CaptureFixture[str]) -> None:
    print_known_sets(ListFormat.TABLE, every=False)
    captured = capsys.readouterr()
    rows = list(csv.reader(io.StringIO(captured.out), delimiter="\t"))
    assert [row[0] for row in rows[1:]] == [each.name for each in known_sets()]
    assert rows[1][1:] == [
        "ImageNet-V2, matched frequency", "10000", "1000", "top-1", "imagenet-80", "MIT", f"{REPO} (1.3 GB)",
    ]  # fmt: skip
    assert "wds/NAME" in captured.err
