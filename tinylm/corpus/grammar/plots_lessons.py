"""Plots about habits: order, food, sleep, and what belongs to others."""

# ruff: noqa: E501  (a row of a table is one line)

from __future__ import annotations

from tinylm.corpus.grammar.lexicon import KEEPSAKES, PLACES, TOYS, table, things
from tinylm.corpus.grammar.plot import Plot

__all__ = ["PLOTS"]

_VEGETABLES = table(
    "veg | vis | vit",
    """
    peas | were small and green | them
    carrots | were orange and crunchy | them
    broccoli | looked like little green trees | it
    spinach | was soft and dark green | it
    beans | were long and green | them
    tomatoes | were red and round | them
    pumpkin | was soft and orange | it
    mushrooms | looked like tiny hats | them
    cabbage | was green and a bit wet | it
    beets | were dark red | them
    corn | was yellow and shiny | it
    fish | was white and soft | it
    soup | was green and thick | it
    """,
)
_MESSY = things(
    """
    shoe: left right red blue new
    boot: left right red brown
    sandal: left right yellow white
    hat: red blue warm funny
    bag: red green little
    sock: left blue green striped
    coat: red warm new
    jacket: blue green new
    sweater: warm yellow soft
    backpack: red purple little
    scarf: long warm orange
    """
)
_OUTINGS = (
    "the zoo",
    "the beach",
    "the park",
    "the farm",
    "a birthday party",
    "the circus",
    "the lake",
    "the fair",
    "the toy shop",
    "{his} grandma's house",
    "the puppet show",
    "the museum",
    "the swimming pool",
    "the big playground",
)
_BEDTIME = table(
    "thing | helped",
    """
    counted the sheep on {his} blanket | At the number ten, {his} eyes closed
    drank a cup of warm milk | The milk made {him} warm and sleepy
    listened to the rain on the roof | Drip, drop, went the rain, and {his} eyes closed
    looked at the moon until it hid behind a cloud | "Now the moon is asleep too," {he} whispered
    held {his} teddy bear very tight | The bear was soft and warm, and {his} eyes closed
    thought of all the nice things of the day | There were so many that {he} fell asleep before the last one
    hummed a slow and quiet song | At the end of the song, {he} was asleep
    told the same story again, very slowly | Before the story ended, {his} eyes were closed
    """,
)
_OWNERS = table(
    "owner | oshort | oclue | ofull",
    """
    an old woman | the woman | looked at the ground and walked up and down the path | My grandmother gave it to me
    an old man | the man | searched in all his pockets again and again | My wife gave it to me
    a girl with red hair | the girl | sat on a bench and cried | My dad gave it to me
    a boy with a blue cap | the boy | was crawling in the grass | My grandpa gave it to me
    a young woman | the woman | looked under every bench | My best friend gave it to me
    a tall man | the man | shook his head and looked very sad | My son gave it to me
    """,
)

PLOTS = (
    Plot(
        "vegetables",
        "child",
        {"vegetables": _VEGETABLES},
        """
        - <intro> But {he} did not like to try new food.

        - One [evening/day], {his} {elder} made {veg} for [dinner/lunch]. The {veg} {vis}.
        - "I don't like {veg}," said {hero}[ and pushed the plate away/ and closed {his} mouth]. "But you have never tried {vit},"
          said {his} {elder}.
        - {hero} [shook {his} head/crossed {his} arms]. "No, no, no!" {he} said.

        - Then {his} {rel} {friend} [came to visit/sat down at the table]. {friend} [took a big bite of the {veg}/ate all the {veg} on
          {his2} plate]. "[Yummy/Mmm]! Can I have some more, please?" {he2} [asked/said].
        - {hero} [looked at {his} plate/watched {friend}]. [Maybe {he} was wrong about the {veg}./{He} wanted to know why {friend} was so
          happy.] {He} took one [tiny/very small/little] bite.
        - [{His} eyes got big./{He} smiled./{He} could not believe it.] "[It tastes good/This is yummy/I like it]!" {he} said.
        - {hero} ate everything on {his} plate. {His} {elder} [laughed/smiled]. "[Now you know/It is good to try new things/I am proud of
          you]," {he3} said.
        - From that day on, {hero} [always tried new food/liked to try new things/asked for {veg} every week].
        """,
    ),
    Plot(
        "messy room",
        "child",
        {"messy": _MESSY, "outing": _OUTINGS},
        """
        - <intro> But {he} never cleaned {his} room. There were [toys/clothes and toys/books and toys] all over the floor.
        - "Please clean your room," said {his} {elder}. "[Later/Not now/Maybe tomorrow]," said {hero}.

        - <day>, {his} {elder} had a surprise. "We are going to {outing}!" {he3} said. {hero} [jumped up and down/was so happy].
        - But {he} could not find {his} {messy}. {He} looked [here and there/everywhere], but the room was [such a mess/too messy].
        - "[We can't go without your {messyn}/You need your {messyn}]," said {his} {elder}.

        - At first, {hero} was sad. Then {he} started to clean {his} room. {He} put the [toys in the box/books on the shelf] and the [blocks in
          the basket/clothes in the closet].
        - [Under/Behind] the last pile, {he} found the {messyn}! "Here it is!" {he} [shouted/cried].
        - {hero} and {his} {elder} went to {outing} and had a [great/wonderful/lovely] time.
        - After that, {hero} [cleaned {his} room every day/always kept {his} room clean/put {his} things away every evening].
        | {hero} learned that [it is easy to find things in a clean room/a clean room is a happy room].
        """,
    ),
    Plot(
        "bedtime",
        "child",
        {"bedtime": _BEDTIME, "toy": TOYS},
        """
        - It was late, and the [moon/stars] shone through the window. A little {kind} named {hero} was in bed, but {he} could not sleep.
        | One night, {hero} could not sleep. {He} was a [little/small] {kind}, and {he} had played with {his} {toy} all day long.
        - [First, {he}/{He}] turned to the left. Then {he} turned to the right. {His} eyes would not close.
        - "{Elder}, I can't sleep," {he} called.

        - {His} {elder} came in and sat down on the bed. "What are you thinking about?" {he3} asked.
        - "I am thinking about my {toyn}," said {hero}. "I want to play [with it again/more]."
        - "The {toyn} is tired too," said {his} {elder}. "It is [sleeping now/resting on the shelf/in its box]. [Tomorrow/In the morning],
          you can play [together/again]."
        - {He3} [sang a soft song/told {him} a short story/kissed {him} on the nose] and turned off the light.

        - Then {hero} {thing}. {helped}.
        - [The next morning/When the sun came up], {hero} [woke up and smiled/jumped out of bed]. "Good morning, {toyn}!" {he} said. "Now we can
          play!"
        """,
    ),
    Plot(
        "found keepsake",
        "child",
        {"gem": KEEPSAKES, "owners": _OWNERS, "places": PLACES[:1] + PLACES[3:4] + PLACES[6:7] + PLACES[8:9]},
        """
        - <intro>
        - <day>, {hero} was walking {at}.[ <scene>/] {He} saw {sight}. Then something [in the grass/on the ground] [shone in the sun/caught {his} eye]. It was {a gem}!
        - "[How pretty/How nice/Wow]!" said {hero}. {He} put the {gemn} in {his} pocket. {He} wanted to keep it.

        - A little later, {hero} saw {owner}. {Oshort} {oclue}. "What is wrong?" asked {hero}.
        - "I lost my {gemn}," said {oshort}. "{ofull}, and now it is gone."
        - {hero} put {his} hand in {his} pocket. [The {gemn} was so pretty./{He} wanted to keep the {gemn} so much./It was hard to give it back.] But {he} knew [what was right/that it was not {his} {gemn}].

        - "[Is this your {gemn}/Is this it/Is it this one]?" {he} asked[ and held it out/].
        - "[Oh yes/Yes, that is it/My {gemn}]!" [cried/said] {oshort}. "<thanks>! You are [a very honest child/so kind/such a good child]."
        - {hero} [felt warm inside/was <glad>/smiled all the way home]. [{He} did not have the {gemn} anymore, but {he} had made someone happy./That felt better than any {gemn}.]
        | {hero} learned that it is good to [be honest/give back what you find].
        """,
    ),
)
