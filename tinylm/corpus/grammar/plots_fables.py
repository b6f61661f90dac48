"""Fables: what animals, and some children, learn about each other."""

# ruff: noqa: E501  (a row of a table is one line)

from __future__ import annotations

from tinylm.corpus.grammar.lexicon import table
from tinylm.corpus.grammar.plot import Plot

__all__ = ["PLOTS"]

_SMALL = table(
    "kind | look | big | bigdeed | task | success",
    """
    mouse | [little/gray/tiny] | donkey | carried the logs | The key to the barn fell through a crack in the floor | slipped through the crack and came back with the key
    ant | [little/black/tiny] | horse | pulled the cart | The wheel of the cart was stuck, and nobody could see why | crawled into the wheel and found a small stone
    ladybug | [little/red/tiny] | goat | moved the rocks | The seeds were lost in the deep grass | flew over the grass and found each seed
    hamster | [little/golden/tiny] | cow | pushed the big door | A bell fell into a narrow pipe | ran into the pipe and rolled the bell out
    frog | [little/green/small] | donkey | carried the water | The only bucket fell to the bottom of the well | jumped into the well and tied a rope to the bucket
    chick | [little/yellow/fluffy] | dog | chased the wolf away | The gate was locked, and the hook was inside | squeezed under the gate and opened the hook
    mole | [little/black/small] | bull | pulled the plow | The path was blocked by a huge rock | dug a tunnel under the rock
    bee | [little/golden/tiny] | donkey | carried the baskets | Nobody knew where the flowers grew | flew high up and showed everyone the way
    """,
)
_PARTIES = table(
    "excuse | surprise",
    """
    I have to clean my home | were balloons, a big cake and many lights
    I have to help my mother | was a long table with food and flowers
    I am too tired today | were paper stars, drums and a cake with candles
    I must find some wood | was a big fire with sweet nuts and songs
    I have no time now | were lanterns in the trees and a huge pie
    I have to go to the market | were ribbons on every branch and cups of juice
    I need to water my plants | were flowers everywhere and a honey cake
    """,
)
_STORES = table(
    "food | foodplace",
    """
    nuts | under the roots of the old tree
    seeds | in a dry hole
    apples | in the cellar
    berries | in small jars
    roots | under the floor
    acorns | in a hollow log
    carrots | in a box of sand
    """,
)
_ODD = table(
    "odd | laugh | value",
    """
    had very big feet | You walk like a boat | The snow was deep, but {his2} big feet did not sink. {friend} could bring help
    had a very long nose | Your nose is too long | A little one fell into a narrow hole, and only {friend}'s long nose could reach in and pull it out
    had a very loud voice | You are too loud | In the thick fog, everyone got lost. {friend} called and called, and they followed {his2} loud voice home
    was very slow | You are as slow as a stone | The path was icy, and everyone who ran fell down. Only {friend} came across safely and brought a rope
    had fur with bright spots | You look like a flower bed | In the snow, nobody could find the way back. But they could see {friend}'s bright spots from far away
    had very long ears | Your ears are silly | In the night, {friend} heard the storm before it came. Everyone could hide in time
    could not stop asking questions | You ask too much | One day, a stranger told them to leave the forest. {friend} asked and asked, until the stranger had no answer and went away
    always slept in the day | You are lazy | One night, a fire started when all were asleep. Only {friend} was awake and woke everyone up
    """,
)
_STORERS = table(
    "kind | look | kind2",
    """
    rabbit | [little/white/brown] | squirrel
    cricket | [little/green/merry] | ant
    raccoon | [little/gray/young] | chipmunk
    sparrow | [little/brown/young] | mouse
    pig | [little/pink/round] | hamster
    goat | [little/white/brown] | mole
    grasshopper | [little/green/merry] | bee
    fox | [little/red/young] | badger
    magpie | [little/black/young] | hedgehog
    monkey | [little/brown/young] | beaver
    """,
)

PLOTS = (
    Plot(
        "small helper",
        "animal",
        {"small": _SMALL},
        """
        - Once upon a time, there was {a look} {kind} named {hero}. {He} lived on a farm with many [other /]animals.
        | This is the story of {hero}, {a look} {kind}. {He} lived on a farm with many big animals.
        - {hero} wanted to help. But the {big} {bigdeed}, and {hero} was too small for that. "[You are too little/You can't help us]," said the {big}. "[Go and play/Go away]."
        - {hero} was <sad>. {He} sat down [under a leaf/in the straw/behind the barn]. "I am [too small/no use] for anything," {he} said.

        - <day>, there was a problem. {task}. The {big} tried, but it was too big. The [sheep/pig/goose] tried, but it was too big as well. "[What can we do/Who can help us]?" they asked.
        - "[I can try/Let me try]!" said a small voice. It was {hero}. The animals [looked down/were surprised]. "All right, [try it/go on]," said the {big}.
        - {hero} {success}. "[Here it is/It is done/I did it]!" {he} called.

        - All the animals cheered. "[We were wrong/I was wrong]," said the {big}. "[You are small, but you are a big help/Without you, we could not do it]."
        - {hero} was <glad> and proud. From that day on, nobody said that {he} was too small.
        | {hero} learned that everyone can help, big or small.
        """,
    ),
    Plot(
        "forgotten birthday",
        "any",
        {"parties": _PARTIES},
        """
        - It was {hero}'s birthday. {hero} was {a trait} little {kind}, and {he} was very excited. "[Everyone will sing for me/Today is my day]," {he} thought.
        - {He} went to {his} friend {friend}. "Hello, {friend}! Do you know what day it is?" {he} asked. "[Sorry/Oh], {excuse}," said {friend} and [ran away/closed the door].
        - {hero} went to {his} {elder}. "Do you know what day it is?" {he} asked. "[It is a very busy day/I must go now]," said {his} {elder} and left.

        - Poor {hero} was <sad>. "[Nobody remembers my birthday/Everyone forgot my birthday]," {he} said. {He} went for a walk [all alone/to the river] and [looked at the water/kicked a stone]. [A tear fell from {his} eye./The day felt long and gray.]
        - When it got dark, {he} went home. There was no light in the window. {hero} opened the door.
        - "Surprise!" shouted many voices. The lights went on. There {surprise}. {friend} and {his} {elder} and all the others were there.

        - "We did not forget," said {friend}. "[We had to keep it secret/It was so hard to keep it secret]." {hero} [laughed and cried at the same time/laughed out loud/did not know what to say].
        - They [sang and danced/ate and danced/played and sang] until late. It was the best birthday of {his} life.
        """,
    ),
    Plot(
        "winter store",
        "animal",
        {"pair": _STORERS, "stores": _STORES},
        """
        - <open>
        - In the fall, all the animals got ready for the winter. {friend} the {kind2} worked hard. Every day, {he2} collected {food} and hid them {foodplace}.
        - "[Come and play with me/Stop working and play]!" said {hero}. "[I can't/Not now]," said {friend}. "[Winter is coming/I have to get food for the winter]. You should get some {food} too." "[There is so much time/I will do it tomorrow]," said {hero} and [played all day/went to sleep in the sun].

        - Then winter came. Snow covered the ground. {hero} looked for {food}, but there were none. {He} was [cold and hungry/so hungry]. {His} tummy hurt.
        - {He} went to {friend}'s home and knocked. "[I am so hungry/I have nothing to eat]," {he} said [in a small voice/and looked down]. "I should have listened to you."
        - {friend} looked at {him}. {He2} thought of the long winter. Then {he2} opened the door. "Come in," {he2} said. "[There is enough for two/I will share my {food} with you]."

        - Now {hero} [cried with joy/thanked {him2} again and again]. All winter, they sat by the fire, ate {food} and [told stories/sang songs].
        - When spring came, {hero} started to [work/collect food] early. "This year, I will share with you," {he} told {friend}. {He} had learned to [think of tomorrow/do {his} work before {his} play].
        """,
    ),
    Plot(
        "different",
        "animal",
        {"odd": _ODD},
        """
        - Once there was {a look2} {kind2} named {friend} who {odd}. The other animals [laughed at/made fun of] {him2}. "{laugh}!" they said. {friend} was <sad> and often sat alone.
        - {hero} the {kind} did not laugh. "[I like you the way you are/I think you are fine]," {he} said. "[Do you want to be my friend?/Let's be friends.]" {friend} smiled. [Now {he2} had a friend./Now {he2} was not alone.]

        - Then something happened. {value}.
        - Now all the animals were safe. "[It was {friend}/That was {friend}]!" said {hero}. "[Now you see/You laughed at {him2}, but {he2} helped us all]."

        - The animals were [quiet/ashamed]. "We are sorry, {friend}," they said. "We [should not have laughed/were wrong]. [Will you forgive us/Can we be your friends too]?"
        - "[Yes/Of course]," said {friend}. {He2} was <glad>. After that, nobody laughed at {him2} again.
        - [The animals/They all] learned that [being different can be a good thing/everyone is special in some way].
        """,
    ),
)
