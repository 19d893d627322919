"""Made-up captions of photographs: a small grammar of who does what where, for a text tower that has seen none.

`scene(rng)` is one caption, such as "Two women in red jackets are riding bicycles on a city street." The words are
lists of ours; what is combined is plausible, not true.
"""

import random
from collections.abc import Callable


def _words(text: str) -> tuple[str, ...]:
    """The words of a text; a hyphen is a space once it is written (`_word`)."""
    return tuple(text.split())


PEOPLE = _words(
    "man woman boy girl child toddler person kid lady guy teenager farmer chef firefighter soldier doctor nurse "
    "astronaut surfer skier snowboarder cyclist waiter waitress tourist student teacher musician dancer gymnast "
    "athlete fisherman painter mechanic hiker climber photographer cowboy clown bride groom sailor pilot singer "
    "guitarist drummer runner swimmer skateboarder carpenter gardener shopkeeper barber baker butcher scientist "
    "judge monk nun king queen pirate magician juggler rider jockey lifeguard welder miner mail-carrier"
)
TWO_WORDS = (
    "young man", "old man", "young woman", "elderly woman", "little boy", "little girl", "bearded man", "bald man",
    "police officer", "construction worker", "street vendor", "tennis player", "football player", "baseball player",
    "basketball player", "office worker", "delivery driver", "ballet dancer", "tall man", "blonde woman",
    "dark-haired woman", "smiling man", "smiling woman", "barefoot boy", "street musician", "race driver",
)  # fmt: skip
IRREGULAR = {
    "man": "men", "woman": "women", "child": "children", "person": "people", "guy": "guys", "lady": "ladies",
    "fisherman": "fishermen", "sheep": "sheep", "deer": "deer", "fish": "fish", "goose": "geese", "mouse": "mice",
    "wolf": "wolves", "knife": "knives", "shelf": "shelves", "loaf": "loaves", "bus": "buses", "calf": "calves",
    "scissors": "scissors", "glasses": "glasses", "bison": "bison", "salmon": "salmon", "ox": "oxen",
    "tomato": "tomatoes", "potato": "potatoes", "mango": "mangoes", "leaf": "leaves",
}  # fmt: skip
GARMENTS = (
    "shirt", "T-shirt", "jacket", "coat", "dress", "sweater", "hat", "cap", "suit", "uniform", "hoodie", "skirt",
    "scarf", "apron", "helmet", "vest", "raincoat", "swimsuit", "wetsuit", "kimono", "costume", "tie", "bandana",
)  # fmt: skip
COLOURS = _words(
    "red blue green yellow white black brown orange purple pink gray dark light-blue bright-yellow striped "
    "black-and-white colorful"
)
ALONE = {  # what people do, by where they do it
    "street": (
        "riding a bicycle", "walking a dog", "crossing the street", "waiting for a bus", "talking on a phone",
        "riding a motorcycle", "pushing a stroller", "carrying shopping bags", "riding a skateboard",
        "playing the guitar", "playing the violin", "playing the accordion", "selling fruit", "selling flowers",
        "taking a photo", "holding an umbrella", "riding a scooter", "sitting on a bench", "looking at a map",
        "standing next to a car", "washing a car", "getting into a taxi", "running a race", "eating ice cream",
        "repairing a bicycle", "sweeping the pavement", "leaning against a wall", "pulling a suitcase",
        "drinking coffee at a table", "riding a horse", "handing out leaflets", "painting a wall", "juggling",
    ),
    "nature": (
        "hiking", "riding a horse", "climbing a rock", "camping", "walking", "picking apples", "flying a kite",
        "having a picnic", "running", "sitting on a log", "riding a mountain bike", "feeding a goat", "milking a cow",
        "chopping wood", "looking through binoculars", "planting a tree", "driving a tractor", "carrying a backpack",
        "throwing a frisbee", "playing with a dog", "petting a horse", "lighting a campfire", "watching birds",
        "digging a hole", "watering flowers", "mowing the lawn", "reading a book under a tree", "herding sheep",
    ),
    "water": (
        "surfing", "swimming", "fishing", "rowing a boat", "paddling a kayak", "sailing", "building a sandcastle",
        "walking along the shore", "diving", "lying on a towel", "playing volleyball", "jumping into the water",
        "water skiing", "riding a wave", "collecting shells", "holding a surfboard", "splashing", "snorkelling",
    ),
    "snow": (
        "skiing", "snowboarding", "building a snowman", "throwing snowballs", "pulling a sled", "ice skating",
        "shovelling snow", "climbing a mountain", "walking with ski poles", "sledding down a hill",
    ),
    "indoor": (
        "reading a book", "sitting on a couch", "watching television", "using a laptop", "talking on the phone",
        "playing the piano", "playing a video game", "sleeping", "holding a baby", "holding a cat", "petting a dog",
        "drinking tea", "playing cards", "playing chess", "looking in the mirror", "brushing teeth", "sewing",
        "painting a picture", "cleaning the floor", "typing on a keyboard", "wrapping a present", "knitting",
        "blowing out candles on a cake", "pointing at a whiteboard", "giving a speech", "ironing a shirt",
    ),
    "kitchen": (
        "cooking", "cutting vegetables", "washing dishes", "stirring a pot", "baking bread", "preparing a salad",
        "rolling out dough", "eating pizza", "frying eggs", "pouring wine", "drinking a glass of water",
        "slicing a loaf of bread", "opening a refrigerator", "decorating a cake", "eating with chopsticks",
    ),
    "sport": (
        "playing tennis", "playing football", "playing basketball", "kicking a ball", "swinging a baseball bat",
        "throwing a ball", "catching a ball", "playing golf", "lifting weights", "doing a handstand", "boxing",
        "jumping over a hurdle", "holding a trophy", "stretching", "playing table tennis", "playing ice hockey",
        "fencing", "doing yoga", "riding a bull", "running with the ball", "hitting a ball with a racket",
    ),
}  # fmt: skip
WHERE = {
    "street": (
        "on a street", "on a city street", "on the sidewalk", "in a market", "in front of a shop", "in a park",
        "at a bus stop", "on a bridge", "in front of a building", "in an alley", "in a square", "at a train station",
        "outside a cafe", "in a parking lot", "by a fountain", "near a church", "in an old town", "in the rain",
    ),
    "nature": (
        "in a forest", "in a field", "on a mountain trail", "in a meadow", "on a hill", "in a garden", "by a river",
        "in a park", "in the desert", "on a farm", "on a dirt road", "near a waterfall", "in tall grass",
        "on a rocky cliff", "in an orchard", "in the countryside", "in a valley", "among autumn leaves",
    ),
    "water": (
        "at the beach", "on a lake", "in the ocean", "in a swimming pool", "on a river", "on a sandy beach",
        "in the sea", "near a pier", "in shallow water", "at sunset", "by the rocks", "in a harbor",
    ),
    "snow": ("in the snow", "on a snowy slope", "on a mountain", "on a frozen lake", "in a snowy park", "in winter"),
    "indoor": (
        "in a living room", "in a bedroom", "in an office", "in a library", "in a classroom", "in a museum",
        "at a desk", "by the window", "in a cafe", "in a hallway", "on a bed", "in a hospital", "on a stage",
        "in a waiting room", "at a party", "in a workshop", "in a shop", "in an airport", "in a train",
    ),
    "kitchen": ("in a kitchen", "at a table", "in a restaurant", "at a counter", "in a dining room", "at a barbecue"),
    "sport": (
        "on a court", "on a field", "in a stadium", "in a gym", "in front of a crowd", "on a track", "on the grass",
        "in an arena", "during a match",
    ),
}  # fmt: skip
ANIMALS = _words(
    "dog cat horse cow sheep goat pig bird duck chicken goose elephant giraffe zebra lion tiger bear monkey rabbit "
    "squirrel deer fox wolf kitten puppy pony donkey camel kangaroo koala panda penguin owl eagle parrot pigeon "
    "seagull swan flamingo peacock turtle frog snake lizard crocodile butterfly bee spider fish shark dolphin whale "
    "seal otter hippo rhino leopard cheetah gorilla chimpanzee ostrich turkey rooster hamster mouse rat hedgehog "
    "bat crab lobster snail beetle dragonfly ladybug jellyfish octopus starfish pelican heron stork crow sparrow "
    "robin woodpecker bison moose llama alpaca beaver raccoon skunk polar-bear guinea-pig golden-retriever "
    "german-shepherd border-collie poodle"
)
DOING = (
    "sleeping", "running", "standing", "lying", "eating", "walking", "looking at the camera", "sitting",
    "drinking water",
    "jumping", "resting", "playing", "grazing", "looking around", "chasing a ball", "hiding", "playing with a toy",
)  # fmt: skip
HABITATS = (
    "in the grass", "on a rock", "in a field", "in the snow", "on a beach", "on a branch", "in the water", "on a farm",
    "in a zoo", "on a couch", "on a bed", "on a fence", "in a forest", "next to a tree", "under a table", "in a cage",
    "on the ground", "in a pond", "by a river", "on a dirt road", "near a barn", "in front of a house", "on a leaf",
    "on a rug", "in a box", "on a windowsill", "in a basket", "behind a fence", "on the street", "at the shore",
)  # fmt: skip
LOOKS = _words(
    "small big young old brown white black gray spotted striped fluffy wet sleepy colorful wild tiny large "
    "black-and-white furry baby"
)
VEHICLES = _words(
    "car truck bus train bicycle motorcycle airplane helicopter boat ship sailboat tractor van taxi tram scooter "
    "fire-engine ambulance police-car sports-car pickup-truck steam-locomotive subway-train hot-air-balloon canoe "
    "ferry cruise-ship fishing-boat race-car school-bus jet-fighter bulldozer excavator crane-truck rocket "
    "horse-drawn-carriage double-decker-bus freight-train container-ship rowboat speedboat glider cable-car wagon "
    "camper limousine"
)
ROADS = (
    "parked on a street", "parked in front of a house", "driving down a road", "in a parking lot", "on a highway",
    "in traffic", "in a garage", "at a show", "on a bridge", "in the snow", "in a field", "at night", "in the rain",
    "in a museum", "by the sea", "under a blue sky", "near a factory", "in the desert", "seen from above",
    "seen from the side", "in the city", "covered in mud",
)  # fmt: skip
WAYS = {
    "airplane": "air", "helicopter": "air", "hot-air-balloon": "air", "jet-fighter": "air", "glider": "air",
    "rocket": "air", "boat": "sea", "ship": "sea", "sailboat": "sea", "canoe": "sea", "ferry": "sea",
    "cruise-ship": "sea", "fishing-boat": "sea", "container-ship": "sea", "rowboat": "sea", "speedboat": "sea",
    "train": "rail", "tram": "rail", "steam-locomotive": "rail", "subway-train": "rail", "freight-train": "rail",
}  # fmt: skip
ON_WAYS = {
    "air": ("flying in the sky", "flying over the mountains", "taking off", "landing", "in the clouds", "on the ground",
            "flying over a city", "flying low over trees", "in a museum", "against a blue sky"),
    "sea": ("on the water", "in a harbor", "on a lake", "on a river", "tied to a dock", "sailing on the sea",
            "near an island", "at sunset", "on the beach", "in the fog", "passing under a bridge"),
    "rail": ("at a station", "on the tracks", "crossing a bridge", "passing through a town", "in a tunnel",
             "in the mountains", "in the snow", "stopped at a platform", "in the city"),
}  # fmt: skip
FOOD = _words(
    "pizza salad soup rice pasta bread cheese cake pancakes sushi steak chicken sausages bacon eggs fries noodles "
    "curry sandwich hamburger hot-dog taco burrito omelette cookies pie ice-cream donuts chocolate strawberries "
    "grapes bananas apples oranges watermelon tomatoes potatoes carrots broccoli mushrooms onions peppers corn "
    "beans fish shrimp lobster waffles croissants pastries dumplings meatballs lasagna risotto sauce vegetables "
    "fruit nuts olives"
)
DISHES = (
    "a plate of",
    "a bowl of",
    "a tray of",
    "a basket of",
    "a pile of",
    "a slice of",
    "a serving of",
    "a table full of",
)
DRINKS = (
    "a cup of coffee", "a cup of tea", "a glass of wine", "a glass of beer", "a bottle of water", "a glass of juice",
    "a mug of hot chocolate", "a bottle of beer", "a cocktail", "a pot of tea", "a glass of milk", "a can of soda",
)  # fmt: skip
THINGS = _words(
    "chair table lamp book clock phone laptop keyboard camera bottle cup vase umbrella backpack suitcase guitar "
    "piano violin drum trumpet ball bicycle-wheel hammer screwdriver wrench saw drill ladder bucket broom candle "
    "basket box pillow blanket mirror television radio computer mouse printer toothbrush comb key lock coin wallet "
    "watch ring necklace shoe boot sandal hat glove sock scarf belt spoon fork knife plate bowl pan kettle teapot "
    "toaster oven refrigerator microwave washing-machine sewing-machine typewriter globe map pen pencil notebook "
    "envelope stamp newspaper toy-car doll teddy-bear kite balloon skateboard surfboard tennis-racket baseball-bat "
    "football basketball helmet tent rope anchor compass telescope microscope binoculars flashlight battery "
    "light-bulb fan heater faucet sink bathtub toilet towel soap door window fence gate mailbox bench street-lamp "
    "traffic-light stop-sign fire-hydrant flag statue fountain flowerpot cactus rose sunflower tulip daisy orchid "
    "mushroom pine-cone shell feather leaf stone"
)
RELATIONS = (
    "next to", "on top of", "in front of", "behind", "beside", "near", "under", "leaning against",
    "surrounded by several",
)  # fmt: skip
SURFACES = (
    "on a table", "on a wooden floor", "on a shelf", "on a desk", "on a white background", "on a black background",
    "in a hand", "on the grass", "on a bed", "on a chair", "in a shop window", "on the wall", "in a drawer",
    "in the sunlight", "on a windowsill", "on a kitchen counter", "in an empty room", "on a stone wall", "in a museum",
)  # fmt: skip
PLACES = (
    "beach", "mountain", "lake", "river", "forest", "desert", "city", "village", "castle", "church", "bridge", "harbor",
    "street", "market", "garden", "park", "waterfall", "canyon", "island", "field of flowers", "vineyard", "farm",
    "lighthouse", "tower", "temple", "mosque", "skyscraper", "old house", "wooden cabin", "barn", "windmill", "stadium",
    "railway station", "airport", "library", "museum", "factory", "school", "hospital", "living room", "bedroom",
    "kitchen", "bathroom", "office", "restaurant", "cafe", "shop", "supermarket", "classroom", "gym", "swimming pool",
    "playground", "parking lot", "construction site", "highway", "tunnel", "cave", "glacier", "volcano", "swamp",
    "cliff", "rice field", "orchard", "cemetery", "courtyard", "staircase", "hallway", "attic", "basement",
    "greenhouse", "pier", "monument", "palace", "ruin", "city skyline", "theater", "concert hall", "laboratory",
    "workshop", "warehouse",
)  # fmt: skip
TIMES = (
    "at sunset", "at night", "in winter", "in autumn", "on a sunny day", "on a cloudy day", "in the fog", "at dawn",
    "covered in snow", "after the rain", "in spring", "from above", "in the distance", "under a stormy sky",
    "in the early morning", "with a clear blue sky",
)  # fmt: skip
AMONG = (
    "trees", "people", "boats", "mountains in the background", "palm trees", "tall buildings", "parked cars",
    "flowers", "a few clouds", "rocks", "tables and chairs", "bookshelves", "a wooden fence", "street lamps",
    "a red roof", "large windows", "a stone bridge", "children playing", "sheep grazing", "birds flying overhead",
)  # fmt: skip
KINDS_OF_PHOTO = (
    "a photo of", "a photograph of", "a close-up of", "a black and white photo of", "a picture of", "a view of",
    "an image of", "a blurry photo of", "a portrait of", "an old photo of", "a snapshot of", "a selfie of",
)  # fmt: skip
NUMBERS = ("two", "three", "four", "several", "some", "many", "a group of", "a row of", "a pair of", "a couple of")
CROWDS = ("two", "three", "four", "five", "several", "a group of", "a crowd of", "some", "a team of")


def scene(rng: random.Random) -> str:
    """One caption; most end in a full stop and begin with a capital, as people's own captions do."""
    text = rng.choices(FORMS, WEIGHTS)[0](rng)
    if rng.random() < 0.6:
        text = text[0].upper() + text[1:]
    return f"{text}." if rng.random() < 0.6 else text


def a(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def plural(noun: str) -> str:
    first, _, last = noun.rpartition(" ")
    lead = f"{first} " if first else ""
    if last in IRREGULAR:
        return lead + IRREGULAR[last]
    if last.endswith(("s", "x", "ch", "sh")):
        return f"{lead}{last}es"
    if last.endswith("y") and last[-2] not in "aeiou":
        return f"{lead}{last[:-1]}ies"
    return f"{lead}{last}s"


def _word(words: tuple[str, ...], rng: random.Random) -> str:
    return rng.choice(words).replace("-", " ")


def _person(rng: random.Random) -> str:
    return rng.choice(TWO_WORDS) if rng.random() < 0.35 else _word(PEOPLE[:9] if rng.random() < 0.6 else PEOPLE, rng)


def _people(rng: random.Random) -> tuple[str, bool]:
    """Somebody, perhaps with what they wear, and whether they are several."""
    several = rng.random() < 0.3
    who = f"{rng.choice(CROWDS)} {plural(_person(rng))}" if several else a(_person(rng))
    if rng.random() < 0.35:
        colour, garment = _word(COLOURS, rng), rng.choice(GARMENTS)
        worn = f"{colour} {plural(garment)}" if several else a(f"{colour} {garment}")
        who += f" {rng.choice(('in', 'wearing'))} {worn}"
    return who, several


def _doing(who: str, what: str, several: bool, rng: random.Random) -> str:
    """As a sentence or as a noun with its participle."""
    verb = ("are " if several else "is ") if rng.random() < 0.5 else ""
    return f"{who} {verb}{what}"


def _activity(rng: random.Random) -> str:
    who, several = _people(rng)
    kind = rng.choice(list(ALONE))
    text = _doing(who, rng.choice(ALONE[kind]), several, rng)
    return f"{text} {rng.choice(WHERE[kind])}" if rng.random() < 0.75 else text


def _together(rng: random.Random) -> str:
    (who, several), (other, _) = _people(rng), _people(rng)
    how = rng.choice(("talking to", "standing next to", "sitting beside", "dancing with", "hugging", "walking with",
                      "shaking hands with", "looking at", "posing with", "playing with", "helping"))  # fmt: skip
    return f"{_doing(who, how, several, rng)} {other} {rng.choice(WHERE[rng.choice(list(WHERE))])}"


def _with_thing(rng: random.Random) -> str:
    who, several = _people(rng)
    how = rng.choice(("holding", "carrying", "looking at", "standing next to", "pointing at", "sitting beside"))
    return f"{_doing(who, how, several, rng)} {a(_word(THINGS, rng))}"


def _animal(rng: random.Random) -> str:
    name = _word(ANIMALS, rng)
    if rng.random() < 0.4:
        name = f"{_word(LOOKS, rng)} {name}"
    several = rng.random() < 0.3
    who = f"{rng.choice(NUMBERS)} {plural(name)}" if several else a(name)
    return f"{_doing(who, rng.choice(DOING), several, rng)} {rng.choice(HABITATS)}"


def _animal_and(rng: random.Random) -> str:
    first, second = _word(ANIMALS, rng), _word(ANIMALS if rng.random() < 0.5 else THINGS, rng)
    return f"{a(first)} and {a(second)} {rng.choice(HABITATS)}"


def _vehicle(rng: random.Random) -> str:
    name = rng.choice(VEHICLES)
    places = ON_WAYS[WAYS[name]] if name in WAYS else ROADS
    described = f"{_word(COLOURS[:11], rng)} {_word((name,), rng)}" if rng.random() < 0.5 else _word((name,), rng)
    who = f"{rng.choice(NUMBERS)} {plural(described)}" if rng.random() < 0.2 else a(described)
    return f"{who} {rng.choice(places)}"


def _food(rng: random.Random) -> str:
    text = f"{rng.choice(DISHES)} {_word(FOOD, rng)}"
    text += rng.choice((f" with {_word(FOOD, rng)}", f" and {_word(FOOD, rng)}", f" and {rng.choice(DRINKS)}", ""))
    return f"{text} {rng.choice(('on a table', 'on a plate', 'in a restaurant', 'on a wooden board', ''))}".strip()


def _thing(rng: random.Random) -> str:
    name = _word(THINGS, rng)
    if rng.random() < 0.5:
        name = f"{_word(COLOURS, rng) if rng.random() < 0.7 else rng.choice(('old', 'new', 'broken'))} {name}"
    who = f"{rng.choice(NUMBERS)} {plural(name)}" if rng.random() < 0.2 else a(name)
    return f"{who} {rng.choice(SURFACES)}"


def _two_things(rng: random.Random) -> str:
    relation, other = rng.choice(RELATIONS), _word(THINGS, rng)
    return f"{a(_word(THINGS, rng))} {relation} {plural(other) if relation.endswith('several') else a(other)}"


def _place(rng: random.Random) -> str:
    text = a(rng.choice(PLACES))
    if rng.random() < 0.6:
        text += f" with {rng.choice(AMONG)}"
    return f"{text} {rng.choice(TIMES)}" if rng.random() < 0.6 else text


def _photo(rng: random.Random) -> str:
    inner: Callable[[random.Random], str] = rng.choice((_animal, _vehicle, _thing, _place, _activity, _food))
    return f"{rng.choice(KINDS_OF_PHOTO)} {inner(rng)}"


FORMS = (_activity, _together, _with_thing, _animal, _animal_and, _vehicle, _food, _thing, _two_things, _place, _photo)
WEIGHTS = (30, 5, 7, 12, 3, 8, 7, 10, 5, 8, 10)
