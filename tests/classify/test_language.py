"""Labels that a model trained on English cannot know, and all those that it can."""

import pytest

from zeroshot_cli.classify.language import KNOW_OTHERS, not_english, warning_of_language
from zeroshot_cli.words.labels import read_labels
from zeroshot_cli.words.textfiles import label_files


@pytest.mark.parametrize(
    "labels",
    [
        "Hund,Katze,Pferd,Apfel,Auto,Haus,Baum,Vogel,Fisch,Brot",  # German without an umlaut
        "Eichhörnchen,Fuchs,Wolf,Reh,Hirsch,Dachs,Igel,Hase",
        "Schmetterling,Marienkäfer,Ameise,Heuschrecke,Libelle",
        "ein Foto von einem Hund,ein rotes Auto",
        "chien,chat,cheval,pomme,voiture,maison,arbre,oiseau",
        "perro,gato,caballo,manzana,coche,casa,pájaro",
        "cane,gatto,cavallo,mela,macchina,casa",
        "hond,kat,paard,appel,huis,boom",
        "hund,katt,häst,äpple,bil,hus",
        "pies,kot,koń,jabłko,samochód,dom",
        "köpek,kedi,elma,araba,ağaç",
        "犬,猫,馬,りんご",
        "собака,кошка,лошадь",
        "Apfel,Orange,Hut,Schuhe",  # half of them are English, too
        "كلب,قطة,حصان",
        "개,고양이",
    ],
)
def test_labels_in_another_language(labels: str) -> None:
    assert not_english(labels.split(",")) is not None


@pytest.mark.parametrize(
    "labels",
    [
        "Tinca tinca,Carassius auratus,Canis lupus,Quercus robur,Amanita muscaria",
        "Canis,Felis,Quercus,Parus,Turdus",
        "Adidas,Nike,Puma,Volkswagen,Renault,Peugeot,Ikea,Carrefour,Lidl,Aldi",
        "Xarelto,Keytruda,Humira,Eliquis,Ozempic",
        "crème brûlée,pho,ramen,tiramisù,paella,gnocchi,jalapeño poppers",
        "Paris,Berlin,München,São Paulo,Zürich,London,New York,Tokyo",
        "melanocytic nevus,basal cell carcinoma,actinic keratosis,dermatofibroma",
        "aphid,psyllid,thrips,mealybug,armyworm",
        "feldspar,quartz,gneiss,schist,hornblende,pyroxene",
        "weld ok,weld crack,spatter,undercut,porosity",
        "dog,cat,Hund",
        "dog,Hund",
        "A,B,C",
        "😀,🍎",
    ],
)
def test_labels_in_english_and_names_that_are_so_in_every_language(labels: str) -> None:
    assert not_english(labels.split(",")) is None


@pytest.mark.parametrize("name", label_files())
def test_no_built_in_set_is_warned_of(name: str) -> None:
    assert warning_of_language(read_labels(name).names, "ViT-B-32") is None


def test_the_warning_names_models_that_open_clip_has() -> None:
    from zeroshot_cli.models.registry import known_names

    text = warning_of_language(["Hund", "Katze"], "ViT-B-32")
    assert text is not None
    assert "'Hund'" in text
    assert all(name in text and name in known_names() for name in KNOW_OTHERS)


@pytest.mark.parametrize(
    "model",
    [*KNOW_OTHERS, "nllb-clip-base", "ViT-H-14-worldwide", "ViT-B-16-SigLIP-i18n-256", "hf-hub:x/chinese-clip", "."],
)
def test_models_that_know_other_languages_or_are_the_users_own(model: str) -> None:
    assert warning_of_language(["Hund", "Katze"], model) is None
