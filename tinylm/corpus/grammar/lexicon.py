"""The words of the stories: names, animals, things with the adjectives that fit them, tables of matching facts."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "ANIMALS",
    "ANIMAL_ACTS",
    "ANIMAL_NAMES",
    "BOYS",
    "CHILD_ACTS",
    "FOODS",
    "GIRLS",
    "GOODS",
    "KEEPSAKES",
    "PLACES",
    "TOYS",
    "TRAITS",
    "Row",
    "Thing",
    "table",
    "things",
]

Row = dict[str, str]

_CLASSES = {
    "@color": "red blue green yellow pink purple orange white brown black",
    "@size": "big little small tiny",
    "@new": "new shiny pretty",
}


@dataclass(frozen=True, slots=True)
class Thing:
    """A singular noun and the adjectives that suit it."""

    noun: str
    adjectives: tuple[str, ...]


def things(text: str) -> tuple[Thing, ...]:
    """Return the nouns of lines `noun: adjective adjective @class`."""
    found = []
    for line in text.strip().splitlines():
        noun, _, words = line.partition(":")
        for name, members in _CLASSES.items():
            words = words.replace(name, members)
        found.append(Thing(noun.strip(), tuple(dict.fromkeys(words.split()))))
    return tuple(found)


def table(columns: str, text: str) -> tuple[Row, ...]:
    """Return the rows of a table whose cells are divided by `|`; each row fills the slots named in `columns`."""
    names = [name.strip() for name in columns.split("|")]
    rows = []
    for line in text.strip().splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) != len(names):
            raise ValueError(f"table: {len(cells)} cells in {line!r}; expected {len(names)}: {columns}")
        rows.append(dict(zip(names, cells, strict=True)))
    return tuple(rows)


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in text.strip().splitlines())


BOYS = _words(
    """Tim Tom Ben Max Sam Jack Leo Finn Noah Luke Adam Owen Eli Jake Nick Dan Joe Bob Theo Oscar Henry Felix
    Peter Paul Mark Ryan Sean Kai Omar Ravi Hugo Ned Ted Gus Alex Liam Ethan Lucas Mateo Amir Ivan Toby Charlie
    Billy Jimmy Andy Danny Tommy Freddie Harry George Arthur Milo Jasper Simon Martin Carlos Diego Ali Kofi Hiro
    Pedro Louis Walter Rory Cody Zack"""
)
GIRLS = _words(
    """Lily Mia Anna Sue Lucy Emma Sara Amy Ella Zoe Ruby Rosie Molly Daisy Grace Nora Ava Ivy Jane Kate Leah Nina
    Tina Mary Julia Clara Alice Eva Maya Hana Lola Lena Bella Sophie Chloe Holly Penny Polly Sally Jenny Katie Annie
    Betty Hazel Olive Violet Iris Rose Stella Luna Layla Amina Priya Yuki Carmen Elena Marta Tess Wendy Nell Fay
    Dora Greta Heidi Ines June"""
)
ANIMAL_NAMES = {
    "m": _words(
        """Bobo Max Benny Rusty Buddy Fuzzy Pip Toto Oliver Rocky Teddy Barney Chip Duke Hopper Bruno Scout
        Sunny Otis Murphy Nibbles Whiskers Cosmo Dexter Monty Percy Rufus Barnaby Humphrey
        Waldo Ziggy"""
    ),
    "f": _words(
        """Momo Mimi Daisy Bella Coco Pearl Ginger Lulu Poppy Rosie Willow Fluffy Kiki Nana Olive Peaches
        Trixie Lottie Clover Hazel Juniper Maple Misty Petunia Pippa Tilly Dolly Flora Bonnie Tulip Winnie
        Maggie Zuzu"""
    ),
}

# kind, what it lives in, a colour or so that suits it, how it moves
ANIMALS = table(
    "kind | home | look | went",
    """
    rabbit | burrow | white/brown/gray | hopped
    bunny | burrow | white/brown/fluffy | hopped
    squirrel | tree | red/gray/quick | ran
    fox | den | red/orange/young | trotted
    bear | cave | brown/black/big | walked
    mouse | hole | gray/tiny/brown | scurried
    hedgehog | bush | brown/tiny/round | walked
    duck | pond | white/yellow/brown | waddled
    frog | pond | green/tiny/spotted | hopped
    turtle | pond | green/slow/old | walked
    deer | meadow | brown/young/spotted | walked
    raccoon | tree | gray/young/fluffy | walked
    beaver | lodge | brown/busy/young | walked
    badger | den | gray/young/sleepy | walked
    mole | tunnel | black/tiny/gray | walked
    kitten | barn | orange/gray/white | ran
    puppy | kennel | brown/spotted/fluffy | ran
    lamb | barn | white/woolly/young | skipped
    pig | barn | pink/round/spotted | trotted
    goat | barn | white/brown/young | trotted
    pony | stable | brown/white/spotted | trotted
    calf | barn | brown/spotted/young | walked
    monkey | tree | brown/young/quick | ran
    elephant | valley | gray/young/big | walked
    lion | den | golden/young/big | walked
    otter | den | brown/sleek/young | ran
    panda | cave | fluffy/round/young | walked
    koala | tree | gray/fluffy/sleepy | walked
    hamster | nest | golden/brown/round | ran
    chipmunk | hole | brown/tiny/striped | ran
    """,
)

TRAITS = _words(
    """kind happy cheerful friendly curious clever gentle funny smart sweet playful helpful polite quiet silly lively
    bright merry thoughtful jolly good nice busy loving"""
)

CHILD_ACTS = _lines(
    """
    play outside
    draw pictures
    read books
    sing songs
    jump in puddles
    look at the stars
    feed the ducks
    run in the yard
    dance to music
    play with blocks
    make mud pies
    pick flowers
    watch the clouds
    chase butterflies
    tell stories
    play tag
    look at bugs
    paint with bright colors
    play the drum
    dress up
    listen to stories
    make funny faces
    collect leaves
    collect smooth stones
    ask questions
    help at home
    skip and hop
    play games
    solve puzzles
    blow bubbles
    count the birds
    hum little tunes
    tell jokes
    pretend to be a pirate
    pretend to be a king
    play hide and seek
    roll down the hill
    splash in the bath
    look out of the window
    play with clay
"""
)
ANIMAL_ACTS = _lines(
    """
    play in the forest
    look for berries
    roll in the leaves
    sing in the morning
    explore the woods
    nap in the sun
    splash in the stream
    chase butterflies
    smell the flowers
    tell jokes
    listen to the birds
    play in the tall grass
    watch the clouds
    visit the neighbors
    collect shiny stones
    dance in the rain
    look at the moon
    tell stories
    play hide and seek
    jump over logs
    hum little tunes
    count the stars
    sit by the river
    run down the hill
    sniff the fresh air
    """
)

TOYS = things(
    """
    ball: @color @size @new bouncy striped
    kite: @color @new long
    doll: @size @new soft
    teddy bear: @size brown soft fluffy old
    toy car: @color @size @new fast
    toy train: @color @size @new wooden
    toy boat: @color @size wooden
    toy truck: @color @size @new
    toy robot: @size @new silver
    toy plane: @color @size @new
    toy horse: @size wooden brown white
    toy dinosaur: green @size
    toy rocket: @color @size @new
    toy duck: yellow @size
    toy crown: golden @new
    toy sword: wooden @new
    puppet: @size funny soft
    drum: @color @size @new loud
    whistle: @new silver loud
    yo-yo: @color @new
    jump rope: @color @new long
    puzzle: @new big hard
    balloon: @color big
    bucket: @color @size
    shovel: @color @size
    paper boat: @size white
    flute: wooden silver @new
    stuffed bunny: @size soft white
    stuffed elephant: @size soft gray
    marble: @color @new tiny
    spinning top: @color wooden
    pinwheel: @color @new
    hula hoop: @color big
    music box: @size old pretty
    rubber duck: yellow @size
    toy castle: @size gray @new
    magnet: red @size
    scooter: @color @new fast
    wagon: @color @size @new
    """
)

GOODS = things(
    """
    book: @color @new big thick
    hat: @color @new soft warm funny
    scarf: @color @new soft warm long
    blanket: @color soft warm fluffy
    backpack: @color @new
    umbrella: @color @size @new
    pillow: @color @size soft
    cup: @color @size
    coat: @color @new warm
    basket: @size round brown
    lamp: @color @size @new
    notebook: @color @size @new
    pencil case: @color @new
    sweater: @color @new soft warm
    flashlight: @color @size @new
    paintbrush: @new long
    """
)

KEEPSAKES = things(
    """
    key: @size shiny old golden silver
    coin: shiny golden silver old
    button: @color shiny tiny
    ring: shiny golden silver pretty
    necklace: shiny pretty golden
    shell: @size pretty white pink
    stone: shiny smooth round white
    feather: @color long soft pretty
    bell: @size silver shiny golden
    ribbon: @color pretty long
    map: old big
    mirror: @size shiny
    locket: golden silver
    bracelet: pretty shiny
    star: shiny golden silver
    whistle: silver shiny
    """
)

FOODS = things(
    """
    apple: red green shiny big sweet
    banana: yellow ripe sweet
    pear: ripe juicy green sweet
    peach: ripe juicy soft sweet
    orange: big juicy sweet round
    cookie: big round warm sweet
    muffin: warm big soft
    cupcake: pink little sweet
    sandwich: big tasty cheese
    pancake: warm big round
    carrot: long orange big crunchy
    plum: purple ripe juicy sweet
    donut: round sweet pink
    pie: warm big tasty
    bun: warm soft little
    strawberry: red big juicy sweet
    melon: big round ripe
    pretzel: big warm salty
    waffle: warm big sweet
    lollipop: big red sweet
    """
)

# name, where one is, what there is to see
PLACES = table(
    "place | at | sight",
    """
    the park | in the park | [children on the swings/ducks on the pond/tall green trees]
    the beach | at the beach | [white waves/pretty shells/a crab in the sand]
    the garden | in the garden | [bees on the flowers/red roses/a little snail]
    the playground | at the playground | [children on the slide/a big sandbox/two swings]
    the forest | in the forest | [tall trees/a little squirrel/soft green moss]
    the farm | at the farm | [cows in the field/a red barn/a big brown horse]
    the lake | by the lake | [ducks on the water/a small boat/little fish]
    the river | by the river | [smooth stones/a green frog/little fish]
    the meadow | in the meadow | [yellow flowers/white butterflies/a grasshopper]
    the yard | in the yard | [a robin on the fence/tiny ants/a big oak tree]
    the hill | on the hill | [the whole town below/soft white clouds/a field of flowers]
    the pond | by the pond | [green frogs/ducks on the water/a dragonfly]
    the zoo | at the zoo | [a tall giraffe/a sleepy lion/funny monkeys]
    the market | at the market | [baskets of fruit/bright flowers/a man with balloons]
    """,
)
